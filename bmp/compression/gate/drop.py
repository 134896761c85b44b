"""How much worse a candidate is than the original, and between which limits that is plausible."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bmp.compression.gate import roc
from bmp.compression.gate.bootstrap import RESAMPLES, DropOf, bootstrap_interval
from bmp.compression.gate.functionals import FUNCTIONALS, absolute_errors, is_hit, log_losses
from bmp.compression.gate.interval import UNKNOWN_BELOW, Interval
from bmp.compression.gate.means import mean_interval, ratio_interval
from bmp.compression.gate.proportions import count_needed, tango
from bmp.compression.gate.record import Paired, Record
from bmp.objectives import METRICS, pick_metric

TOLERANCE = 1e-9
"""Counts of examples, divided: without it 0.99 - 0.98 would be over 0.01."""


@dataclass(frozen=True)
class Drop:
    """How much worse a candidate is than the original.

    Args:
        original: The metric of the original.
        candidate: The metric of the candidate.
        drop: Over 0 where the candidate is worse; see `bmp.objectives.Metric` for what it is a share of.
        interval: Of plausible drops.
        method: How the interval was found.
    """

    original: float
    candidate: float
    drop: float
    interval: Interval
    method: str


def measure_metric(record: Record, metric: str) -> float:
    """Returns a metric of a record; as the meter of its objective measures it."""
    if metric == "auc":
        return roc.area(record)
    return FUNCTIONALS[record.kind, metric].value(record)


def point_drop(paired: Paired, metric: str = "auto") -> float:
    """Returns how much worse the candidate is, as seen, for the choice among candidates.

    Infinite where the candidate's outputs are not finite.

    Raises:
        UnknownNameError: The objective does not measure the metric.
    """
    metric = pick_metric(metric, paired.original.objective, paired.original.labels)
    if paired.candidate.broken:
        return math.inf
    original, candidate = (np.array(measure_metric(record, metric)) for record in (paired.original, paired.candidate))
    return float(_drop_of(metric)(original, candidate))


def estimate_drop(
    paired: Paired, metric: str = "auto", confidence: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Drop:
    """Returns how much worse the candidate is, with the limits of what is plausible.

    Args:
        paired: The answers of both, all of them finite.
        metric: Of the objective; `auto` is its score.
        confidence: Of each limit, by itself.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        UnknownNameError: The objective does not measure the metric.
    """
    metric = pick_metric(metric, paired.original.objective, paired.original.labels)
    original, candidate = (measure_metric(record, metric) for record in (paired.original, paired.candidate))
    drop = point_drop(paired, metric)
    if METRICS[metric].is_relative and original == 0:
        return Drop(original, candidate, drop, Interval(drop, drop), "the original's value is 0")
    special = _INTERVALS.get((paired.original.kind, metric))
    if special is not None:
        method, find = special
        return Drop(original, candidate, drop, find(paired, confidence), method)
    functional = FUNCTIONALS[paired.original.kind, metric]
    interval = bootstrap_interval(paired, functional, _drop_of(metric), confidence, seed, resamples)
    return Drop(original, candidate, drop, interval, f"paired bootstrap, {resamples:,} resamples")


def estimate_needed(paired: Paired, metric: str, drop: Drop, max_drop: float, confidence: float) -> int | None:
    """Returns of how many examples the greatest plausible drop would be within a limit.

    The drop and how examples differ are taken to stay as they were seen. None where no number is enough.
    """
    kind = paired.original.kind
    if (kind, metric) in _SHARES:
        lost, gained = _count_changes(paired, _SHARES[kind, metric])
        return count_needed(lost, gained, len(paired), max_drop, confidence)
    if drop.drop >= max_drop:
        return None
    if not math.isfinite(drop.interval.high):
        return max(UNKNOWN_BELOW, len(paired) + 1)
    reach = drop.interval.high - drop.drop  # it shrinks with the root of the count
    return math.ceil(len(paired) * (reach / (max_drop - drop.drop)) ** 2)


def _drop_of(metric: str) -> DropOf:
    known = METRICS[metric]
    sign = 1 if known.greater_is_better else -1

    def difference(original: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        return sign * (original - candidate)

    def share(original: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(candidate == original, 0.0, difference(original, candidate) / original)

    return share if known.is_relative else difference


def count_changes(original: np.ndarray, candidate: np.ndarray) -> tuple[int, int]:
    """Returns how many examples only the original has right, and how many only the candidate."""
    return int(np.count_nonzero(original & ~candidate)), int(np.count_nonzero(~original & candidate))


def _count_changes(paired: Paired, is_right: Callable[[Record], np.ndarray]) -> tuple[int, int]:
    return count_changes(is_right(paired.original), is_right(paired.candidate))


def _share_interval(is_right: Callable[[Record], np.ndarray]) -> Callable[[Paired, float], Interval]:
    return lambda paired, confidence: tango(*_count_changes(paired, is_right), len(paired), confidence)


def _ratio_interval(values: Callable[[Record], np.ndarray]) -> Callable[[Paired, float], Interval]:
    return lambda paired, confidence: ratio_interval(values(paired.original), values(paired.candidate), confidence)


def _token_interval(paired: Paired, confidence: float) -> Interval:
    """Returns the wider of the intervals over whole examples and over tokens: the one knows that tokens of an example
    go together, the other that a change may be possible where none was seen.
    """
    over_examples = mean_interval(is_hit(paired.original) - is_hit(paired.candidate), confidence)
    right = [record.decisions == record.targets for record in (paired.original, paired.candidate)]
    over_tokens = tango(*count_changes(*right), right[0].size, confidence)
    return Interval(min(over_examples.low, over_tokens.low), max(over_examples.high, over_tokens.high))


def _perplexity_interval(paired: Paired, confidence: float) -> Interval:
    low, high = mean_interval(log_losses(paired.candidate) - log_losses(paired.original), confidence)
    return Interval(math.expm1(low), math.expm1(high))


def _probability_interval(paired: Paired, confidence: float) -> Interval:
    """Returns the interval for `exp(-a) - exp(-b)` of two mean losses, by their first derivatives."""
    losses = [log_losses(record) for record in (paired.original, paired.candidate)]
    before, after = (one.mean() for one in losses)
    slopes = np.exp(-after) * (losses[1] - after) - np.exp(-before) * (losses[0] - before)
    return mean_interval(np.exp(-before) - np.exp(-after) + slopes, confidence)


def _in_top(record: Record) -> np.ndarray:
    return np.asarray(record.in_top)


_SHARES: dict[tuple[str, str], Callable[[Record], np.ndarray]] = {
    ("multiclass", "accuracy"): is_hit,
    ("multiclass", "top_5"): _in_top,
    ("binary", "accuracy"): is_hit,
    ("multilabel", "exact_match"): is_hit,
}
"""Metrics that are a share of examples, with what they are the share of."""

_CLUSTERED = "paired t over whole examples"
_INTERVALS: dict[tuple[str, str], tuple[str, Callable[[Paired, float], Interval]]] = {
    **{key: ("Tango's score interval", _share_interval(is_right)) for key, is_right in _SHARES.items()},
    ("multiclass", "log_loss"): ("Fieller's interval for a ratio of means", _ratio_interval(log_losses)),
    ("binary", "log_loss"): ("Fieller's interval for a ratio of means", _ratio_interval(log_losses)),
    ("number", "mae"): ("Fieller's interval for a ratio of means", _ratio_interval(absolute_errors)),
    ("tokens", "loss"): ("Fieller's interval for a ratio of means over whole examples", _ratio_interval(log_losses)),
    ("tokens", "accuracy"): (_CLUSTERED, _token_interval),
    ("tokens", "perplexity"): (f"{_CLUSTERED}, exponentiated", _perplexity_interval),
    ("tokens", "probability"): (f"{_CLUSTERED}, by the delta method", _probability_interval),
    ("binary", "auc"): ("DeLong's interval", roc.area_drop_interval),
    ("multilabel", "auc"): ("DeLong's interval, the mean over labels", roc.area_drop_interval),
}
"""Metrics with an interval of their own; for the others the bootstrap is there."""
