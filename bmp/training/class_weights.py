"""What an example counts in the loss, by its class."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bmp.errors import ConfigError, UnknownNameError, suggest
from bmp.objectives import Target


def weigh_classes(
    wanted: Literal["balanced"] | Mapping[str, float] | None, target: Target, counts: Sequence[int] | np.ndarray
) -> np.ndarray | None:
    """Returns the weight of each class, float32 `(C,)`, or None where all examples count alike.

    Args:
        wanted: `train.class_weights`: weights by the names of classes, 1 where none is given; `balanced` gives each
            class `n / (C * count)`, as scikit-learn does, so that all classes weigh alike and the mean weight of an
            example is 1. A class without an example does not count in C, and weighs 1.
        target: What is predicted.
        counts: Training examples of each class, `(C,)`.

    Raises:
        ConfigError: The target has no classes, a class is not among them, or no class counts.
    """
    if wanted is None:
        return None
    if target.kind != "class":
        raise ConfigError(
            f"train.class_weights weighs an example by its class, but the target is of kind {target.kind}, which "
            "gives it no single class. Leave it at null.",
            expected="a target of kind class",
            received=target.kind,
        )
    return _balance(np.asarray(counts)) if wanted == "balanced" else _look_up(wanted, target.labels)


def _balance(counts: np.ndarray) -> np.ndarray:
    present = counts > 0
    share = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return np.where(present, share, 1.0).astype(np.float32)


def _look_up(weights: Mapping[str, float], labels: tuple[str, ...]) -> np.ndarray:
    for name in weights:
        if name not in labels:
            known = ", ".join(labels[:20]) + (f" and {len(labels) - 20} more" if len(labels) > 20 else "")
            raise UnknownNameError(
                f"train.class_weights names the class '{name}', which the data has not. Known: {known}."
                f"{suggest(name, labels)}",
                expected=f"one of {known}",
                received=name,
            )
    found = np.array([weights.get(label, 1.0) for label in labels], np.float32)
    if not found.any():
        raise ConfigError(
            "train.class_weights gives every class the weight 0, so that nothing is learned; give one of them more.",
            expected="a weight over 0",
            received="0 for every class",
        )
    return found
