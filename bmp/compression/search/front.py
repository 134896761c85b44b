"""The front: the trials that no other is better than in every respect, and the best of them for each goal."""

import math
from collections.abc import Sequence
from typing import get_args

from bmp.compression.search.outcome import Goal, cost_of
from bmp.compression.search.trial import Trial


def find_front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Returns the trials than which no other is as good in drop, gzipped bytes and time, and better in one of them.

    Trials without a file are left out; one that was not timed counts as slower than all that were. Of equals the first
    stays. In the order given.
    """
    measured = [trial for trial in trials if trial.failure is None and math.isfinite(trial.drop)]
    figures = [_figures(trial) for trial in measured]
    return tuple(
        trial
        for place, (trial, own) in enumerate(zip(measured, figures, strict=True))
        if not any(_beats(other, own, first=index < place) for index, other in enumerate(figures) if index != place)
    )


def choose_per_goal(trials: Sequence[Trial], max_drop: float) -> dict[Goal, Trial]:
    """Returns the best trial for each goal, among those that keep the promise on the validation split.

    Args:
        trials: The original first; it keeps every promise.
        max_drop: The promise.
    """
    original = trials[0]
    kept = [original, *(trial for trial in trials[1:] if trial.keeps(max_drop))]
    goals: tuple[Goal, ...] = get_args(Goal)
    chosen: dict[Goal, Trial] = {}
    for goal in goals:
        cost = cost_of(goal, original)
        chosen[goal] = min(kept, key=lambda trial: (cost(trial), trial.drop))
    return chosen


def _figures(trial: Trial) -> tuple[float, float, float]:
    return trial.drop, trial.gzip_bytes, math.inf if trial.latency is None else trial.latency[1].p50_ms


def _beats(other: tuple[float, ...], own: tuple[float, ...], *, first: bool) -> bool:
    if not all(theirs <= ours for theirs, ours in zip(other, own, strict=True)):
        return False
    return first or other != own
