"""What a search may try, and what it expects of what it has not tried."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmp.compression.chain import Chain, Step, check_order
from bmp.compression.technique import Stage
from bmp.compression.techniques import TECHNIQUES
from bmp.config import CompressConfig
from bmp.errors import ConfigError

LEVELS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "channels": tuple({"remove": share, "spread": "sensitive"} for share in (0.25, 0.5, 0.75, 0.875)),
    "prune": tuple({"sparsity": share, "spread": "sensitive"} for share in (0.5, 0.7, 0.8, 0.9, 0.95)),
    "two_of_four": ({},),
    "cluster": tuple({"clusters": count} for count in (32, 16, 8, 4)),
    "qat": ({},),
    "float16": ({},),
    "dynamic": ({},),
    "int8": ({},),
    "int16x8": ({},),
}
"""The arguments that each technique is tried with. What a user adds to TECHNIQUES is tried with its defaults."""

_SAVES_BYTES_ALONE = frozenset({"prune", "two_of_four", "cluster"})
"""Techniques after which a CPU computes no less: of use for the goal `size`."""


def plan_search(config: CompressConfig) -> list[Chain] | None:
    """Returns every chain that a run may search among; None where its recipe gives it no time to.

    Raises:
        UnknownNameError: No technique has one of the names.
        ConfigError: None of the techniques can serve the goal, or there is no time for what is asked.
    """
    if config.time is not None:
        return list_candidates(config)
    for name in ("max_trials", "techniques", "student"):
        if getattr(config, name) is not None:
            raise ConfigError(
                f"compress.{name} is of a search, but the recipe has none. Give it a time, such as compress.time: 20m, "
                f"or leave {name} out.",
                expected="compress.time",
                received=f"compress.{name} alone",
            )
    return None


def list_candidates(config: CompressConfig) -> list[Chain]:
    """Returns every chain that the search of a recipe may try.

    Raises:
        UnknownNameError: No technique has one of the names.
        ConfigError: None of the techniques can serve the goal.
    """
    names = list(TECHNIQUES) if config.techniques is None else config.techniques
    starts = [Chain()]
    if config.student is not None:
        starts.append(Chain((Step("student", config.student.model_dump()),)))
    return list_chains(list_steps([name for name in names if name != "student"], config.goal), starts)


def list_steps(techniques: Iterable[str], goal: str) -> list[Step]:
    """Returns every single step that a search may take.

    Args:
        techniques: Names out of TECHNIQUES.
        goal: `size`, `latency` or `balanced`.

    Raises:
        UnknownNameError: No technique has one of the names.
        ConfigError: None of them can serve the goal.
    """
    names = list(dict.fromkeys(techniques))
    useful = [name for name in names if goal != "latency" or name not in _SAVES_BYTES_ALONE]
    if not useful:
        raise ConfigError(
            f"The goal is latency, but {', '.join(names)} save{'s' if len(names) == 1 else ''} bytes and no time on a "
            "CPU. Ask for --goal size, or allow channels, dynamic or int8.",
            expected="a technique that saves time",
            received=", ".join(names),
        )
    return [Step(name, args) for name in useful for args in LEVELS.get(name, ({},))]


def list_chains(steps: Sequence[Step], starts: Sequence[Chain] = (Chain(),)) -> list[Chain]:
    """Returns every chain that can be made of steps, at most one of a stage, the shortest first.

    Args:
        steps: To choose from.
        starts: What chains begin with, such as nothing, or a student.
    """
    built = [(step, step.build()) for step in steps]
    by_stage = {stage: [step for step, technique in built if technique.stage == stage] for stage in Stage}
    found = []
    for start in starts:
        begun = {step.build().stage for step in start.steps}
        options = [[None, *chosen] for stage, chosen in by_stage.items() if chosen and stage not in begun]
        for choice in itertools.product(*options):
            chain = Chain((*start.steps, *(step for step in choice if step is not None)))
            if _is_in_order(chain) and not _says_twice(chain):
                found.append(chain)
    return sorted(found, key=lambda chain: len(chain.steps))


def _says_twice(chain: Chain) -> bool:
    """Returns whether storage is named after a training that has settled it."""
    stages = {step.build().stage for step in chain.steps}
    return {Stage.TRAINED, Stage.STORED} <= stages


def _is_in_order(chain: Chain) -> bool:
    try:
        check_order(chain)
    except ConfigError:
        return False
    return True


@dataclass(frozen=True)
class Expectation:
    """What is expected of a chain when it gets all its epochs.

    Args:
        log_cost: Natural logarithm of its cost (bytes, milliseconds) over that of the original.
        drop: Of the metric.
        doubt: Standard deviation of the drop.
    """

    log_cost: float
    drop: float
    doubt: float


@dataclass(frozen=True)
class Observation:
    """What a trial has shown.

    Args:
        chain: That was tried.
        share: Of its epochs that it had.
        log_cost: As in `Expectation`.
        drop: Of the metric.
    """

    chain: Chain
    share: float
    log_cost: float
    drop: float


class Forecaster:
    """Expects effects to add up: those of steps on the logarithm of the cost, and on the drop.

    Ridge regression on which steps a chain has, and on how many epochs it lacks; a step that was never tried takes the
    mean of its technique. What a chain has shown on a short budget corrects what is expected of it.
    """

    def __init__(self, observed: Sequence[Observation]) -> None:
        self._kin = {str(step): step.name for seen in observed for step in seen.chain.steps}
        rows = np.array([self._features(seen.chain, seen.share) for seen in observed])  # (trials, features)
        targets = np.array([[seen.log_cost, seen.drop] for seen in observed])  # (trials, 2)
        penalty = np.eye(rows.shape[1]) * 1e-2
        fit = np.linalg.solve(rows.T @ rows + penalty, rows.T)  # (features, trials)
        self._effects = fit @ targets  # (features, 2)
        errors = targets - rows @ self._effects
        self._errors = {seen.chain: error for seen, error in zip(observed, errors, strict=True)}
        # What each trial would have been wrong by, had it not been seen: a step seen once fits by itself.
        unseen = errors[:, 1] / (1 - np.einsum("tf,ft->t", rows, fit))
        self._doubt = float(np.sqrt(np.mean(unseen**2)))

    def expect(self, chain: Chain) -> Expectation:
        """Returns what is expected of a chain that gets all its epochs."""
        known = self._errors.get(chain)
        log_cost, drop = np.array(self._features(chain, 1.0)) @ self._effects + (0.0 if known is None else known)
        return Expectation(float(log_cost), float(drop), self._doubt)

    def _features(self, chain: Chain, share: float) -> list[float]:
        """Returns how much of each known step a chain has, then how much training it lacks."""
        weights = dict.fromkeys(self._kin, 0.0)
        for step in chain.steps:
            known = str(step) in weights
            kin = [str(step)] if known else [label for label, name in self._kin.items() if name == step.name]
            for label in kin:
                weights[label] += 1.0 / len(kin)
        return [*weights.values(), (1.0 - share) * sum(step.build().trains for step in chain.steps)]
