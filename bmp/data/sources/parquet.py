"""Tables in Parquet files."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bmp.data.source import Source
from bmp.data.sources.table import TableArgs, TableFile, read_table
from bmp.data.sources.target import TargetKind
from bmp.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa


def load_parquet(
    *,
    path: str | dict[str, str],
    target: str | list[str],
    features: list[str] | None = None,
    drop: list[str] = [],  # noqa: B006  (never changed)
    categories: list[str] = [],  # noqa: B006
    target_kind: TargetKind = "auto",
) -> Source:
    """Reads a table from Parquet: numbers are numbers, texts and truth values are categories.

    Args:
        path: A file, or one for each of train, validation and test.
        target: Column to be predicted, or several: labels if they hold 0 and 1 alone, else numbers.
        features: Columns to learn from; null is all others.
        drop: Columns to leave out.
        categories: Columns of numbers that stand for something, such as a postcode.
        target_kind: What the target is, where its values do not say.

    Files are read in blocks; columns that grow large go to temporary files.

    Raises:
        ConfigError: A column that is named is not there, or is of a type that is no feature.
        DataError: A file cannot be read, or lacks a column.
    """
    args = TableArgs(target, features, drop, categories, target_kind)
    return read_table(path, _ParquetFile, _find_kinds, args)


class _ParquetFile(TableFile):
    """One Parquet file."""

    def __init__(self, path: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.path = path
        if not Path(path).is_file():
            raise DataError(f"There is no file {path}.", expected="a Parquet file", received=path)
        try:
            self.schema = parquet.read_schema(path)
        except pa.ArrowException as error:
            raise DataError(f"{path} is no Parquet file: {' '.join(str(error).split())}.") from error
        self.names = self.schema.names

    def batches(self, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
        """Yields rows."""
        import pyarrow as pa
        from pyarrow import parquet

        try:
            with parquet.ParquetFile(self.path) as file:
                yield from file.iter_batches(columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.path} is damaged: {' '.join(str(error).split())}.") from error

    def bad_rows(self) -> list[tuple[str, str]]:
        """Returns none: every row of a Parquet file has every column."""
        return []

    def where(self, row: int) -> str:
        """Returns file and row, counted from 1."""
        return f"{self.path}, row {row + 1}"


def _find_kinds(files: Sequence[TableFile], columns: Sequence[str]) -> dict[str, str]:
    """Returns `whole`, `number` or `category` for each column, by its type."""
    kinds: dict[str, str] = {}
    for file in files:
        assert isinstance(file, _ParquetFile)
        for name in columns:
            kind = _find_kind(file, name)
            if kinds.setdefault(name, kind) != kind:
                raise DataError(
                    f"The column '{name}' is {file.schema.field(name).type} in {file.path}, but another type in "
                    f"{files[0].path}; write both alike."
                )
    return kinds


def _find_kind(file: _ParquetFile, name: str) -> str:
    import pyarrow as pa

    kind = file.schema.field(name).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_boolean(value):
        return "category"
    if pa.types.is_integer(value):
        return "whole"
    if pa.types.is_floating(value) or pa.types.is_decimal(value) or pa.types.is_null(value):
        return "number"
    raise ConfigError(
        f"The column '{name}' of {file.path} is {kind}, which is neither numbers nor texts; name it in args.drop, or "
        "write it as a number or a text.",
        expected="numbers, texts or truth values",
        received=str(kind),
    )
