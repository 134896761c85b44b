"""Measuring sensitivity: one target, one technique, one level at a time, on a fixed part of the validation split."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.compression.channels.groups import ChannelMap, check_functional, find_groups
from bmp.compression.channels.rules import reads_all
from bmp.compression.channels.saliency import keep_best_units, weigh_by_magnitude
from bmp.compression.channels.shrink import check_removal, count_kernel, count_removed, shrink, silence
from bmp.compression.legalise.graph import rebuild
from bmp.compression.sensitivity.edits import round_to_int8, saving_of, share_values, zero_smallest
from bmp.compression.sensitivity.sensitivity import Joint, Row, Sensitivity
from bmp.data import Dataset
from bmp.errors import ConfigError, DataError, ExportError, UnknownNameError, suggest
from bmp.objectives import OBJECTIVES

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.compression.sensitivity.probe import Changes, Outcome

LEVELS: Mapping[str, tuple[float, ...]] = {
    "prune": (0.5, 0.7, 0.8, 0.9, 0.95, 0.98),
    "cluster": (32, 16, 8, 4),
    "int8": (8,),
    "channels": (0.25, 0.5, 0.75, 0.9),
}
"""What is tried of each technique; see `Row.level`."""

_CHECKED = 32
"""Examples on which silent channels are held against channels really taken out."""


def measure_sensitivity(
    model: "keras.Model",
    data: Dataset,
    levels: Mapping[str, Sequence[float]] = LEVELS,
    *,
    examples: int = 512,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda *_: None,
) -> Sensitivity:
    """Measures what each target costs the score when it alone is compressed, without any training.

    Kernels are pruned, clustered and rounded where they are; of channels nothing in the whole coupled group listens to
    the removed ones any more, which is what taking them out does. At the end all targets of a technique are compressed
    at once, at its mildest level: the difference to the sum of the rows says how far they can be added up.

    Args:
        model: Functional or sequential; not touched.
        data: What it was trained for.
        levels: By technique; see `Row.level`.
        examples: Of the validation split, at most.
        seed: Of the choice of examples.
        report: Is told how many measurements are done, and how many there are.

    Raises:
        UnknownNameError: Sensitivity to a technique cannot be measured.
        ConfigError: A level is out of range.
        DataError: The validation split is empty.
        ExportError: The model is subclassed, or has no target.
    """
    _check_levels(levels)
    if not len(data.validation):
        raise DataError(
            "The validation split is empty: sensitivity is measured on it. Give data.split.validation a share.",
            expected="at least one example",
            received="none",
        )
    index = np.random.default_rng(seed).permutation(len(data.validation))[:examples]
    bench = _Bench(model, data, np.sort(index), levels)
    trials = list(bench.list_trials())
    if not trials:
        raise ExportError(f"The model '{model.name}' has no dense or convolutional layer to measure.")
    base, rows = bench.probe.measure({}), []
    for done, trial in enumerate(trials):
        report(done, len(trials))
        rows.append(bench.measure(trial))
    found = Sensitivity(
        OBJECTIVES[data.signature.objective].score, base.score, base.loss, len(index), seed, tuple(rows)
    )
    joints = tuple(bench.measure_jointly(found, technique) for technique in dict.fromkeys(t.technique for t in trials))
    report(len(trials), len(trials))
    return Sensitivity(**{**vars(found), "joints": joints})


@dataclass(frozen=True)
class _Trial:
    technique: str
    target: str
    layers: tuple[str, ...]
    level: float


class _Bench:
    """A model, and what can be done to it."""

    def __init__(
        self, model: "keras.Model", data: Dataset, index: np.ndarray, levels: Mapping[str, Sequence[float]]
    ) -> None:
        from bmp.compression.sensitivity.probe import Probe

        check_functional(model)
        self._model = rebuild(model)
        self._channels: ChannelMap = find_groups(self._model)
        self._readers = {layer.name: layer for layer in self._model.layers if reads_all(layer)}
        self._levels = levels
        self._check_on = data.validation.take(index[:_CHECKED])
        self.probe = Probe(self._model, data, index, list(self._readers) if "int8" in levels else [])

    def list_trials(self) -> Iterator[_Trial]:
        """Yields all there is to measure."""
        kernels = [(name, (name,)) for name in self._readers]
        groups = [(group.name, group.layers) for group in self._channels.free]
        for technique, levels in self._levels.items():
            targets = groups if technique == "channels" else kernels
            for (target, layers), level in itertools.product(targets, levels):
                yield _Trial(technique, target, layers, level)

    def measure(self, trial: _Trial) -> Row:
        """Returns what a trial costs."""
        outcome = self._measure(trial.technique, {trial.target: trial.level})
        return Row(
            trial.technique,
            trial.target,
            trial.layers,
            trial.level,
            outcome.score,
            outcome.loss,
            **(self._count_channels(trial) if trial.technique == "channels" else self._count_kernel(trial)),
        )

    def measure_jointly(self, found: Sensitivity, technique: str) -> Joint:
        """Returns what all targets of a technique cost together, at its mildest level.

        Raises:
            ExportError: Channels that nothing listens to are not the same as channels taken out.
        """
        level = min(self._levels[technique], key=lambda level: saving_of(technique, level))
        rows = [row for row in found.rows if (row.technique, row.level) == (technique, level)]
        levels = {row.target: level for row in rows}
        outcome = self._measure(technique, levels)
        if technique == "channels":
            kept = self._keep(levels)
            small = shrink(self._model, self._channels, kept)
            check_removal(self._model, small, self._channels, kept, self._check_on.load().inputs)
        return Joint(
            technique,
            levels,
            predicted_drop=sum(map(found.drop, rows)),
            drop=found.score - outcome.score,
            predicted_rise=sum(row.loss - found.loss for row in rows),
            rise=outcome.loss - found.loss,
        )

    def _measure(self, technique: str, levels: Mapping[str, float]) -> "Outcome":
        if technique == "channels":
            return self.probe.measure(self._silence(self._keep(levels)))
        changes = {name: self._edit(technique, name, level) for name, level in levels.items()}
        return self.probe.measure(changes, list(levels) if technique == "int8" else ())

    def _edit(self, technique: str, name: str, level: float) -> list[np.ndarray]:
        kernel, *others = self._readers[name].get_weights()
        if technique == "prune":
            kernel = zero_smallest(kernel, level)
        elif technique == "cluster":
            kernel = share_values(kernel, int(level))
        else:
            kernel = round_to_int8(kernel)
        return [kernel, *others]

    def _silence(self, kept: np.ndarray) -> "Changes":
        entering = self._channels.entering
        return {
            name: silence(layer, self._channels, kept)
            for name, layer in self._readers.items()
            if not kept[entering[name]].all()
        }

    def _keep(self, levels: Mapping[str, float]) -> np.ndarray:
        counts = {
            group.name: max(1, round(len(group.units) * (1 - levels[group.name])))
            for group in self._channels.free
            if group.name in levels
        }
        return keep_best_units(self._channels, self._scores, counts)

    @cached_property
    def _scores(self) -> np.ndarray:
        return weigh_by_magnitude(self._model, self._channels)

    def _count_kernel(self, trial: _Trial) -> dict[str, Any]:
        """Returns what there is to save at a kernel, and what is saved."""
        weights, macs = count_kernel(self._readers[trial.target])
        return {"weights": weights, "saving": saving_of(trial.technique, trial.level), "macs": macs}

    def _count_channels(self, trial: _Trial) -> dict[str, Any]:
        """Returns what there is to save at a group of channels, and what is saved."""
        (group,) = (group for group in self._channels.free if group.name == trial.target)
        removed = group.units[~self._keep({trial.target: trial.level})[group.units]]
        total, gone = (count_removed(self._model, self._channels, units) for units in (group.units, removed))
        return {
            "weights": total.weights,
            "saving": gone.weights / total.weights,
            "macs": total.macs,
            "macs_saving": gone.macs / total.macs,
        }


def _check_levels(levels: Mapping[str, Sequence[float]]) -> None:
    for technique, values in levels.items():
        if technique not in LEVELS:
            raise UnknownNameError(
                f"Sensitivity to '{technique}' cannot be measured, only to {', '.join(LEVELS)}."
                f"{suggest(technique, LEVELS)}",
                expected=", ".join(LEVELS),
                received=technique,
            )
        for value in values:
            _check_level(technique, value)


def _check_level(technique: str, value: float) -> None:
    expected, is_right = {
        "cluster": ("a whole number from 2", value >= 2 and value == int(value)),
        "int8": ("8 bits", value == 8),
    }.get(technique, ("a share between 0 and 1", 0 < value < 1))
    if not is_right:
        raise ConfigError(
            f"Sensitivity to '{technique}' at {value:g} cannot be measured; give {expected}.",
            expected=expected,
            received=f"{value:g}",
        )
