"""Categories: looked up in a vocabulary, as an index or as a row of zeros with a one."""

from collections.abc import Iterable
from functools import cached_property
from typing import Literal, Self

import numpy as np
from pydantic import PositiveInt

from bmp.errors import DataError
from bmp.transforms.base import Columns, Field, Fields, Names, Step, Texts
from bmp.transforms.streams import BoundedCounter


class Lookup(Step):
    """What steps with a vocabulary share; index 0 is for everything that is not in it, and for missing values.

    Counting is exact for up to 2 million different values; above that, see `streams.BoundedCounter`.
    """

    fields: Names
    """Categories."""
    max_size: PositiveInt
    """Values of a feature that are kept, the most frequent first; all others become index 0."""
    vocabulary: dict[str, Texts] | None = None
    """Fitted; by feature, the value of each index from 1."""

    @property
    def is_fitted(self) -> bool:
        """Whether the vocabularies are known."""
        return self.vocabulary is not None

    def fit(self, batches: Iterable[Columns]) -> Self:
        """One pass; equal counts stand in the order of the values.

        Raises:
            DataError: A feature has no value at all.
        """
        counters: dict[str, BoundedCounter[str]] = {name: BoundedCounter() for name in self.fields}
        for columns in batches:
            for name, counter in counters.items():
                column = columns[name]
                counter.add(column[column != ""].tolist())
        for name, counter in counters.items():
            if not len(counter):
                raise DataError(
                    f"The feature '{name}' has no value in the training split for '{self.kind}' to be fitted to; "
                    "leave it out."
                )
        vocabulary = {name: tuple(counter.most_common(self.max_size)) for name, counter in counters.items()}
        return self.model_copy(update={"vocabulary": vocabulary})

    def size(self, name: str) -> int:
        """Returns how many indices a feature has, the one for unknown values among them; 0 before fitting."""
        return 0 if self.vocabulary is None else len(self.vocabulary[name]) + 1

    def look_up(self, name: str, column: np.ndarray) -> np.ndarray:
        """Returns the index of each value, int32 `(N,)`."""
        table = self._tables[name]
        return np.fromiter((table.get(value, 0) for value in column), np.int32, len(column))

    @cached_property
    def _tables(self) -> dict[str, dict[str, int]]:
        assert self.vocabulary is not None, "not fitted"
        return {name: {value: i for i, value in enumerate(values, start=1)} for name, values in self.vocabulary.items()}


class OneHot(Lookup):
    """A category becomes float32 `(size,)`: a one at its index, zeros elsewhere."""

    kind: Literal["one_hot"] = "one_hot"
    max_size: PositiveInt = 100

    def plan(self, fields: Fields) -> Fields:
        """Categories become tensors."""
        names = [self.find(fields, name, "category").name for name in self.fields]
        return fields | {name: Field(name, "tensor", "float32", (self.size(name),)) for name in names}

    def run(self, columns: Columns) -> Columns:
        """`(N,)` each in, `(N, size)` out."""
        return columns | {name: self._run_column(name, columns[name]) for name in self.fields}

    def _run_column(self, name: str, column: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(column), self.size(name)), np.float32)
        rows[np.arange(len(column)), self.look_up(name, column)] = 1
        return rows


class Vocabulary(Lookup):
    """A category becomes an index, int32, for an embedding."""

    kind: Literal["vocabulary"] = "vocabulary"
    max_size: PositiveInt = 10_000

    def plan(self, fields: Fields) -> Fields:
        """Categories become whole numbers that know their vocabulary."""
        names = [self.find(fields, name, "category").name for name in self.fields]
        return fields | {name: Field(name, "tensor", "int32", (), self.size(name)) for name in names}

    def run(self, columns: Columns) -> Columns:
        """`(N,)` each in and out."""
        return columns | {name: self.look_up(name, columns[name]) for name in self.fields}
