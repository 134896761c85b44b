"""The area under the ROC curve and the interval for its drop, of one label or the mean over several."""

import numpy as np
from scipy import stats

from bmp.compression.gate.interval import UNKNOWN, UNKNOWN_BELOW, Interval, normal_quantile
from bmp.compression.gate.record import Paired, Record


def area(record: Record) -> float:
    """Returns the area under the ROC curve, the mean over labels; one half for a label with one kind of example."""
    return _areas(record)[0]


def area_drop_interval(paired: Paired, confidence: float) -> Interval:
    """Returns the interval for the drop of the area, from how often each example is outranked.

    Reference:
        DeLong, DeLong and Clarke-Pearson: Comparing the areas under two or more correlated receiver operating
        characteristic curves, Biometrics 44, 1988, page 837.
    """
    rarer = _rarer(paired.original)
    if rarer < UNKNOWN_BELOW:
        return UNKNOWN
    (before, parts_before), (after, parts_after) = _areas(paired.original), _areas(paired.candidate)
    z, drop = normal_quantile(confidence), before - after
    if before == after == 1:  # no error seen, so none to estimate the noise from: as many as a share may hide
        half = z**2 / (rarer + z**2)
    else:
        half = z * float(np.sqrt(((parts_before - parts_after) ** 2).sum()))
    return Interval(drop - half, drop + half)


def _rarer(record: Record) -> int:
    """Returns how many examples the rarer kind of any label has; labels with one kind only count not."""
    true = record.targets.reshape(len(record), -1) > 0.5
    counts = np.minimum(true.sum(axis=0), (~true).sum(axis=0))
    return int(counts[counts > 0].min(initial=len(record)) if counts.any() else 0)


def _areas(record: Record) -> tuple[float, np.ndarray]:
    """Returns the mean area over labels, and what each example adds to its error, `(N,)`: their squares sum up to
    the variance.
    """
    scores = record.answers.reshape(len(record), -1)
    true = record.targets.reshape(len(record), -1) > 0.5
    each = [_area_of(scores[:, label], true[:, label]) for label in range(true.shape[1])]
    return float(np.mean([one for one, _ in each])), np.mean([parts for _, parts in each], axis=0)


def _area_of(scores: np.ndarray, true: np.ndarray) -> tuple[float, np.ndarray]:
    parts, ranks = np.zeros(len(scores)), stats.rankdata(scores)
    sizes = {kind: int(np.count_nonzero(true == kind)) for kind in (True, False)}
    if not all(sizes.values()):
        return 0.5, parts
    value = 0.5
    for kind in (True, False):
        members = true == kind
        # The share of the other kind that each member outranks, ties counting half.
        outranked = (ranks[members] - stats.rankdata(scores[members])) / sizes[not kind]
        value = float(outranked.mean()) if kind else value
        sign = 1 if kind else -1
        scale = 1 / np.sqrt(sizes[kind] * max(sizes[kind] - 1, 1))
        parts[members] = sign * (outranked - outranked.mean()) * scale
    return value, parts
