"""Missing values filled in."""

from collections.abc import Iterable
from typing import Literal, Self

import numpy as np

from bmp.errors import ConfigError, DataError
from bmp.transforms.base import Columns, Fields, Names, Numbers, Step
from bmp.transforms.streams import BoundedCounter, MedianSample
from bmp.transforms.tabular import flatten, gather_moments

_MEASURES = ("mean", "median", "most_frequent")


class Fill(Step):
    """Puts a value where one is missing: NaN in numbers and tensors, an empty text in categories and texts."""

    kind: Literal["fill"] = "fill"
    fields: Names
    """Numbers; tensors of floats (with `mean` or a number, each element on its own); categories (with
    `most_frequent` or a text); texts (with a text)."""
    value: Literal["mean", "median", "most_frequent"] | float | str = "mean"
    """What is put in: `mean`, `median` or `most_frequent` of the training split, or a number or text of your own.

    The mean is exact. The median is exact for up to 262,144 values, a seeded sample of that many above. The most
    frequent value is exact for up to 2 million different ones; equal counts go to the least value."""
    fitted: dict[str, Numbers | str] | None = None
    """What is put in, by feature; given by `value`, or fitted."""

    @property
    def is_fitted(self) -> bool:
        """Whether it is known what to put in."""
        return self.fitted is not None or self.value not in _MEASURES

    def filling(self, name: str) -> Numbers | str:
        """Returns what is put into a feature: a text, or numbers, one or one for each element."""
        if self.fitted is not None:
            return self.fitted[name]
        return self.value if isinstance(self.value, str) else (float(self.value),)

    def plan(self, fields: Fields) -> Fields:
        """Nothing changes but the values."""
        for name in self.fields:
            field = self.find(fields, name, "number", "tensor", "category", "text")
            takes: dict[str, tuple[object, ...]] = {
                "number": _MEASURES,
                "tensor": ("mean",),
                "category": ("most_frequent",),
                "text": (),
            }
            is_numeric = field.kind in ("number", "tensor")
            is_constant = isinstance(self.value, float | int) if is_numeric else self.value not in _MEASURES
            if field.kind == "tensor" and not np.issubdtype(np.dtype(field.dtype), np.floating):
                raise ConfigError(f"The transform 'fill' fills in NaN, but the tensor '{name}' is {field.dtype}.")
            if self.value in takes[field.kind] or (is_constant and is_numeric != isinstance(self.value, str)):
                continue
            choices = ", ".join([*map(str, takes[field.kind]), "a number" if is_numeric else "a text"])
            raise ConfigError(
                f"The transform 'fill' cannot put {self.value!r} into '{name}', which is of kind {field.kind}; "
                f"expected {choices}.",
                expected=choices,
                received=repr(self.value),
            )
        return fields

    def fit(self, batches: Iterable[Columns]) -> Self:
        """One pass over the values that are there.

        Raises:
            DataError: A feature has no value at all, or an infinite one.
        """
        if self.value == "mean":
            moments = gather_moments(self.kind, self.fields, batches)
            fitted: dict[str, Numbers | str] = {name: flatten(found.mean) for name, found in moments.items()}
        elif self.value == "median":
            fitted = self._fit_medians(batches)
        else:
            fitted = self._fit_most_frequent(batches)
        return self.model_copy(update={"fitted": fitted})

    def _fit_medians(self, batches: Iterable[Columns]) -> dict[str, Numbers | str]:
        samples = {name: MedianSample() for name in self.fields}
        for columns in batches:
            for name, sample in samples.items():
                sample.add(columns[name])
        medians: dict[str, Numbers | str] = {}
        for name, sample in samples.items():
            self._check_any(name, len(sample))
            if not np.isfinite(sample.median):
                raise DataError(f"The median of the feature '{name}' is infinite in the training split.")
            medians[name] = (sample.median,)
        return medians

    def _fit_most_frequent(self, batches: Iterable[Columns]) -> dict[str, Numbers | str]:
        counters: dict[str, BoundedCounter] = {name: BoundedCounter() for name in self.fields}
        for columns in batches:
            for name, counter in counters.items():
                column = columns[name]
                known = column[~np.isnan(column)] if column.dtype.kind == "f" else column[column != ""]
                counter.add(known.tolist())
        fitted: dict[str, Numbers | str] = {}
        for name, counter in counters.items():
            self._check_any(name, len(counter))
            value = counter.most_common(1)[0]
            fitted[name] = value if isinstance(value, str) else (float(value),)
        return fitted

    def _check_any(self, name: str, count: int) -> None:
        if not count:
            raise DataError(
                f"The feature '{name}' has no value in the training split for 'fill' to be fitted to; leave it out, "
                "or give fill.value."
            )

    def run(self, columns: Columns) -> Columns:
        """Features `(N, …)` in and out."""
        return columns | {name: self._run_column(columns[name], self.filling(name)) for name in self.fields}

    def _run_column(self, column: np.ndarray, filling: Numbers | str) -> np.ndarray:
        if isinstance(filling, str):
            return np.where(column == "", np.array(filling, object), column)
        numbers = np.asarray(filling, column.dtype)
        return np.where(np.isnan(column), numbers.reshape(column.shape[1:] if numbers.size > 1 else ()), column)
