"""What a model answered on a split, and the answers of two models to the same examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bmp.errors import ConfigError
from bmp.objectives import OBJECTIVES

if TYPE_CHECKING:
    from bmp.artifact.formats import Runner
    from bmp.data import Split

Kind = Literal["multiclass", "binary", "multilabel", "number", "tokens"]

_BATCH_SIZE = 256
_TOP = 5


@dataclass(frozen=True)
class Record:
    """What a model answered, as much of it as metrics need.

    Args:
        objective: An entry of OBJECTIVES.
        kind: How its answers are read.
        labels: Of the target.
        targets: Of all N examples, as `Target.kind` describes them.
        answers: The most probable class, `(N,)`, of tokens `(N, T)`; of `binary` the probability of the second class,
            `(N,)`; of `multilabel` a probability for each, `(N, L)`; of `number` the values, `(N, W)`.
        truths: The probability given to the true class, `(N,)` or `(N, T)`; of classes and tokens only.
        confidences: The probability given to the most probable class, like `truths`.
        in_top: Whether the true class is among the five most probable, `(N,)`; of `multiclass` only.
        broken: Examples with an output that is not finite.
    """

    objective: str
    kind: Kind
    labels: tuple[str, ...]
    targets: np.ndarray
    answers: np.ndarray
    truths: np.ndarray | None
    confidences: np.ndarray | None
    in_top: np.ndarray | None
    broken: int

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def decisions(self) -> np.ndarray:
        """A class `(N,)`, tokens `(N, T)`, or 0 or 1 for each label, `(N, L)`; numbers as they are."""
        if self.kind in ("binary", "multilabel"):
            return (self.answers > 0.5).astype(np.int64)
        return self.answers


class Recorder:
    """Takes a record batch by batch.

    Args:
        objective: An entry of OBJECTIVES.
        labels: Of the target.
    """

    def __init__(self, objective: str, labels: tuple[str, ...]) -> None:
        self.objective, self.labels = objective, labels
        self.kind = _kind_of(objective)
        self._batches: list[dict[str, np.ndarray]] = []

    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes a batch: the model's outputs, and targets as `Target.kind` describes them."""
        targets = np.asarray(targets)
        if not len(targets):
            return
        finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        self._batches.append({"targets": targets, "finite": finite, **_READERS[self.kind](outputs, targets)})

    def finish(self) -> Record:
        """Returns the record.

        Raises:
            ConfigError: There was no example.
        """
        if not self._batches:
            raise ConfigError("There is no example to judge on: the split is empty. Give data.split a share for it.")
        whole = {name: np.concatenate([batch[name] for batch in self._batches]) for name in self._batches[0]}
        return Record(
            objective=self.objective,
            kind=self.kind,
            labels=self.labels,
            targets=whole["targets"],
            answers=whole["answers"],
            truths=whole.get("truths"),
            confidences=whole.get("confidences"),
            in_top=whole.get("in_top"),
            broken=int(np.count_nonzero(~whole["finite"])),
        )


def record(runner: "Runner", split: "Split") -> Record:
    """Runs a model over a split and returns what it answered.

    Raises:
        ConfigError: The split is empty.
    """
    recorder = Recorder(runner.signature.objective, split.source.target.labels)
    for batch in split.batches(_BATCH_SIZE):
        (outputs,) = runner.run(batch.inputs).values()
        recorder.update(outputs, batch.targets)
    return recorder.finish()


@dataclass(frozen=True)
class Paired:
    """What the original and a candidate answered to the same examples.

    Raises:
        ConfigError: The records are not of the same examples in the same order.
    """

    original: Record
    candidate: Record

    def __post_init__(self) -> None:
        original, candidate = self.original, self.candidate
        if original.objective != candidate.objective or not np.array_equal(original.targets, candidate.targets):
            raise ConfigError(
                f"The records are not of the same examples: {len(original)} with the objective {original.objective}, "
                f"and {len(candidate)} with {candidate.objective}. Run both models over the same split.",
                expected=f"{len(original)} examples, {original.objective}",
                received=f"{len(candidate)} examples, {candidate.objective}",
            )

    def __len__(self) -> int:
        return len(self.original)


def _kind_of(objective: str) -> Kind:
    entry = OBJECTIVES[objective]
    if entry.target == "class":
        return "binary" if entry.activation == "sigmoid" else "multiclass"
    kinds: dict[str, Kind] = {"multilabel": "multilabel", "number": "number", "tokens": "tokens"}
    return kinds[entry.target]


def _read_classes(outputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Reads probabilities `(B, C)` or `(B, T, C)`."""
    truths = np.take_along_axis(outputs, targets[..., None].astype(np.int64), axis=-1)
    return {"answers": outputs.argmax(axis=-1), "truths": truths[..., 0], "confidences": outputs.max(axis=-1)}


def _read_multiclass(outputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    read = _read_classes(outputs, targets)
    return read | {"in_top": (outputs > read["truths"][:, None]).sum(axis=-1) < _TOP}


def _read_binary(outputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    chances = outputs[:, 0].astype(np.float64)
    truths = np.where(targets == 1, chances, 1 - chances)
    return {"answers": chances, "truths": truths, "confidences": np.maximum(chances, 1 - chances)}


def _read_values(outputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    return {"answers": outputs.copy()}


_READERS: dict[Kind, Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]] = {
    "multiclass": _read_multiclass,
    "binary": _read_binary,
    "multilabel": _read_values,
    "number": _read_values,
    "tokens": _read_classes,
}
