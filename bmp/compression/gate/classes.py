"""Class by class: what an average hides."""

from dataclasses import dataclass

import numpy as np

from bmp.compression.gate.drop import count_changes
from bmp.compression.gate.proportions import tango
from bmp.compression.gate.record import Paired, Record

CLASS_FLOOR = 0.05
"""Five points. Half a point on average may be all of one class in ten losing five; a smaller loss of one class cannot
be told from chance in the hundreds of examples that a class mostly has."""


@dataclass(frozen=True)
class ClassDrop:
    """What became of one class.

    Args:
        label: Its name.
        examples: Of it.
        original: Share of them that the original finds; None where there is none.
        candidate: The same of the candidate.
        lost: Examples that only the original finds.
        gained: Examples that only the candidate finds.
        low: The least plausible drop of the share, all classes looked at together.
        fell: Whether even that is beyond the floor.
    """

    label: str
    examples: int
    original: float | None
    candidate: float | None
    lost: int
    gained: int
    low: float
    fell: bool


def compare_classes(paired: Paired, floor: float = CLASS_FLOOR, confidence: float = 0.95) -> tuple[ClassDrop, ...]:
    """Returns what became of each class or label; nothing for numbers and tokens.

    Args:
        paired: The answers of both.
        floor: How much of its recall a class may lose.
        confidence: That no class is said to have fallen by chance: each has its part of the doubt (Bonferroni).
    """
    if paired.original.kind in ("number", "tokens"):
        return ()
    members, before, after = _members(paired.original), _found(paired.original), _found(paired.candidate)
    present = max(int(members.any(axis=0).sum()), 1)
    each = 1 - (1 - confidence) / present
    return tuple(
        _compare_class(label, before[members[:, place], place], after[members[:, place], place], floor, each)
        for place, label in enumerate(paired.original.labels)
    )


def _members(record: Record) -> np.ndarray:
    """Returns which examples belong to each class or label, bool `(N, C)`."""
    if record.kind == "multilabel":
        return record.targets > 0.5
    return record.targets[:, None] == np.arange(len(record.labels))


def _found(record: Record) -> np.ndarray:
    """Returns for which classes or labels each example was taken, bool `(N, C)`."""
    if record.kind == "multilabel":
        return record.answers > 0.5
    return record.decisions[:, None] == np.arange(len(record.labels))


def _compare_class(label: str, before: np.ndarray, after: np.ndarray, floor: float, confidence: float) -> ClassDrop:
    if not len(before):
        return ClassDrop(label, 0, None, None, 0, 0, -1.0, False)
    lost, gained = count_changes(before, after)
    low = tango(lost, gained, len(before), confidence).low
    return ClassDrop(label, len(before), float(before.mean()), float(after.mean()), lost, gained, low, low > floor)
