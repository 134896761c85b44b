"""Rows of raw features in JSON to columns: strict about types, exact about the place of what is wrong.

{"instances": [{"age": 22, "sex": "male"}, …]}     a table's row by feature
{"instances": ["a text", …]}                       a text, where that is the only feature
{"instances": [{"b64": "…"}, …]}                   an image or a sound, where that is the only feature

A string may come as `{"b64": "…"}` as well, its UTF-8 in base64.
"""

import base64
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmp.errors import SignatureError, suggest
from bmp.signature import TensorSpec
from bmp.transforms import Columns, Field, Preprocessing
from bmp.transforms.fill import Fill
from serving.codec.json import kind_of, to_array

_ABSENT = object()
_WANTED = {
    "number": "a number",
    "category": "a string",
    "text": "a string",
    "image": 'an object {"b64": "…"}, a PNG or JPEG file',
    "audio": 'an object {"b64": "…"}, a WAV file',
}


@dataclass(frozen=True)
class Features:
    """The raw features that a model takes.

    Args:
        fields: The features.
        optional: Names of those that may be missing, because a transform says what stands for them then.
    """

    fields: tuple[Field, ...]
    optional: frozenset[str]

    @classmethod
    def of(cls, preprocessing: Preprocessing) -> "Features":
        """Returns what the transforms start from: what they fill may be missing, and so may every category."""
        filled = {name for step in preprocessing.steps if isinstance(step, Fill) for name in step.fields}
        return cls(
            preprocessing.fields,
            frozenset(
                field.name
                for field in preprocessing.fields
                if field.kind == "category" or (field.kind in ("number", "text") and field.name in filled)
            ),
        )

    @property
    def sole(self) -> Field | None:
        """The one feature, which needs no name, or None where there are several."""
        return self.fields[0] if len(self.fields) == 1 else None

    def describe(self) -> list[dict[str, Any]]:
        """Returns the features in JSON's types, each with whether it may be missing."""
        return [{**field.to_dict(), "required": field.name not in self.optional} for field in self.fields]


def count_examples(inputs: Any) -> int:
    """Returns how many examples inputs of JSON hold, looking at none of them; 0 where that cannot be told."""
    if isinstance(inputs, dict):
        return max((len(column) for column in inputs.values() if isinstance(column, list)), default=0)
    return len(inputs) if isinstance(inputs, list) else 0


def holds_rows(inputs: Any, features: Features, input_names: Collection[str], where: str) -> bool:
    """Tells raw features from ready tensors: a list with an object or a string in it is raw, anything else is not.

    Args:
        inputs: As JSON gave them.
        features: What the model takes.
        input_names: Of the model's tensors.
        where: The place in the body, as an error names it.

    Raises:
        SignatureError: These are the features of one example, outside a list.
    """
    names = {field.name for field in features.fields} - set(input_names)
    if type(inputs) is str or (type(inputs) is dict and not names.isdisjoint(inputs)):
        raise SignatureError(
            f"{where} is {kind_of(inputs)}; expected a list, with one element for each example.",
            expected="a list",
            received=kind_of(inputs),
        )
    return type(inputs) is list and not {dict, str}.isdisjoint(map(type, inputs))


def to_columns(rows: Sequence[Any], features: Features, where: str) -> Columns:
    """Turns rows of features into columns, one for each feature.

    Args:
        rows: As JSON gave them, one for each example.
        features: What the model takes.
        where: The place in the body, as an error names it.

    Raises:
        SignatureError: A feature is unknown, missing, or of a wrong type.
    """
    objects = [_to_object(row, features, f"{where}[{index}]") for index, row in enumerate(rows)]
    return {field.name: _READERS[field.kind](_Cells(objects, field, features, where)) for field in features.fields}


def _to_object(row: Any, features: Features, place: str) -> dict[str, Any]:
    """Returns a row as an object of features, which it may be already."""
    sole, names = features.sole, [field.name for field in features.fields]
    if sole is not None and (
        (type(row) is str and sole.kind == "text")
        or (type(row) is dict and sole.kind in ("text", "image", "audio") and _is_base64_object(row))
    ):
        return {sole.name: row}
    if type(row) is not dict:
        wanted = f"an object with {', '.join(names)}" + (" or a string" if sole and sole.kind == "text" else "")
        raise SignatureError(f"{place} is {kind_of(row)}; expected {wanted}.", expected=wanted, received=kind_of(row))
    for name in row:
        if name not in names:
            raise SignatureError(
                f"{place} has the unknown feature '{name[:80]}'. Features: {', '.join(names)}."
                f"{suggest(name[:80], names)}",
                expected=", ".join(names),
                received=name[:80],
            )
    return row


def _is_base64_object(value: dict[str, Any]) -> bool:
    return list(value) == ["b64"] and type(value["b64"]) is str


class _Cells:
    """What the rows hold of one feature."""

    def __init__(self, rows: list[dict[str, Any]], field: Field, features: Features, where: str) -> None:
        self.field = field
        self.values = [row.get(field.name, _ABSENT) for row in rows]
        self._optional = field.name in features.optional
        self._where = where

    def place(self, index: int) -> str:
        return f"{self._where}[{index}].{self.field.name}"

    def check(self, fits: Callable[[Any], bool]) -> None:
        """Raises for the first value that neither fits nor may be missing."""
        for index, value in enumerate(self.values):
            if fits(value) or (self._optional and (value is None or value is _ABSENT)):
                continue
            wanted = _WANTED[self.field.kind]
            received = "missing" if value is _ABSENT else kind_of(value)
            raise SignatureError(
                f"{self.place(index)} is {received}; expected {wanted}.", expected=wanted, received=received
            )


def _read_numbers(cells: _Cells) -> np.ndarray:
    """Returns float32 `(N,)`, NaN where missing."""
    cells.check(lambda value: type(value) in (int, float))
    numbers = [value if isinstance(value, int | float) else math.nan for value in cells.values]
    with np.errstate(over="ignore"):
        column = np.array(numbers, np.float64).astype(np.float32)
    for index in np.flatnonzero(np.isinf(column)):
        raise SignatureError(
            f"{cells.place(int(index))} holds a number that float32 cannot represent.",
            expected="float32",
            received="out of range",
        )
    return column


def _read_strings(cells: _Cells) -> np.ndarray:
    """Returns str objects `(N,)`, empty where missing."""
    cells.check(lambda value: type(value) is str or (type(value) is dict and _is_base64_object(value)))
    return _to_objects(
        [
            _to_text(value, cells.place(index)) if isinstance(value, dict) else value if isinstance(value, str) else ""
            for index, value in enumerate(cells.values)
        ]
    )


def _read_files(cells: _Cells) -> np.ndarray:
    """Returns bytes objects `(N,)`; protocols that are not JSON alone bring files as such."""
    cells.check(lambda value: type(value) is bytes or (type(value) is dict and _is_base64_object(value)))
    files = []
    for index, value in enumerate(cells.values):
        try:
            files.append(value if type(value) is bytes else base64.b64decode(value["b64"], validate=True))
        except ValueError:
            raise SignatureError(
                f"{cells.place(index)} is not valid base64; expected the standard alphabet, with padding.",
                expected="base64",
                received="something else",
            ) from None
    return _to_objects(files)


def _read_tensors(cells: _Cells) -> np.ndarray:
    """Returns `(N, *shape)`."""
    field, tensors = cells.field, []
    wanted = f"{field.dtype} {field.shape}"
    for index, value in enumerate(cells.values):
        place = cells.place(index)
        if value is _ABSENT or (field.shape and type(value) is not list):
            received = "missing" if value is _ABSENT else kind_of(value)
            raise SignatureError(f"{place} is {received}; expected {wanted}.", expected=wanted, received=received)
        spec = TensorSpec(field.name, field.dtype, field.shape[1:])
        tensor = to_array(value, spec, place) if field.shape else to_array([value], spec, place)[0]
        if tensor.shape != field.shape:
            raise SignatureError(
                f"{place} has shape {tensor.shape}; expected {wanted}.", expected=wanted, received=str(tensor.shape)
            )
        tensors.append(tensor)
    return np.stack(tensors)


def _to_bytes(value: dict[str, str], place: str) -> bytes:
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError:
        raise SignatureError(
            f"{place} is not valid base64; expected the standard alphabet, with padding.",
            expected="base64",
            received="something else",
        ) from None


def _to_text(value: dict[str, str], place: str) -> str:
    try:
        return _to_bytes(value, place).decode("utf-8")
    except UnicodeDecodeError:
        raise SignatureError(
            f"{place} is not valid UTF-8 behind its base64; expected a text.", expected="UTF-8", received="other bytes"
        ) from None


def _to_objects(values: list[Any]) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


_READERS: dict[str, Callable[[_Cells], np.ndarray]] = {
    "number": _read_numbers,
    "category": _read_strings,
    "text": _read_strings,
    "image": _read_files,
    "audio": _read_files,
    "tensor": _read_tensors,
}
