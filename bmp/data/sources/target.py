"""What is to be predicted, found out from the values of a column or an array."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bmp.data.source import Target
from bmp.errors import ConfigError, DataError

TargetKind = Literal["auto", "class", "number"]

_MOST_CLASSES = 100


@dataclass(frozen=True)
class Targets:
    """Encoded targets.

    Args:
        values: As `target` says, `(N, …)`; any valid value where `bad` has the example.
        target: What they are.
        bad: What is wrong, by number of the example.
    """

    values: np.ndarray
    target: Target
    bad: dict[int, str]


def encode_targets(
    values: np.ndarray,
    *,
    kind: TargetKind = "auto",
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
    are_whole: bool = False,
) -> Targets:
    """Finds out what the targets are and encodes them.

    Texts and truth values are classes. So are whole numbers with at most 100 different values, each of which occurs
    twice on average; other numbers stay numbers. Columns of 0 and 1 alone are labels of which several may hold.

    Args:
        values: `(N,)` texts (objects, "" where missing), truth values, whole numbers, or floats (NaN where missing);
            `(N, width)` of numbers.
        kind: What a single column is, where its values do not say.
        labels: Names of the classes 0, 1, …, where the values are their indices.
        names: Of the columns, for `(N, width)`.
        are_whole: Whether floats are whole numbers, kept as floats only because some are missing.

    Raises:
        ConfigError: The labels or the kind do not fit the values.
        DataError: There is no usable target.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2:
        return _encode_several(values, kind, names)
    if values.ndim != 1:
        raise DataError(f"The targets have the shape {values.shape}; expected one value or one row an example.")
    missing = _find_missing(values)
    bad = {int(number): "the target is missing" for number in np.flatnonzero(missing)}
    if missing.all():
        raise DataError("Every target is missing.")
    if labels:
        return _encode_indices(values, missing, bad, labels)
    if kind == "class" or (kind == "auto" and _are_classes(values[~missing], are_whole)):
        return _encode_classes(values, missing, bad)
    return _encode_numbers(values, bad)


def sort_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns labels in order: as numbers where all of them are, else by the alphabet."""
    unique = set(labels)
    try:
        return tuple(sorted(unique, key=lambda label: (float(label), label)))
    except ValueError:
        return tuple(sorted(unique))


def _find_missing(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f":
        return np.isnan(values)
    return values == "" if values.dtype.kind in "OU" else np.zeros(len(values), bool)


def _are_classes(values: np.ndarray, are_whole: bool) -> bool:
    if values.dtype.kind in "OUb":
        return True
    if values.dtype.kind not in "iu" and not are_whole:
        return False
    different = len(np.unique(values))
    return different <= min(_MOST_CLASSES, len(values) / 2)


def _encode_classes(values: np.ndarray, missing: np.ndarray, bad: dict[int, str]) -> Targets:
    # Few different values: a text of each, not one of each example.
    different, place = np.unique(
        values[~missing].astype(object if values.dtype.kind == "O" else values.dtype), return_inverse=True
    )
    texts = [_to_label(value) for value in different]
    labels = sort_labels(texts)
    index = {label: number for number, label in enumerate(labels)}
    encoded = np.zeros(len(values), np.int64)
    encoded[~missing] = np.array([index[text] for text in texts], np.int64)[place]
    return Targets(encoded, Target("class", labels), bad)


def _to_label(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _encode_indices(values: np.ndarray, missing: np.ndarray, bad: dict[int, str], labels: Sequence[str]) -> Targets:
    if values.dtype.kind not in "iubf":
        raise ConfigError("Labels name the classes 0, 1, …, but the target holds texts; leave labels out.")
    encoded = np.where(missing, 0, values).astype(np.int64)
    outside = (encoded < 0) | (encoded >= len(labels))
    for number in np.flatnonzero(outside):
        bad[int(number)] = f"the target is {encoded[number]}; expected 0 to {len(labels) - 1}, one for each label"
    encoded[outside] = 0
    return Targets(encoded, Target("class", tuple(labels)), bad)


def _encode_numbers(values: np.ndarray, bad: dict[int, str]) -> Targets:
    if values.dtype.kind in "OU":
        raise ConfigError("The target is said to be a number, but it holds texts; leave its kind at auto.")
    return Targets(
        np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=np.inf, neginf=-np.inf)[:, None], Target("number"), bad
    )


def _encode_several(values: np.ndarray, kind: TargetKind, names: Sequence[str]) -> Targets:
    if values.dtype.kind not in "iubf":
        raise DataError("Several target columns must all be numbers, 0 and 1 where each is a label.")
    if kind == "class":
        raise ConfigError("Several target columns are labels or numbers; a class is one column.")
    missing = np.isnan(values).any(axis=1) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    bad = {int(number): "a target is missing" for number in np.flatnonzero(missing)}
    encoded = np.where(missing[:, None], 0, values).astype(np.float32)
    width = values.shape[1]
    if kind == "auto" and ((encoded == 0) | (encoded == 1)).all():
        return Targets(encoded, Target("multilabel", tuple(names) or tuple(map(str, range(width))), width), bad)
    return Targets(encoded, Target("number", (), width), bad)
