"""How much memory loaded models may take, what each takes, and which go first when it is too much."""

import ctypes
import gc
import os
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from bmp.artifact.manifest import Manifest
from bmp.artifact.saved_model import SAVED_MODEL_FILE, is_saved_model_file

_GRACE_S = 3.0
_LITERT_FACTOR, _SAVED_MODEL_FACTOR = 5, 2
"""Bytes in memory for each byte of the files, before a model was ever weighed. Measured with 4 to 36 MB of weights: a
`.tflite` file takes itself, and its weights once more for each batch size that it is set up for, 4 to 6.3 in all; a
SavedModel 1.1 to 1.7."""


class Key(NamedTuple):
    """One thing that is loaded, or not.

    Args:
        name: Of a model.
        number: Of its version.
        variant: Of that.
    """

    name: str
    number: int
    variant: str

    def __str__(self) -> str:
        return f"{self.name}/{self.number}, variant {self.variant}"


class Budget:
    """Memory for loaded models, and when each was used last.

    What is loaded because a request asked for it stays until it has answered one, or some seconds have passed: clients
    come back a second later, and two that ask in turn must not take each other's model away before it has answered.

    Args:
        limit_bytes: That all of them may take.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._sizes: dict[Key, int] = {}
        self._used: dict[Key, float] = {}
        self._fresh: dict[Key, float] = {}  # until when what was asked for is kept, if it has not answered

    def touch(self, key: Key) -> None:
        """Says that something is used now."""
        self._used[key] = time.monotonic()
        self._fresh.pop(key, None)

    def enter(self, key: Key, size_bytes: int, *, asked: bool) -> None:
        """Says that something was loaded, what it takes, and whether a request waits for it."""
        self._sizes[key] = size_bytes
        self._used[key] = now = time.monotonic()
        if asked:
            self._fresh[key] = now + _GRACE_S

    def forget(self, name: str, number: int) -> None:
        """Says that a version will not come back."""
        for known in (self._sizes, self._used, self._fresh):
            for key in [key for key in known if key[:2] == (name, number)]:
                del known[key]

    def size_of(self, key: Key, manifest: Manifest) -> int:
        """Returns what something takes: as measured when it was loaded before, else by its files."""
        return self._sizes.get(key) or estimate_bytes(manifest, key.variant)

    def total(self, held: Iterable[Key]) -> int:
        """Returns what things take that are loaded, in bytes."""
        return sum(self._sizes.get(key, 0) for key in held)

    def fits(self, held: Collection[Key], more_bytes: int = 0) -> bool:
        """Tells whether there is room for so much more; where nothing is loaded there always is."""
        return not held or self.total(held) + more_bytes <= self.limit_bytes

    def choose(self, held: Collection[Key], more_bytes: int, spared: Collection[Key]) -> list[Key]:
        """Returns what has to go so that more fits, the least recently used first; it may be too little.

        Args:
            held: What is loaded.
            more_bytes: That is to be loaded.
            spared: What of it must stay.
        """
        gone: list[Key] = []
        excess = self.total(held) + more_bytes - self.limit_bytes
        for key in sorted(held, key=lambda key: self._used.get(key, 0.0)):
            if excess > 0 and key not in spared and not self.is_fresh(key):
                gone.append(key)
                excess -= self._sizes.get(key, 0)
        return gone

    def is_fresh(self, key: Key) -> bool:
        """Tells whether a request asked for something a moment ago, and has not had its answer."""
        return self._fresh.get(key, 0.0) > time.monotonic()


def estimate_bytes(manifest: Manifest, variant: str) -> int:
    """Returns about how much memory a variant will take, by its files."""
    is_graph = manifest.variant(variant).file == SAVED_MODEL_FILE
    return _count_bytes(manifest, variant) * (_SAVED_MODEL_FACTOR if is_graph else _LITERT_FACTOR)


def _count_bytes(manifest: Manifest, variant: str) -> int:
    file = manifest.variant(variant).file
    is_part = is_saved_model_file if file == SAVED_MODEL_FILE else file.__eq__
    return sum(entry.size_bytes for path, entry in manifest.files.items() if is_part(path))


class Scales:
    """Weighs what is loaded meanwhile: `bytes` is how much this process has grown by.

    What requests take at the same time is weighed as well, and less than the files is not believed. Where growth says
    nothing, because TensorFlow came along with its first model, or the system does not tell, it is the estimate.

    Args:
        manifest: Of the version.
        variant: That is loaded.
        is_calm: Whether nothing gives memory back meanwhile; otherwise less than the estimate is not believed either.
    """

    def __init__(self, manifest: Manifest, variant: str, *, is_calm: bool) -> None:
        self.bytes = estimate_bytes(manifest, variant)
        self._least = _count_bytes(manifest, variant) if is_calm else self.bytes

    def __enter__(self) -> "Scales":
        return_memory(cycles=False)  # what was freed before would be taken again, and not be seen
        self._before, self._had_tensorflow = _own_bytes(), "tensorflow" in sys.modules
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return_memory(cycles=False)  # what only loading took
        if self._before and self._had_tensorflow == ("tensorflow" in sys.modules):
            self.bytes = max(_own_bytes() - self._before, self._least)


def _own_bytes() -> int:
    """Returns the memory that this process has by itself, code and files apart; 0 where the system does not say."""
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_bytes().split())
    except OSError:
        return 0
    return int(resident - shared) * os.sysconf("SC_PAGE_SIZE")


def return_memory(*, cycles: bool) -> None:
    """Gives back to the system what was freed; glibc would keep much of it, in pieces too small for the next model.

    Args:
        cycles: Whether what was dropped refers to itself, as TensorFlow's functions do: then Python has to look for it.
    """
    if cycles:
        gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none, and keep less
    if trim is not None:
        trim(0)
