"""Examples in arrays, in memory or mapped from a file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from bmp.data.source import BadExampleError, Source, Target
from bmp.errors import DataError
from bmp.transforms import Columns, Field


class Column(Protocol):
    """What stands in for an array of one feature: `column[numbers]` gives an array `(n, …)`."""

    def __len__(self) -> int:
        """Returns the number of examples."""

    def __getitem__(self, index: np.ndarray, /) -> np.ndarray:
        """Returns some of them."""


class ArraySource(Source):
    """Examples that stand in arrays, one for each feature.

    Args:
        columns: `(N, …)` by name; numbers may be of any dtype and are converted when they are read, so that an array
            mapped from a file stays there.
        fields: What they are.
        targets: `(N, …)`, as `target` says.
        target: What is to be predicted.
        given: Numbers of the splits that the data comes in.
        where: From the number of an example to where a person finds it.
        bad: What is wrong with examples that cannot be read, by number.

    Raises:
        DataError: The arrays disagree on the number of examples.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        fields: tuple[Field, ...],
        targets: np.ndarray,
        target: Target,
        *,
        given: Mapping[str, np.ndarray] | None = None,
        where: Callable[[int], str] = "example {}".format,
        bad: Mapping[int, str] | None = None,
    ) -> None:
        for field in fields:
            if len(columns[field.name]) != len(targets):
                raise DataError(
                    f"The feature '{field.name}' has {len(columns[field.name])} examples, but there are "
                    f"{len(targets)} targets; expected one for each."
                )
        self.fields = fields
        self.target = target
        self.given = given or {}
        self._columns = columns
        self._targets = targets
        self._where = where
        self._bad = bad or {}
        self._bad_numbers = np.fromiter(self._bad, np.int64, len(self._bad))

    def __len__(self) -> int:
        return len(self._targets)

    def read(self, index: np.ndarray) -> Columns:
        """Returns the features of some examples."""
        self._check(index)
        return {field.name: self._read(field, index) for field in self.fields}

    def _read(self, field: Field, index: np.ndarray) -> np.ndarray:
        values = self._columns[field.name][index]
        return np.asarray(values, field.dtype if field.kind in ("number", "tensor") else object)

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the targets of some examples."""
        self._check(index)
        return np.asarray(self._targets[index])

    def _check(self, index: np.ndarray) -> None:
        if len(self._bad_numbers):
            for number in map(int, index[np.isin(index, self._bad_numbers)]):
                raise BadExampleError(number, self.where(number), self._bad[number])

    def where(self, number: int) -> str:
        """Returns where an example comes from."""
        return self._where(number)


class Stacked:
    """Arrays put one behind the other without being copied.

    Args:
        arrays: `(N_i, …)` each.
        name: What they are called together.

    Raises:
        DataError: Their examples have different shapes, or some are texts and some numbers.
    """

    def __init__(self, arrays: Sequence[np.ndarray], name: str) -> None:
        if len({array.shape[1:] for array in arrays}) > 1 or len({array.dtype.kind in "OUS" for array in arrays}) > 1:
            forms = ", ".join(f"{array.dtype} {array.shape}" for array in arrays)
            raise DataError(f"The parts of '{name}' are {forms}; expected examples of one shape.")
        self.dtype = np.result_type(*arrays)
        self.shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
        self._arrays = arrays
        self._starts = np.cumsum([0, *map(len, arrays)])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(len(self))[index]
        values = np.empty((len(index), *self.shape[1:]), self.dtype)
        for array, start, end in zip(self._arrays, self._starts, self._starts[1:], strict=False):
            inside = (start <= index) & (index < end)
            values[inside] = array[index[inside] - start]
        return values
