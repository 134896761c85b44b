"""Files of rows, each row found again by its place: only the places are kept in memory."""

import csv
import io
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bmp.errors import DataError

Row = dict[str, Any]


class RowFile(ABC):
    """A file of rows.

    Args:
        path: As the user wrote it.

    Raises:
        DataError: There is no such file.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise DataError(f"There is no file {path}.", expected="a file", received=path)
        self.path = path

    @abstractmethod
    def find_rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields for each row where it begins, in bytes, on which line, and its bytes."""

    @abstractmethod
    def parse(self, data: bytes) -> Row:
        """Returns the cells of a row by name.

        Raises:
            ValueError: It is no row; the message says why.
        """


class JsonlFile(RowFile):
    """A JSON object a line; empty lines are passed over."""

    def find_rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields the lines."""
        start = 0
        with Path(self.path).open("rb") as file:
            for line, data in enumerate(file, start=1):
                if data.strip():
                    yield start, line, data
                start += len(data)

    def parse(self, data: bytes) -> Row:
        """Returns the object."""
        try:
            row = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the line is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise ValueError("the line is no JSON object")
        return row


class CsvFile(RowFile):
    """Rows of cells, the first names them; a quoted cell may hold line breaks.

    Args:
        path: As the user wrote it.
        delimiter: What stands between the cells.

    Raises:
        DataError: There is no such file, or it is empty.
    """

    def __init__(self, path: str, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter
        header = next(self._find_all(), (0, 1, b""))[2]
        self.names = next(self._read([header.decode("utf-8-sig", "replace")]), [])
        if not self.names:
            raise DataError(f"{path} is empty; expected a first line that names the columns.")

    def find_rows(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields the rows after the first."""
        rows = self._find_all()
        next(rows)
        yield from rows

    def _find_all(self) -> Iterator[tuple[int, int, bytes]]:
        lines: list[bytes] = []  # of the row that is being read
        start, line = 0, 1
        with Path(self.path).open("rb") as file:
            for row in self._read(_remember(file, lines)):
                data = b"".join(lines)
                if row:
                    yield start, line, data
                start, line = start + len(data), line + len(lines)
                lines.clear()

    def parse(self, data: bytes) -> Row:
        """Returns the cells."""
        try:
            (cells,) = self._read(io.StringIO(data.decode("utf-8"), newline=""))
        except UnicodeDecodeError as error:
            raise ValueError("the row is not in UTF-8") from error
        if len(cells) != len(self.names):
            raise ValueError(f"the row has {len(cells)} cells; expected {len(self.names)}")
        return dict(zip(self.names, cells, strict=True))

    def _read(self, lines: Iterable[str]) -> Iterator[list[str]]:
        try:
            yield from csv.reader(lines, delimiter=self._delimiter)
        except csv.Error as error:
            raise DataError(f"{self.path} cannot be read as CSV: {error}.") from error


def _remember(file: Iterable[bytes], lines: list[bytes]) -> Iterator[str]:
    """Yields lines as texts and keeps their bytes; a byte that is no text makes its own row bad, not the file."""
    for line in file:
        lines.append(line)
        yield line.decode("utf-8", "surrogateescape")
