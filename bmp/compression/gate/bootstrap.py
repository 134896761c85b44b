"""The paired bootstrap: the interval of any drop that is a function of means."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from bmp.compression.gate.functionals import Functional, Rows
from bmp.compression.gate.interval import UNKNOWN, UNKNOWN_BELOW, Interval, normal_quantile, t_quantile
from bmp.compression.gate.record import Paired, Record

RESAMPLES = 2000
_CELLS = 4_000_000
"""Numbers held at a time."""
_SHOWN = 64
"""Examples in the stock of changes not yet seen."""

DropOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Metric of the original and of the candidate to the drop."""


@dataclass(frozen=True)
class _Pair:
    """Rows of both models, `(N, K)` each, and the functions over their means."""

    original: Rows
    candidate: Rows
    functional: Functional
    drop_of: DropOf

    def __len__(self) -> int:
        return int(self.original.shape[0])

    def drops(self, original: np.ndarray, candidate: np.ndarray) -> np.ndarray:
        """Returns the drops of means `(R, K)` each."""
        return self.drop_of(self.functional.finish(original), self.functional.finish(candidate))


def bootstrap_interval(
    paired: Paired,
    functional: Functional,
    drop_of: DropOf,
    confidence: float,
    seed: int,
    resamples: int = RESAMPLES,
) -> Interval:
    """Returns the bias-corrected and accelerated interval for a drop.

    A metric of decisions moves in jumps, and a change that the sample does not happen to show would count as
    impossible. So every resample also holds some examples that only one of the models has right, on average as many
    of each kind as the score interval of a share allows for where it has seen none.

    Reference:
        Efron: Better bootstrap confidence intervals, JASA 82, 1987, page 171.
    """
    if len(paired) < UNKNOWN_BELOW:
        return UNKNOWN
    pair = _Pair(functional.rows(paired.original), functional.rows(paired.candidate), functional, drop_of)
    random = np.random.default_rng(seed)
    unseen = None if paired.original.kind == "number" else _show_changes(paired, random)
    rate = normal_quantile(confidence) ** 2 / 2 / _SHOWN
    drops = np.concatenate(list(_resample(pair, unseen, rate, random, resamples)))
    return _read_ends(drops, _drop_of_all(pair), _acceleration(pair), _reach(confidence, len(pair)))


def _resample(
    pair: _Pair, unseen: Paired | None, rate: float, random: np.random.Generator, resamples: int
) -> Iterator[np.ndarray]:
    count = len(pair)
    extra = None if unseen is None else [pair.functional.rows(one) for one in (unseen.original, unseen.candidate)]
    step = max(1, _CELLS // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = random.integers(count, size=(size, count)) + count * np.arange(size)[:, None]
        weights = np.bincount(draws.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)
        sums = [weights @ rows for rows in (pair.original, pair.candidate)]  # (size, K)
        total = np.full((size, 1), float(count))
        if extra is not None:
            added = random.poisson(rate, (size, 2 * _SHOWN)).astype(np.float64)
            sums = [one + added @ rows for one, rows in zip(sums, extra, strict=True)]
            total = total + added.sum(axis=1, keepdims=True)
        yield pair.drops(sums[0] / total, sums[1] / total)


def _show_changes(paired: Paired, random: np.random.Generator) -> Paired:
    """Returns examples that only the original has right, and as many that only the candidate has right."""
    index = random.integers(len(paired), size=_SHOWN)
    right, wrong = (_answer(paired.original, index, is_right, random) for is_right in (True, False))
    return Paired(_join(right, wrong), _join(wrong, right))


def _answer(record: Record, index: np.ndarray, is_right: bool, random: np.random.Generator) -> Record:
    """Returns a record of some of the examples, decided as they should be or, in one decision each, as not."""
    targets = record.targets[index]
    answers = targets.astype(record.answers.dtype)
    if not is_right and record.kind == "multiclass":
        answers = (answers + random.integers(1, max(len(record.labels), 2), size=len(index))) % len(record.labels)
    elif not is_right:
        flat = answers.reshape(len(index), -1)
        place = np.arange(len(index)), random.integers(flat.shape[1], size=len(index))
        flat[place] = 1 - flat[place]
    return replace(record, targets=targets, answers=answers, truths=None, confidences=None, in_top=None)


def _join(first: Record, second: Record) -> Record:
    return replace(
        first,
        targets=np.concatenate([first.targets, second.targets]),
        answers=np.concatenate([first.answers, second.answers]),
    )


def _drop_of_all(pair: _Pair) -> float:
    means = (np.asarray(rows.mean(axis=0))[None] for rows in (pair.original, pair.candidate))
    return float(pair.drops(*means)[0])


def _acceleration(pair: _Pair) -> float:
    """Returns how fast the standard error changes with the drop, from leaving out one example at a time."""
    count, drops = len(pair), []
    totals = [np.asarray(rows.sum(axis=0)) for rows in (pair.original, pair.candidate)]
    step = max(1, _CELLS // pair.original.shape[1])
    for start in range(0, count, step):
        left_out = (_dense(rows[start : start + step]) for rows in (pair.original, pair.candidate))
        means = ((total - rows) / (count - 1) for total, rows in zip(totals, left_out, strict=True))
        drops.append(pair.drops(*means))
    influence = np.concatenate(drops)
    influence = influence.mean() - influence
    spread = float((influence**2).sum())
    return float((influence**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0


def _dense(rows: Rows) -> np.ndarray:
    return rows if isinstance(rows, np.ndarray) else rows.toarray()


def _reach(confidence: float, count: int) -> float:
    """Returns how many standard errors of the bootstrap an end lies away: resamples of few examples vary too little.

    Reference:
        Hesterberg: What teachers should know about the bootstrap, The American Statistician 69, 2015, page 371 (the
        expanded percentile interval).
    """
    return t_quantile(confidence, count) * math.sqrt(count / (count - 1))


def _read_ends(drops: np.ndarray, drop: float, acceleration: float, z: float) -> Interval:
    below = (np.mean(drops < drop) + np.mean(drops <= drop)) / 2
    bias = float(special.ndtri(np.clip(below, 1 / len(drops), 1 - 1 / len(drops))))
    places = [special.ndtr(bias + (bias + end) / max(1 - acceleration * (bias + end), 0.1)) for end in (-z, z)]
    low, high = np.quantile(drops, places)
    return Interval(min(float(low), drop), max(float(high), drop))
