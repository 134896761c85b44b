"""How often a candidate decides as the original does, and how well each knows what it does not know."""

from dataclasses import dataclass

import numpy as np

from bmp.compression.gate.proportions import wilson
from bmp.compression.gate.record import Paired, Record

_BINS = 15


@dataclass(frozen=True)
class Agreement:
    """How often both decide alike.

    Args:
        share: Of the examples, or of the tokens.
        low: The least plausible share.
        high: The greatest plausible share.
        meaning: What counts as alike.
    """

    share: float
    low: float
    high: float
    meaning: str


def measure_agreement(paired: Paired, max_drop: float, confidence: float = 0.95) -> Agreement:
    """Returns how often both decide alike.

    Args:
        paired: The answers of both.
        max_drop: Of numbers: how far apart they may be, as a share of the standard deviation of the targets.
        confidence: Of each limit, by itself.

    Reference:
        For tokens, which are not independent of each other within an example, the count is divided by the design
        effect; Kish: Survey Sampling, 1965, section 8.2.
    """
    same, meaning = _find_same(paired, max_drop)
    shares = same.reshape(len(same), -1).mean(axis=1)
    share = float(shares.mean())
    count = _count_independent(same, share, shares)
    low, high = wilson(share * count, count, confidence)
    return Agreement(share, low, high, meaning)


def _count_independent(same: np.ndarray, share: float, shares: np.ndarray) -> float:
    """Returns how many independent decisions would know the share as well as these do: `(N,)` or `(N, T)`."""
    if same.ndim == 1 or len(shares) == 1 or share in (0, 1):  # where all are alike nothing tells how they vary
        return float(len(shares))
    square_error = float(shares.var(ddof=1)) / len(shares)
    most = share * (1 - share) / square_error if square_error > 0 else float(same.size)
    return float(np.clip(most, len(shares), same.size))


def _find_same(paired: Paired, max_drop: float) -> tuple[np.ndarray, str]:
    before, after = paired.original.decisions, paired.candidate.decisions
    if paired.original.kind == "number":
        reach = max_drop * paired.original.targets.std(axis=0)
        near = (np.abs(after.astype(np.float64) - before) <= reach).all(axis=1)
        return near, f"within {max_drop:.2%} of the targets' standard deviation"
    if paired.original.kind == "multilabel":
        return (before == after).all(axis=1), "all labels the same"
    return before == after, "the same token" if paired.original.kind == "tokens" else "the same class"


def measure_calibration_error(record: Record) -> float | None:
    """Returns by how much confidence and accuracy differ on average, over bins of confidence; None for numbers.

    Reference:
        Guo and others: On calibration of modern neural networks, 2017, equation 3 (ECE).
    """
    if record.kind == "number":
        return None
    if record.kind == "multilabel":
        confidences, right = np.maximum(record.answers, 1 - record.answers), record.decisions == record.targets
    else:
        assert record.confidences is not None, f"{record.kind} has confidences"
        confidences, right = record.confidences, record.decisions == record.targets
    confidences, right = confidences.ravel().astype(np.float64), right.ravel()
    places = np.minimum((confidences * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.bincount(places, right - confidences, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(right))
