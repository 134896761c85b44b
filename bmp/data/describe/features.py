"""What is in one feature, counted batch by batch."""

import io
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from bmp.transforms import Field
from bmp.transforms.audio import decode_wav

_MOST_ELEMENTS = 32
"""Numbers of a row that are told one by one."""
_MOST_VALUES = 100_000
"""Different categories that are counted; of more, only how many examples there were."""


@dataclass(frozen=True)
class FeatureFacts:
    """What is in one feature.

    Args:
        field: What it is.
        missing: Values that are not there.
        measure: What the range is of: `value`, `characters`, `pixels wide`, `seconds`.
        low: Least value.
        high: Greatest value.
        mean: Of all values.
        std: Standard deviation of all values.
        counts: Of categories, or of forms of images and sounds, the most frequent first.
    """

    field: Field
    missing: int
    measure: str
    low: float = np.nan
    high: float = np.nan
    mean: float = np.nan
    std: float = np.nan
    counts: tuple[tuple[str, int], ...] = ()


class Tally(ABC):
    """Counts what stands in a feature.

    Args:
        field: The feature.
    """

    measure = "value"

    def __init__(self, field: Field) -> None:
        self.field = field
        self._missing = 0
        self._low, self._high = np.inf, -np.inf
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._counts: Counter[str] = Counter()

    @abstractmethod
    def take(self, column: np.ndarray) -> None:
        """Takes a batch `(n, …)`."""

    def finish(self) -> "list[FeatureFacts]":
        """Returns what was found, of one feature or of each of its elements."""
        facts = FeatureFacts(self.field, self._missing, self.measure, counts=tuple(self._counts.most_common()))
        if not self._count or self.field.vocabulary is not None:
            return [facts]
        std = float(np.sqrt(self._squares / self._count))
        return [replace(facts, low=self._low, high=self._high, mean=self._mean, std=std)]

    def _take_numbers(self, values: np.ndarray) -> None:
        """Adds numbers to range and moments.

        Reference:
            Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances, 1979.
        """
        if not values.size:
            return
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        mean = float(values.mean(dtype=np.float64))
        squares = float(np.square(values - mean, dtype=np.float64).sum())
        total = self._count + values.size
        self._squares += squares + (mean - self._mean) ** 2 * self._count * values.size / total
        self._mean += (mean - self._mean) * values.size / total
        self._count = total


class _Numbers(Tally):
    def take(self, column: np.ndarray) -> None:
        if column.dtype.kind == "f":
            missing = np.isnan(column)
            self._missing += int(missing.sum())
            column = column[~missing]
        self._take_numbers(column)


class _Elements(Tally):
    """Each number of a short row by itself."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._tallies = [_Numbers(Field(f"{field.name}[{number}]", "number")) for number in range(field.shape[0])]

    def take(self, column: np.ndarray) -> None:
        for number, tally in enumerate(self._tallies):
            tally.take(column[:, number])

    def finish(self) -> list[FeatureFacts]:
        return [facts for tally in self._tallies for facts in tally.finish()]


class _Categories(Tally):
    def take(self, column: np.ndarray) -> None:
        self._missing += int(np.count_nonzero(column == ""))
        self._counts.update(column[column != ""].tolist())
        if len(self._counts) > _MOST_VALUES:
            self._counts = Counter(dict(self._counts.most_common(_MOST_VALUES)))


class _Texts(Tally):
    measure = "characters"

    def take(self, column: np.ndarray) -> None:
        lengths = np.array([len(text) for text in column])
        self._missing += int(np.count_nonzero(lengths == 0))
        self._take_numbers(lengths[lengths > 0])


class _Images(Tally):
    measure = "pixels wide"

    def take(self, column: np.ndarray) -> None:
        import PIL.Image

        widths = []
        for data in column:
            with PIL.Image.open(io.BytesIO(data)) as image:  # reads the header alone
                widths.append(image.width)
                self._counts[f"{image.width} × {image.height} {image.mode}"] += 1
        self._take_numbers(np.array(widths))


class _Sounds(Tally):
    measure = "seconds"

    def take(self, column: np.ndarray) -> None:
        seconds = []
        for data in column:
            samples, rate_hz = decode_wav(data)
            seconds.append(len(samples) / rate_hz)
            self._counts[f"{rate_hz:,} Hz"] += 1
        self._take_numbers(np.array(seconds))


def start_tally(field: Field) -> Tally:
    """Returns an empty tally of a feature."""
    if len(field.shape) == 1 and 1 < field.shape[0] <= _MOST_ELEMENTS and field.vocabulary is None:
        return _Elements(field)
    kinds: dict[str, type[Tally]] = {"category": _Categories, "text": _Texts, "image": _Images, "audio": _Sounds}
    return kinds.get(field.kind, _Numbers)(field)
