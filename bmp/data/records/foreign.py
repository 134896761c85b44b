"""TFRecord files of others, holding any `tf.train.Example`: by number, in place."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bmp.data.records.example import little_endian, parse, size_of
from bmp.data.records.tfrecord import find_records, map_file, unframe
from bmp.data.source import BadExampleError, Source, Target
from bmp.errors import ConfigError, DataError, suggest
from bmp.transforms import Columns, Field
from bmp.transforms.base import Kind

_LOG = logging.getLogger(__name__)
_MAGIC = {b"\x89PNG\r\n\x1a\n": "image", b"\xff\xd8\xff": "image", b"RIFF": "audio"}

_MOST_CLASSES = 1_000_000

Values = Sequence[Any]
"""What a feature of one example holds: bytes, floats or whole numbers."""


class TfrecordSource(Source):
    """The examples of TFRecord files.

    The lengths of all records are read first, then each record once for its target: whatever its place, an example is
    read by its number afterwards. Nothing is written.

    Args:
        files: In the order of their examples.
        features: Each feature by name, `{kind, dtype, shape}`; None takes them from the first record.
        target: Name of the feature to predict: whole numbers or texts are classes, floats are numbers.
        labels: Names of the classes by index; None takes the different texts, or the numbers up to the largest.
        verify: Whether to check every record now, and fail at the first that is damaged.

    Raises:
        ConfigError: The features are not described well, or there is no such target.
        DataError: A file is no TFRecord file, or holds nothing.
    """

    def __init__(
        self,
        files: Sequence[Path],
        features: Mapping[str, Mapping[str, Any]] | None,
        target: str,
        labels: Sequence[str] | None,
        *,
        verify: bool = False,
    ) -> None:
        self._files = list(files)
        self._memories = [map_file(file) for file in files]
        self._places = [find_records(memory, file) for memory, file in zip(self._memories, files, strict=True)]
        self._starts = np.cumsum([0, *(len(places) - 1 for places in self._places)])
        if not len(self):
            raise DataError(f"{files[0]} holds no record{' (nor do the others)' if len(files) > 1 else ''}.")
        first = self._parse(0)
        if target not in first:
            raise ConfigError(
                f"{self.where(0)}: there is no feature '{target}' to predict; it has {', '.join(sorted(first))}. Name "
                f"one as target.{suggest(target, first)}",
                expected=", ".join(sorted(first)),
                received=target,
            )
        self.fields = _read_fields(features, target) if features else self._infer_fields(first, target)
        self._bad: dict[int, str] = {}
        self.target, self._targets = self._collect_targets(target, labels, *_values(first, target))
        for number, reason in self._bad.items() if verify else ():
            raise DataError(f"{self.where(number)}: {reason}.")

    def _infer_fields(self, first: Mapping[str, Any], target: str) -> tuple[Field, ...]:
        fields = tuple(_infer(name, *_values(first, name)) for name in sorted(first) if name != target)
        if not fields:
            raise DataError(f"{self.where(0)}: there is no feature beside '{target}'.")
        lines = ", ".join(f"{field.name}: {_show(field)}" for field in fields)
        _LOG.warning("%s: taken from the first record: features: {%s}", self._files[0], lines)
        return fields

    def _collect_targets(
        self, name: str, labels: Sequence[str] | None, kind: str, values: Values
    ) -> tuple[Target, np.ndarray]:
        """Reads the target of every example; those without one are remembered as bad."""
        width = len(values)
        if kind != "float_list" and width != 1:
            raise ConfigError(f"{self.where(0)}: the target '{name}' has {width} values; expected one class.")
        found: list[Any] = []
        for number in range(len(self)):
            try:
                other, values = _values(self._parse(number), name)
                if (other, len(values)) != (kind, width):
                    raise ValueError(f"the target '{name}' has {len(values)} values of {other}")
                found.append(values[0] if width == 1 else list(values))
            except ValueError as error:
                self._bad[number] = error.reason if isinstance(error, BadExampleError) else str(error)
                found.append(None)
        if kind == "float_list":
            numbers = [[0.0] * width if value is None else value for value in found]
            return Target("number", width=width), np.array(numbers, np.float32).reshape(-1, width)
        return self._number_classes(found, labels)

    def _number_classes(self, found: list[Any], labels: Sequence[str] | None) -> tuple[Target, np.ndarray]:
        there = [value for value in found if value is not None]
        if isinstance(there[0], bytes):
            names = list(labels) if labels else sorted({value.decode("utf-8", "replace") for value in there})
            index = {name.encode(): number for number, name in enumerate(names)}
            classes = [0 if value is None else index.get(value, -1) for value in found]
        else:
            names = list(labels) if labels else [str(number) for number in range(_count_classes(max(there)))]
            classes = [0 if value is None else value for value in found]
        for number, value in enumerate(classes):
            if not 0 <= value < len(names):
                self._bad[number] = f"the target is {found[number]!r}; expected one of {len(names)} labels"
        return Target("class", tuple(names)), np.array(classes, np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, index: np.ndarray) -> Columns:
        """Returns the features of some examples.

        Raises:
            BadExampleError: A record is damaged, cut off, or holds something else than the features say.
        """
        rows: list[list[Any]] = [[] for _ in self.fields]
        for number in index.tolist():
            features = self._parse(number)
            try:
                for field, row in zip(self.fields, rows, strict=True):
                    row.append(_READERS[field.kind](field, *_values(features, field.name)))
            except ValueError as error:
                raise BadExampleError(number, self.where(number), str(error)) from error
        return {field.name: _stack(row, field) for field, row in zip(self.fields, rows, strict=True)}

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the targets of some examples.

        Raises:
            BadExampleError: One has none.
        """
        for number in index.tolist() if self._bad else ():
            if number in self._bad:
                raise BadExampleError(number, self.where(number), self._bad[number])
        return self._targets[index]

    def where(self, number: int) -> str:
        """Returns the file and the byte at which the record begins."""
        file, position = self._find(number)
        return f"{self._files[file]}, byte {self._places[file][position]}"

    def _find(self, number: int) -> tuple[int, int]:
        file = int(np.searchsorted(self._starts, number, side="right")) - 1
        return file, number - int(self._starts[file])

    def _parse(self, number: int) -> Mapping[str, Any]:
        file, position = self._find(number)
        start, stop = self._places[file][position : position + 2].tolist()
        try:
            if stop > len(self._memories[file]):
                raise ValueError("the file ends inside the record")
            return parse(unframe(self._memories[file][start:stop]))
        except ValueError as error:
            raise BadExampleError(number, self.where(number), str(error)) from error


def _count_classes(largest: int) -> int:
    if largest >= _MOST_CLASSES:
        raise ConfigError(f"The largest class is {largest}, so the target is no class; name another, or give labels.")
    return max(largest, 0) + 1


def _values(features: Mapping[str, Any], name: str) -> tuple[str, Values]:
    """Returns in which of the three lists a feature stands, and its values; nothing where there is none."""
    if name not in features:
        return "nothing", ()
    kind = features[name].WhichOneof("kind")
    return ("nothing", ()) if kind is None else (kind, getattr(features[name], kind).value)


def _read_fields(features: Mapping[str, Mapping[str, Any]], target: str) -> tuple[Field, ...]:
    """Reads what a recipe says about the features.

    Raises:
        ConfigError: It says it wrong.
    """
    fields = []
    for name, description in features.items():
        if name == target:
            raise ConfigError(f"'{name}' is what is to be predicted; remove it from features.")
        if unknown := [key for key in description if key not in ("kind", "dtype", "shape", "vocabulary")]:
            hint = suggest(unknown[0], ("kind", "dtype", "shape", "vocabulary"))
            raise ConfigError(f"features.{name} knows kind, dtype, shape and vocabulary, not '{unknown[0]}'.{hint}")
        kind = description.get("kind", "tensor")
        if kind not in get_args(Kind):
            known = ", ".join(get_args(Kind))
            raise ConfigError(
                f"features.{name}.kind is {kind!r}; it is one of {known}.{suggest(str(kind), get_args(Kind))}"
            )
        field = Field(**{"name": name, "kind": kind, **description, "shape": tuple(description.get("shape", ()))})
        try:
            size_of(field)
        except TypeError as error:
            raise ConfigError(f"features.{name} cannot be read: {error}.") from error
        fields.append(field)
    return tuple(fields)


def _infer(name: str, kind: str, values: Values) -> Field:
    """Guesses a feature from the values of one example."""
    if kind == "bytes_list" and len(values) == 1:
        for magic, guess in _MAGIC.items():
            if values[0].startswith(magic):
                return Field(name, guess)  # type: ignore[arg-type]
        try:
            values[0].decode()
        except UnicodeDecodeError:
            return Field(name, "tensor", "uint8", (len(values[0]),))
        return Field(name, "text")
    if kind in ("float_list", "int64_list"):
        dtype = "float32" if kind == "float_list" else "int64"
        return Field(name, "number") if len(values) == 1 else Field(name, "tensor", dtype, (len(values),))
    raise DataError(
        f"What the feature '{name}' is cannot be told from the first record ({len(values)} values, {kind}). "
        "Describe the features under data.args.features."
    )


def _show(field: Field) -> str:
    more = f", dtype: {field.dtype}, shape: {list(field.shape)}" if field.kind == "tensor" else ""
    return f"{{kind: {field.kind}{more}}}"


def _read_tensor(field: Field, kind: str, values: Values) -> np.ndarray:
    count = int(np.prod(field.shape, dtype=np.int64))
    if kind == "bytes_list":
        if len(values) != 1 or len(values[0]) != size_of(field):
            raise ValueError(f"'{field.name}' has {sum(map(len, values))} bytes where {size_of(field)} were expected")
        return np.frombuffer(values[0], little_endian(field)).reshape(field.shape)
    if len(values) != count:
        raise ValueError(f"'{field.name}' has {len(values)} values where {count} were expected")
    given = np.array(values, np.float32 if kind == "float_list" else np.int64)
    numbers = given.astype(field.dtype)
    if given.dtype.kind == "i" and not np.array_equal(numbers.astype(np.int64), given):
        raise ValueError(f"'{field.name}' holds whole numbers that {field.dtype} cannot hold")
    return numbers.reshape(field.shape)


def _read_number(field: Field, kind: str, values: Values) -> float:
    if not values:
        return float("nan")
    if len(values) != 1 or kind == "bytes_list":
        raise ValueError(f"'{field.name}' has {len(values)} values of {kind} where one number was expected")
    return values[0]


def _read_category(field: Field, kind: str, values: Values) -> str:
    if not values:
        return ""
    return str(values[0]) if kind == "int64_list" and len(values) == 1 else _read_text(field, kind, values)


def _read_text(field: Field, kind: str, values: Values) -> str:
    try:
        return _read_bytes(field, kind, values).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"'{field.name}' is no UTF-8 text ({error.reason} at byte {error.start})") from error


def _read_bytes(field: Field, kind: str, values: Values) -> bytes:
    if kind != "bytes_list" or len(values) != 1:
        raise ValueError(f"'{field.name}' has {len(values)} values of {kind} where one of bytes_list was expected")
    return values[0]


_READERS: dict[str, Callable[[Field, str, Values], Any]] = {
    "tensor": _read_tensor,
    "number": _read_number,
    "category": _read_category,
    "text": _read_text,
    "image": _read_bytes,
    "audio": _read_bytes,
}


def _stack(row: list[Any], field: Field) -> np.ndarray:
    if field.kind == "number":
        return np.array(row, np.float32)
    if field.kind == "tensor":
        return np.array(row, field.dtype).reshape(-1, *field.shape)
    column = np.empty(len(row), object)
    column[:] = row
    return column
