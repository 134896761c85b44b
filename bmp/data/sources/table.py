"""Tables: one example a row, one feature a column; CSV and Parquet, read through Arrow."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.data.source import Source
from bmp.data.sources.growing import CodedTexts, Growing, Texts
from bmp.data.sources.memory import ArraySource
from bmp.data.sources.target import TargetKind, encode_targets
from bmp.data.split import SPLITS
from bmp.errors import ConfigError, DataError, suggest
from bmp.transforms import Field

if TYPE_CHECKING:
    import pyarrow as pa

MISSING_NUMBERS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?", "-")
"""What stands for a missing number in a file of texts."""
NUMBER = r"^\s*[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[iI]nf(inity)?|NaN|nan)\s*$"
WHOLE = r"^\s*[-+]?\d+\s*$"


class TableFile(ABC):
    """One file of rows.

    Attributes:
        path: As the user wrote it.
        names: Of its columns, in order.
    """

    path: str
    names: list[str]

    @abstractmethod
    def batches(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Yields the rows of some columns, in order, some megabytes at a time."""

    @abstractmethod
    def bad_rows(self) -> list[tuple[str, str]]:
        """Returns place and reason of the rows that `batches` left out, once it has come to its end."""

    @abstractmethod
    def where(self, row: int) -> str:
        """Returns where a row is, counted from 0, as a person finds it."""


@dataclass(frozen=True)
class TableArgs:
    """What a recipe says about a table.

    Args:
        target: Column or columns to be predicted.
        features: Columns to learn from; None is all others.
        drop: Columns to leave out.
        categories: Columns of numbers that stand for something.
        target_kind: What the target is, where its values do not say.
    """

    target: str | list[str]
    features: list[str] | None = None
    drop: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    target_kind: TargetKind = "auto"

    @property
    def targets(self) -> list[str]:
        """The columns to be predicted."""
        return [self.target] if isinstance(self.target, str) else self.target


def split_paths(path: str | dict[str, str]) -> dict[str, str]:
    """Returns the file of each split, or `{"": path}` for a file in one piece.

    Raises:
        ConfigError: A key names no split.
    """
    if isinstance(path, str):
        return {"": path}
    for name in path:
        if name not in SPLITS:
            raise ConfigError(
                f"args.path names the split '{name}'; expected train, validation or test.{suggest(name, SPLITS)}",
                expected="train, validation, test",
                received=name,
            )
    if "train" not in path:
        raise ConfigError(f"args.path names {', '.join(path) or 'no file'}; expected at least train.")
    return path


def read_table(
    path: str | dict[str, str],
    open_file: Callable[[str], TableFile],
    find_kinds: Callable[[Sequence[TableFile], Sequence[str]], dict[str, str]],
    args: TableArgs,
) -> Source:
    """Reads the files of a table.

    Args:
        path: A file, or one for each split.
        open_file: Opens a file.
        find_kinds: Finds out what columns are: `number`, `whole` or `category`.
        args: What the recipe says.

    Raises:
        ConfigError: A column that is named is not there.
        DataError: A file cannot be read, or lacks a column.
    """
    paths = split_paths(path)
    files = {split: open_file(name) for split, name in paths.items()}
    first = next(iter(files.values()))
    for file in files.values():
        _check_columns(file, first)
    features = _choose_features(first, args)
    kinds = find_kinds(list(files.values()), [*features, *args.targets])
    kinds |= dict.fromkeys(args.categories, "category")
    if args.target_kind == "class" and kinds[args.targets[0]] == "number":
        kinds[args.targets[0]] = "category"
    return _Reading(files, features, kinds, args).finish()


def _check_columns(file: TableFile, first: TableFile) -> None:
    twice = [name for number, name in enumerate(file.names) if name in file.names[:number]]
    if twice:
        raise DataError(f"{file.path} has two columns named '{twice[0]}'; every column needs a name of its own.")
    for name in sorted(set(file.names) ^ set(first.names)):
        lacks, has = (file, first) if name in first.names else (first, file)
        raise DataError(
            f"{lacks.path} has no column '{name}', which {has.path} has.{suggest(name, lacks.names)}",
            expected=", ".join(has.names),
            received=", ".join(lacks.names),
        )


def _choose_features(file: TableFile, args: TableArgs) -> list[str]:
    if not args.targets:
        raise ConfigError("args.target names no column; name what is to be predicted.")
    named = {"target": args.targets, "features": args.features or [], "drop": args.drop, "categories": args.categories}
    for key, names in named.items():
        for name in names:
            if name not in file.names:
                raise ConfigError(
                    f"args.{key} names '{name}', but {file.path} has only the columns {', '.join(file.names)}."
                    f"{suggest(name, file.names)}",
                    expected=", ".join(file.names),
                    received=name,
                )
    chosen = file.names if args.features is None else args.features
    features = [name for name in chosen if name not in (*args.targets, *args.drop)]
    if not features:
        raise ConfigError(f"{file.path} has no column left to learn from besides the target.")
    return features


class _Reading:
    """Reads all files into one column each."""

    def __init__(
        self, files: Mapping[str, TableFile], features: list[str], kinds: dict[str, str], args: TableArgs
    ) -> None:
        self._files = files
        self._features = features
        self._kinds = kinds
        self._args = args
        self._columns: dict[str, Growing | Texts] = {
            name: Texts() if kinds[name] == "category" else Growing("float64" if name in args.targets else "float32")
            for name in (*features, *args.targets)
        }
        self._rows = 0
        self._bad: dict[int, str] = {}
        self._starts: list[tuple[int, TableFile]] = []

    def finish(self) -> Source:
        """Returns the source."""
        given = {}
        for split, file in self._files.items():
            start = self._rows
            self._starts.append((start, file))
            for batch in file.batches(list(self._columns)):
                self._append(batch)
            given[split] = [np.arange(start, self._rows)]
        places = self._add_bad_rows(given)
        columns = {name: column.finish() for name, column in self._columns.items()}
        encoded = self._encode_targets([columns[name] for name in self._args.targets])
        return ArraySource(
            {name: columns[name] for name in self._features},
            tuple(Field(name, "category" if self._kinds[name] == "category" else "number") for name in self._features),
            encoded.values,
            encoded.target,
            given={} if "" in given else {split: np.concatenate(numbers) for split, numbers in given.items()},
            where=lambda number: places.get(number) or self._where(number),
            bad=encoded.bad | self._bad,
        )

    def _append(self, batch: "pa.RecordBatch") -> None:
        for name, column in self._columns.items():
            array = batch.column(name)
            if isinstance(column, Texts):
                column.append(*to_codes(array))
                continue
            numbers, wrong = to_numbers(array)
            for position in np.flatnonzero(wrong):
                self._bad.setdefault(
                    self._rows + int(position),
                    f"'{name}' is '{array[int(position)]}'; expected a number (args.categories takes it as a text)",
                )
            column.append(numbers)
        self._rows += batch.num_rows

    def _add_bad_rows(self, given: dict[str, list[np.ndarray]]) -> dict[int, str]:
        """Rows that Arrow could not cut into columns become bad examples at the end; returns where they are."""
        places = {}
        for split, file in self._files.items():
            for place, reason in file.bad_rows():
                places[self._rows] = place
                self._bad[self._rows] = reason
                given[split].append(np.array([self._rows]))
                for column in self._columns.values():
                    if isinstance(column, Texts):
                        column.append(np.zeros(1, np.int32), [""])
                    else:
                        column.append(np.full(1, np.nan))
                self._rows += 1
        return places

    def _encode_targets(self, columns: list[Any]) -> Any:
        names = self._args.targets
        if len(columns) > 1:
            for name, column in zip(names, columns, strict=True):
                if isinstance(column, CodedTexts):
                    raise DataError(f"The target column '{name}' holds texts; several targets must all be numbers.")
            return encode_targets(np.stack(columns, axis=1), kind=self._args.target_kind, names=names)
        (column,) = columns
        values = column[:] if isinstance(column, CodedTexts) else column
        whole = self._kinds[names[0]] == "whole"
        return encode_targets(values, kind=self._args.target_kind, are_whole=whole)

    def _where(self, number: int) -> str:
        start, file = next(entry for entry in reversed(self._starts) if entry[0] <= number)
        return file.where(number - start)


def to_codes(array: "pa.Array") -> tuple[np.ndarray, list[str]]:
    """Returns texts as indices `(n,)` into a list of the different ones; "" stands for a missing one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    coded = pc.fill_null(array.cast(pa.string()), "").dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()


def to_numbers(array: "pa.Array") -> tuple[np.ndarray, np.ndarray]:
    """Returns float64 `(n,)`, NaN where missing, and where a text is no number, bool `(n,)`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wrong = np.zeros(len(array), bool)
    if pa.types.is_string(array.type):
        cells = drop_missing(array)
        array = try_cast(cells, pa.float64())
        if array is None:
            is_number = pc.match_substring_regex(cells, NUMBER)
            wrong = pc.fill_null(pc.invert(is_number), False).to_numpy(zero_copy_only=False)
            array = pc.utf8_ltrim(pc.if_else(is_number, cells, None), "+")
    numbers = array.cast(pa.float64(), safe=False)
    return pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False), wrong


def drop_missing(array: "pa.Array") -> "pa.Array":
    """Returns texts without spaces around them, null where they stand for a missing number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(array)
    is_missing = pc.is_in(cells, value_set=pa.array(MISSING_NUMBERS))
    return pc.if_else(is_missing, None, cells) if pc.any(is_missing).as_py() else cells


def try_cast(cells: "pa.Array", kind: "pa.DataType") -> "pa.Array | None":
    """Returns texts as numbers, or None if one of them is none."""
    import pyarrow as pa

    try:
        return cells.cast(kind)
    except pa.ArrowInvalid:
        return None
