"""Numbers: missing ones filled, all brought to one scale, many features joined into one input."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import Field as Setting

from bmp.errors import ConfigError, DataError
from bmp.transforms.base import Columns, Field, Fields, Names, Numbers, Step
from bmp.transforms.streams import Moments


class _Scale(Step):
    """`(x - offset) / scale`, computed in float64, element by element of a tensor; the result is float32."""

    fields: Names

    def plan(self, fields: Fields) -> Fields:
        """Numbers stay numbers; tensors become float32."""
        return fields | {name: self._plan_field(fields, name) for name in self.fields}

    def _plan_field(self, fields: Fields, name: str) -> Field:
        field = self.find(fields, name, "number", "tensor")
        if field.vocabulary is not None:
            raise ConfigError(
                f"The transform '{self.kind}' takes numbers, but '{name}' holds indices of a vocabulary. "
                f"Leave it out of {self.kind}.fields."
            )
        return replace(field, dtype="float32")

    def constants(self, name: str) -> tuple[Numbers, Numbers]:
        """Returns offset and scale of a feature, one number for each element of an example."""
        raise NotImplementedError

    def run(self, columns: Columns) -> Columns:
        """Features `(N, …)` in, float32 of the same shape out; a missing number stays one."""
        return columns | {name: self._run_column(name, columns[name]) for name in self.fields}

    def _run_column(self, name: str, column: np.ndarray) -> np.ndarray:
        offset, scale = (np.reshape(numbers, column.shape[1:]) for numbers in self.constants(name))
        return ((column.astype(np.float64) - offset) / scale).astype(np.float32)


class Standardise(_Scale):
    """Mean 0 and standard deviation 1 over the training split; a feature that never varies is divided by 1."""

    kind: Literal["standardise"] = "standardise"
    fields: Names
    """Numbers, or tensors: each element on its own."""
    mean: dict[str, Numbers] | None = None
    """Fitted; by feature, one number for each element."""
    deviation: dict[str, Numbers] | None = None
    """Fitted likewise; never 0."""

    @property
    def is_fitted(self) -> bool:
        """Whether mean and deviation are known."""
        return self.mean is not None and self.deviation is not None

    def fit(self, batches: Iterable[Columns]) -> Self:
        """One pass in float64; missing numbers count for nothing.

        Raises:
            DataError: A feature has no value at all, or an infinite one.
        """
        moments = gather_moments(self.kind, self.fields, batches)
        # A constant's computed deviation may be a rounding error away from 0.
        return self.model_copy(
            update={
                "mean": {name: flatten(found.mean) for name, found in moments.items()},
                "deviation": {
                    name: flatten(np.where(found.high > found.low, found.deviation, 1))
                    for name, found in moments.items()
                },
            }
        )

    def constants(self, name: str) -> tuple[Numbers, Numbers]:
        """Mean and deviation."""
        assert self.mean is not None and self.deviation is not None, "not fitted"
        return self.mean[name], self.deviation[name]


class MinMax(_Scale):
    """The range of the training split becomes 0 to 1; later values may lie outside. A constant becomes 0."""

    kind: Literal["min_max"] = "min_max"
    fields: Names
    """Numbers, or tensors: each element on its own."""
    low: dict[str, Numbers] | None = None
    """Fitted; by feature, one number for each element."""
    high: dict[str, Numbers] | None = None
    """Fitted likewise."""

    @property
    def is_fitted(self) -> bool:
        """Whether the range is known."""
        return self.low is not None and self.high is not None

    def fit(self, batches: Iterable[Columns]) -> Self:
        """One pass; missing numbers count for nothing.

        Raises:
            DataError: A feature has no value at all, or an infinite one.
        """
        moments = gather_moments(self.kind, self.fields, batches)
        return self.model_copy(
            update={
                "low": {name: flatten(found.low) for name, found in moments.items()},
                "high": {name: flatten(found.high) for name, found in moments.items()},
            }
        )

    def constants(self, name: str) -> tuple[Numbers, Numbers]:
        """Least value and width of the range."""
        assert self.low is not None and self.high is not None, "not fitted"
        ranges = zip(self.low[name], self.high[name], strict=True)
        return self.low[name], tuple(high - low if high > low else 1.0 for low, high in ranges)


class Join(Step):
    """Numbers and tensors of an example, flattened and put one after the other: one float32 input `(width,)`."""

    kind: Literal["join"] = "join"
    fields: Names
    """In the order in which they stand in the result."""
    name: str = Setting("features", min_length=1)
    """Of the result."""

    @property
    def writes(self) -> tuple[str, ...]:
        """The result."""
        return (self.name,)

    def plan(self, fields: Fields) -> Fields:
        """The features go, the result comes last."""
        width = sum(int(np.prod(self._find_numbers(fields, name).shape)) for name in self.fields)
        rest = {name: field for name, field in fields.items() if name not in self.fields}
        if self.name in rest:
            raise ConfigError(f"The transform 'join' makes '{self.name}', but a feature has that name; set join.name.")
        return rest | {self.name: Field(self.name, "tensor", "float32", (width,))}

    def _find_numbers(self, fields: Fields, name: str) -> Field:
        field = self.find(fields, name, "number", "tensor")
        if field.vocabulary is not None:
            raise ConfigError(
                f"The transform 'join' takes numbers, but '{name}' holds indices of a vocabulary. Use one_hot in "
                "place of vocabulary, or leave it an input of its own."
            )
        return field

    def run(self, columns: Columns) -> Columns:
        """`(N, …)` each in, `(N, width)` out."""
        count = len(columns[self.fields[0]])
        parts = [columns[name].reshape(count, -1).astype(np.float32) for name in self.fields]
        rest = {name: column for name, column in columns.items() if name not in self.fields}
        return rest | {self.name: np.concatenate(parts, axis=1)}


def gather_moments(kind: str, fields: Iterable[str], batches: Iterable[Columns]) -> dict[str, Moments]:
    """Returns mean, deviation and range of features in one pass.

    Raises:
        DataError: A feature has no value at all, or an infinite one.
    """
    moments = {name: Moments() for name in fields}
    for columns in batches:
        for name, found in moments.items():
            found.add(columns[name])
    for name, found in moments.items():
        if not found.is_finite:
            raise DataError(
                f"The feature '{name}' holds infinity in the training split; '{kind}' needs finite numbers."
            )
        if not found.is_complete:
            raise DataError(
                f"The feature '{name}' has no value in the training split for '{kind}' to be fitted to; leave it out."
            )
    return moments


def flatten(array: np.ndarray) -> Numbers:
    """Returns the numbers of an array, row by row."""
    return tuple(float(number) for number in array.ravel())
