"""Tables in CSV files."""

import csv
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.data.source import Source
from bmp.data.sources.table import NUMBER, WHOLE, TableArgs, TableFile, drop_missing, read_table, try_cast
from bmp.data.sources.target import TargetKind
from bmp.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK_BYTES = 8 << 20


def load_csv(
    *,
    path: str | dict[str, str],
    target: str | list[str],
    features: list[str] | None = None,
    drop: list[str] = [],  # noqa: B006  (never changed)
    categories: list[str] = [],  # noqa: B006
    target_kind: TargetKind = "auto",
    delimiter: str = ",",
) -> Source:
    """Reads a table whose first line names the columns.

    Args:
        path: A file, or one for each of train, validation and test.
        target: Column to be predicted, or several: labels if they hold 0 and 1 alone, else numbers.
        features: Columns to learn from; null is all others.
        drop: Columns to leave out.
        categories: Columns of numbers that stand for something, such as a postcode.
        target_kind: What the target is, where its values do not say.
        delimiter: What stands between the cells.

    A column is of numbers if at least half of its cells are; a cell that is none is then a bad example. A cell is a
    missing number where it is empty or says NA, NaN, null, None, ? or -; a missing category only where it is empty.
    Files are read twice, in blocks; columns that grow large go to temporary files.

    Raises:
        ConfigError: A column that is named is not there.
        DataError: A file cannot be read, or lacks a column.
    """
    if len(delimiter) != 1:
        raise ConfigError(f"args.delimiter is {delimiter!r}; expected one character.")
    args = TableArgs(target, features, drop, categories, target_kind)
    return read_table(path, lambda name: _CsvFile(name, delimiter), _find_kinds, args)


class _CsvFile(TableFile):
    """One CSV file; every cell is read as text."""

    def __init__(self, path: str, delimiter: str) -> None:
        self.path = path
        self._delimiter = delimiter
        self._has_bad_rows = False
        if not Path(path).is_file():
            raise DataError(f"There is no file {path}.", expected="a CSV file", received=path)
        try:
            self.names = next(self._rows(), [])
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} is no CSV file in UTF-8: {error}.") from error
        if not self.names:
            raise DataError(f"{path} is empty; expected a first line that names the columns.")

    def _rows(self) -> Iterator[list[str]]:
        with Path(self.path).open(newline="", encoding="utf-8-sig") as file:
            yield from csv.reader(file, delimiter=self._delimiter)

    def batches(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Yields rows of texts; rows of too few or too many cells are left out."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        try:
            yield from arrow.open_csv(
                self.path,
                read_options=arrow.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                parse_options=arrow.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True, invalid_row_handler=self._skip
                ),
                convert_options=arrow.ConvertOptions(
                    column_types=dict.fromkeys(self.names, pa.string()), include_columns=list(columns)
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
            raise DataError(f"{self.path} cannot be read as CSV: {' '.join(str(error).split())}.") from error

    def _skip(self, row: Any) -> str:
        self._has_bad_rows = True
        return "skip"

    def bad_rows(self) -> list[tuple[str, str]]:
        """Returns the rows of too few or too many cells."""
        if not self._has_bad_rows:
            return []
        return [
            (f"{self.path}, line {line}", f"the row has {cells} cells; expected {len(self.names)}")
            for line, cells in zip(*self._lines, strict=True)
            if cells != len(self.names)
        ]

    def where(self, row: int) -> str:
        """Returns file and line."""
        lines, cells = self._lines
        return f"{self.path}, line {lines[cells == len(self.names)][row]}"

    @cached_property
    def _lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Line on which each row begins, and how many cells it has; read only when something has to be named."""
        lines, cells = [], []
        with Path(self.path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            next(reader)
            before = reader.line_num
            for row in reader:
                if row:  # Arrow passes over empty lines as well
                    lines.append(before + 1)
                    cells.append(len(row))
                before = reader.line_num
        return np.array(lines, np.int64), np.array(cells, np.int64)


def _find_kinds(files: Sequence[TableFile], columns: Sequence[str]) -> dict[str, str]:
    """Returns `whole`, `number` or `category` for each column."""
    counts = {name: np.zeros(3, np.int64) for name in columns}
    for file in files:
        for batch in file.batches(columns):
            for name in columns:
                counts[name] += _count(batch.column(name))
    kinds = {}
    for name, (present, numbers, whole) in counts.items():
        kinds[name] = "category" if 2 * numbers < present else "whole" if whole == present else "number"
    return kinds


def _count(array: "pa.Array") -> tuple[int, int, int]:
    """Returns how many cells are not missing, how many are numbers, and how many whole ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = drop_missing(array)
    present = len(cells) - cells.null_count
    if try_cast(cells, pa.int64()) is not None:
        return present, present, present
    if try_cast(cells, pa.float64()) is not None:
        return present, present, 0
    numbers, whole = (pc.sum(pc.match_substring_regex(cells, pattern)).as_py() or 0 for pattern in (NUMBER, WHOLE))
    return present, numbers, whole
