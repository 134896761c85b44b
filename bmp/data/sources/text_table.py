"""Texts with a label each, in a CSV or JSONL file."""

import re
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from bmp.data.source import Source
from bmp.data.sources.memory import ArraySource
from bmp.data.sources.rows import CsvFile, JsonlFile, Row, RowFile
from bmp.data.sources.table import MISSING_NUMBERS, NUMBER, split_paths
from bmp.data.sources.target import TargetKind, encode_targets
from bmp.errors import ConfigError, DataError, suggest
from bmp.transforms import Field

_JSON_ENDS = (".jsonl", ".ndjson", ".json")
_CSV_ENDS = (".csv", ".tsv", ".txt")


def load_text_table(
    *,
    path: str | dict[str, str],
    text: str = "text",
    label: str = "label",
    target_kind: TargetKind = "auto",
    delimiter: str | None = None,
) -> Source:
    """Reads texts and their labels from a CSV or JSONL file, told apart by the end of its name (.csv, .tsv, .jsonl).

    Args:
        path: A file, or one for each of train, validation and test.
        text: Column of the texts.
        label: Column to be predicted.
        target_kind: What it is, where its values do not say.
        delimiter: What stands between the cells of a CSV file; null is a comma, in a .tsv file a tab.

    Each file is read once at the start, to find its rows and labels; texts are read when they are asked for. A row
    that is no JSON object, has too few cells, or has no text or label, is a bad example.

    Raises:
        ConfigError: The end of the name, or a column, is unknown.
        DataError: A file cannot be read.
    """
    if delimiter is not None and len(delimiter) != 1:
        raise ConfigError(f"args.delimiter is {delimiter!r}; expected one character.")
    return _TextTable(
        {split: _open(name, delimiter) for split, name in split_paths(path).items()}, text, label, target_kind
    )


def _open(path: str, delimiter: str | None) -> RowFile:
    end = Path(path).suffix.lower()
    if end in _JSON_ENDS:
        return JsonlFile(path)
    if end in _CSV_ENDS:
        return CsvFile(path, delimiter or ("\t" if end == ".tsv" else ","))
    raise ConfigError(
        f"{path} ends in '{end}'; expected {', '.join((*_CSV_ENDS, *_JSON_ENDS))}, which says how it is read.",
        expected=", ".join((*_CSV_ENDS, *_JSON_ENDS)),
        received=end,
    )


class _Places:
    """Where the rows of some files stand; as a column of texts it reads them.

    Args:
        files: In the order of their rows.
        text: Column of the texts.
    """

    def __init__(self, files: list[RowFile], text: str) -> None:
        self._files = files
        self._text = text
        self._file, self._start, self._size, self._line = array("i"), array("q"), array("q"), array("q")

    def append(self, file: int, start: int, size: int, line: int) -> None:
        """Adds a row."""
        for column, value in zip(
            (self._file, self._start, self._size, self._line), (file, start, size, line), strict=True
        ):
            column.append(value)

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        return self.read(index, self._text)

    def read(self, index: np.ndarray, name: str) -> np.ndarray:
        """Returns one column of some rows, objects `(n,)`."""
        column = np.empty(len(index), object)
        which = np.array([self._file[number] for number in index])
        for number in np.unique(which):
            file = self._files[number]
            with Path(file.path).open("rb") as stream:
                for position in np.flatnonzero(which == number):
                    stream.seek(self._start[index[position]])
                    column[position] = self._cell(file, stream.read(self._size[index[position]]), name)
        return column

    def _cell(self, file: RowFile, data: bytes, name: str) -> Any:
        try:
            row = file.parse(data)
        except ValueError as error:
            raise DataError(f"{file.path} has changed since it was opened ({error}).") from error
        if name not in row:
            raise ConfigError(
                f"{file.path} has no column '{name}'; it has {', '.join(row)}.{suggest(name, row)}",
                expected=", ".join(row),
                received=name,
            )
        return row[name]

    def where(self, number: int) -> str:
        """Returns file and line."""
        return f"{self._files[self._file[number]].path}, line {self._line[number]}"


class _TextTable(ArraySource):
    """Texts and labels; the texts stay in their files."""

    def __init__(self, files: dict[str, RowFile], text: str, label: str, target_kind: TargetKind) -> None:
        self._places = _Places(list(files.values()), text)
        known: dict[Any, Any] = {}  # equal labels are kept once
        labels, bad, given = [], {}, {}
        for number, (split, file) in enumerate(files.items()):
            _check_names(file, (text, label))
            first = len(self._places)
            for start, line, data in file.find_rows():
                try:
                    value = _take_label(file.parse(data), text, label)
                except ValueError as error:
                    bad[len(self._places)], value = str(error), None
                labels.append(known.setdefault((type(value), value), value))
                self._places.append(number, start, len(data), line)
            given[split] = np.arange(first, len(self._places))
        if len(bad) == len(labels):
            first_bad = next((f" {self._places.where(row)}: {reason}." for row, reason in bad.items()), "")
            raise DataError(f"None of the {len(labels)} rows can be used.{first_bad}")
        values, are_whole = _to_values(labels)
        encoded = encode_targets(values, kind=target_kind, are_whole=are_whole)
        super().__init__(
            {text: self._places},
            (Field(text, "text"),),
            encoded.values,
            encoded.target,
            given={} if "" in given else given,
            where=self._places.where,
            bad=encoded.bad | bad,
        )

    def read_column(self, name: str, index: np.ndarray) -> np.ndarray:
        """Returns any column of texts."""
        self._check(index)
        return self._places.read(index, name)


def _check_names(file: RowFile, names: tuple[str, ...]) -> None:
    if isinstance(file, CsvFile):
        for name in names:
            if name not in file.names:
                raise ConfigError(
                    f"{file.path} has no column '{name}'; it has {', '.join(file.names)}.{suggest(name, file.names)}",
                    expected=", ".join(file.names),
                    received=name,
                )


def _take_label(row: Row, text: str, label: str) -> str | int | float | bool:
    for name in (text, label):
        if row.get(name) in (None, ""):
            raise ValueError(f"'{name}' is missing")
    if not isinstance(row[text], str):
        raise ValueError(f"'{text}' is {row[text]!r:.40}; expected a text")
    if not isinstance(row[label], str | int | float | bool):
        raise ValueError(f"'{label}' is {row[label]!r:.40}; expected a text or a number")
    return row[label]


def _to_values(labels: list[Any]) -> tuple[np.ndarray, bool]:
    """Returns labels as `encode_targets` takes them: texts, truth values, or floats and whether they are whole."""
    present = {value for value in labels if value is not None}
    texts = {value if isinstance(value, str) else str(value) for value in present if not isinstance(value, bool)}
    if len(texts) == len(present) and all(re.match(NUMBER, value) and value not in MISSING_NUMBERS for value in texts):
        numbers = np.array([np.nan if value is None else float(value) for value in labels])
        return numbers, all(float(value).is_integer() and "." not in value for value in texts)
    values = np.array(["" if value is None else _spell(value) for value in labels], object)
    return values, False


def _spell(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
