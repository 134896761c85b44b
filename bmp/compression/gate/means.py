"""Intervals for differences and ratios of means over the same examples."""

import numpy as np

from bmp.compression.gate.interval import UNKNOWN, UNKNOWN_BELOW, Interval, t_quantile


def mean_interval(differences: np.ndarray, confidence: float) -> Interval:
    """Returns the paired t interval for a mean difference.

    Args:
        differences: Of each example, `(N,)`.
        confidence: Of each end.
    """
    count = len(differences)
    if count < UNKNOWN_BELOW:
        return UNKNOWN
    half = t_quantile(confidence, count) * float(differences.std(ddof=1)) / np.sqrt(count)
    return Interval(float(differences.mean() - half), float(differences.mean() + half))


def ratio_interval(original: np.ndarray, candidate: np.ndarray, confidence: float) -> Interval:
    """Returns the interval for the ratio of two means, less one.

    It holds every ratio r for which a paired t test does not tell the mean of `candidate - r * original` from 0.

    Args:
        original: Of each example, `(N,)`, not negative.
        candidate: The same.
        confidence: Of each end.

    Reference:
        Fieller: Some problems in interval estimation, JRSS B 16, 1954, page 175.
    """
    count = len(original)
    if count < UNKNOWN_BELOW:
        return UNKNOWN
    scale = t_quantile(confidence, count) ** 2 / count
    covariance = np.cov(original, candidate) * scale  # (2, 2)
    square = original.mean() ** 2 - covariance[0, 0]
    if square <= 0:  # the original's mean is itself not told from 0
        return UNKNOWN
    middle = original.mean() * candidate.mean() - covariance[0, 1]
    constant = candidate.mean() ** 2 - covariance[1, 1]
    half = np.sqrt(max(middle**2 - square * constant, 0.0))
    return Interval(float((middle - half) / square - 1), float((middle + half) / square - 1))
