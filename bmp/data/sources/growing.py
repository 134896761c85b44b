"""Columns that grow as a file is read: in memory while they are small, in a temporary file beyond that."""

import tempfile
from typing import IO

import numpy as np

MEMORY_BYTES = 64 << 20
"""How large one column may grow before it moves to a file."""


class Growing:
    """A one-dimensional array of unknown length.

    The file has no name and is gone with the array. Its pages are the system's to keep or to drop.

    Args:
        dtype: Of its values.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._chunks: list[np.ndarray] = []
        self._length = 0
        self._file: IO[bytes] | None = None

    def append(self, values: np.ndarray) -> None:
        """Adds values at the end."""
        self._chunks.append(values.astype(self._dtype, copy=False))
        self._length += len(values)
        if self._file is not None or self._length * self._dtype.itemsize > MEMORY_BYTES:
            self._move()

    def _move(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="bmp-column-")  # noqa: SIM115  (finish closes it)
        for chunk in self._chunks:
            self._file.write(np.ascontiguousarray(chunk).data)
        self._chunks.clear()

    def finish(self) -> np.ndarray:
        """Returns the whole array; nothing can be appended any more."""
        if self._file is None:
            return np.concatenate([np.empty(0, self._dtype), *self._chunks])
        self._file.flush()
        with self._file:  # the mapping keeps the file alive
            return np.memmap(self._file, self._dtype, mode="r", shape=(self._length,))


class Texts:
    """A growing column of texts of which many are the same: each different one is kept once."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._codes = Growing("int32")

    def append(self, codes: np.ndarray, dictionary: list[str]) -> None:
        """Adds texts, as indices `(n,)` into a dictionary of their own."""
        known = [self._index.setdefault(text, len(self._index)) for text in dictionary]
        self._codes.append(np.array(known, np.int32)[codes] if known else codes)

    def finish(self) -> "CodedTexts":
        """Returns the whole column."""
        return CodedTexts(self._codes.finish(), np.array(list(self._index), object))


class CodedTexts:
    """Texts by number, each different one stored once.

    Args:
        codes: int32 `(N,)`.
        texts: Different texts, objects `(T,)`.
    """

    dtype = np.dtype(object)

    def __init__(self, codes: np.ndarray, texts: np.ndarray) -> None:
        self.codes = codes
        self.texts = texts

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        return self.texts[self.codes[index]]
