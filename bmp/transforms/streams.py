"""What can be said of a stream of values in one pass and in bounded memory: mean, range, median, counts."""

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

import numpy as np

Value = TypeVar("Value", bound=Hashable)


class Moments:
    """Mean, variance, least and greatest value of each element, in float64; NaN counts as missing.

    Reference:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979, (2.1).
    """

    def __init__(self) -> None:
        self._count = np.zeros(())
        self._mean = np.zeros(())
        self._squares = np.zeros(())  # sum of squared distances from the mean
        self._low = np.full((), np.inf)
        self._high = np.full((), -np.inf)
        self._is_finite = True

    def add(self, batch: np.ndarray) -> None:
        """Takes in a batch of numbers `(N, …)`."""
        values = np.asarray(batch, np.float64)
        known = np.isfinite(values)
        self._is_finite &= not np.isinf(values).any()
        count = known.sum(0).astype(np.float64)
        mean = np.where(known, values, 0).sum(0) / np.maximum(count, 1)
        squares = np.square(np.where(known, values, mean) - mean).sum(0)
        total = self._count + count
        share = count / np.maximum(total, 1)
        apart = mean - self._mean
        self._squares = self._squares + squares + np.square(apart) * self._count * share
        self._mean = self._mean + apart * share
        self._count = total
        self._low = np.minimum(self._low, np.where(known, values, np.inf).min(0, initial=np.inf))
        self._high = np.maximum(self._high, np.where(known, values, -np.inf).max(0, initial=-np.inf))

    @property
    def is_complete(self) -> bool:
        """Whether every element had a value at least once."""
        return bool(np.all(self._count > 0))

    @property
    def is_finite(self) -> bool:
        """Whether no value was infinite."""
        return self._is_finite

    @property
    def mean(self) -> np.ndarray:
        """Of each element."""
        return self._mean

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of each element, of the values as a population."""
        return np.sqrt(self._squares / np.maximum(self._count, 1))

    @property
    def low(self) -> np.ndarray:
        """Least value of each element."""
        return self._low

    @property
    def high(self) -> np.ndarray:
        """Greatest value of each element."""
        return self._high


class MedianSample:
    """The median of a stream: exact for up to `size` values, from a seeded uniform sample of that many above.

    Every value gets a random key and the values with the least keys are kept, which is a uniform sample without
    replacement (Vitter: Random sampling with a reservoir, 1985, section 2). The rank of the median then errs by
    `0.5 / sqrt(size)` of the stream (one standard deviation): a tenth of a percent for the default.
    """

    def __init__(self, size: int = 1 << 18) -> None:
        self._size = size
        self._random = np.random.default_rng(0)
        self._values = np.empty(0)
        self._keys = np.empty(0)

    def add(self, batch: np.ndarray) -> None:
        """Takes in a batch of numbers `(N,)`; NaN counts as missing."""
        values = np.asarray(batch, np.float64)
        values = values[~np.isnan(values)]
        self._values = np.concatenate([self._values, values])
        self._keys = np.concatenate([self._keys, self._random.random(len(values))])
        if len(self._values) > self._size:
            keep = np.argpartition(self._keys, self._size)[: self._size]
            self._values, self._keys = self._values[keep], self._keys[keep]

    def __len__(self) -> int:
        return len(self._values)

    @property
    def median(self) -> float:
        """Of the values so far; there is at least one."""
        return float(np.median(self._values))


class BoundedCounter(Generic[Value]):
    """Counts values, exactly while there are no more than twice `size` different ones.

    Above that, the `size` most frequent are kept and every count is lowered by that of the next one, so that a count
    is at most `N / size` too low after N values: whatever is more frequent than that is never lost.

    Reference:
        Agarwal, Cormode, Huang, Phillips, Wei, Yi: Mergeable summaries, 2012, section 2 (of Misra and Gries, 1982).
    """

    def __init__(self, size: int = 1 << 20) -> None:
        self._size = size
        self._counts: Counter[Value] = Counter()

    def add(self, values: Iterable[Value]) -> None:
        """Counts every value of a batch."""
        self._counts.update(values)
        self._shrink()

    def add_counts(self, values: Iterable[Value], counts: Iterable[int]) -> None:
        """Takes in values that were counted already."""
        for value, count in zip(values, counts, strict=True):
            self._counts[value] += count
        self._shrink()

    def _shrink(self) -> None:
        if len(self._counts) > 2 * self._size:
            least = sorted(self._counts.values(), reverse=True)[self._size]
            self._counts = Counter({value: count - least for value, count in self._counts.items() if count > least})

    def __len__(self) -> int:
        return len(self._counts)

    def most_common(self, limit: int | None = None) -> list[Value]:
        """Returns the values by falling count, equal counts in the order of the values themselves."""
        ranked = sorted(self._counts, key=lambda value: (-self._counts[value], value))
        return ranked[:limit]
