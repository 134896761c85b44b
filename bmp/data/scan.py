"""One look at every example before the split: what identifies it, and whether it can be used."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bmp.data.content import HASH_BYTES, check_form, find_bad_features, find_bad_targets, hash_examples
from bmp.data.source import BadExampleError, Source
from bmp.errors import DataError
from bmp.transforms import Field, Step

_CHUNK_BYTES = 16 << 20
_LARGEST_CHUNK = 4096
_FILES_A_CHUNK = 128
_SHOWN_FROM = 5_000


@dataclass(frozen=True)
class Bad:
    """An example that cannot be used: its number in the source, where a person finds it, and what is wrong."""

    number: int
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass(frozen=True)
class Scan:
    """What one look at a source found.

    Args:
        good: Numbers of the usable examples, int64 `(n,)`, ascending.
        hashes: Digest of the features of each of them, uint8 `(n, 16)`.
        classes: Class of each of them, int64 `(n,)`; None where the target is no class.
        bad: The others, ascending.
        digest: SHA-256 of all that is usable: fields, labels, contents and targets.
    """

    good: np.ndarray
    hashes: np.ndarray
    classes: np.ndarray | None
    bad: tuple[Bad, ...]
    digest: str


def chunk_size(source: Source) -> int:
    """Returns how many examples to read at a time: some megabytes of tensors, or a hundred files."""
    if any(field.kind in ("image", "audio") for field in source.fields):
        return _FILES_A_CHUNK
    example_bytes = sum(_example_bytes(field) for field in source.fields) + 4 * source.target.width
    return max(1, min(_LARGEST_CHUNK, _CHUNK_BYTES // example_bytes))


def _example_bytes(field: Field) -> int:
    if field.kind == "text":
        return 1024
    return int(np.prod(field.shape)) * np.dtype(field.dtype).itemsize if field.kind == "tensor" else 16


def scan_source(source: Source, steps: Sequence[Step] = (), console: Console | None = None) -> Scan:
    """Reads every example once, a chunk at a time, and finds those that cannot be used.

    Features whose digests are stored were looked at when they were stored, and are read again only where a number
    may be missing that no step fills in.

    Args:
        source: The examples.
        steps: Of the transforms; one of kind `fill` makes a missing number usable.
        console: Where a long look shows its progress; None shows nothing.

    Raises:
        DataError: The source holds no example, or gives other features than it promises.
    """
    if not len(source):
        raise DataError("The source holds no example.")
    look = _Look(source, frozenset(name for step in steps if step.kind == "fill" for name in _names(step)))
    size = chunk_size(source)
    with ExitStack() as stack:
        progress = None
        if console is not None and len(source) >= _SHOWN_FROM:
            progress = stack.enter_context(Progress(console=console, transient=True))
            task = progress.add_task("looking at the examples", total=len(source))
        for start in range(0, len(source), size):
            look.take(np.arange(start, min(start + size, len(source)), dtype=np.int64))
            if progress is not None:
                progress.update(task, completed=start + size)
    return look.finish()


def _names(step: Step) -> Sequence[str]:
    return getattr(step, "fields", ())


class _Look:
    """Gathers what the chunks of a source hold."""

    def __init__(self, source: Source, filled: frozenset[str]) -> None:
        self._source = source
        self._filled = filled
        self._may_miss = any(field.kind == "number" and field.name not in filled for field in source.fields)
        self._good: list[np.ndarray] = [np.empty(0, np.int64)]
        self._hashes: list[np.ndarray] = [np.empty((0, HASH_BYTES), np.uint8)]
        self._classes: list[np.ndarray] = [np.empty(0, np.int64)]
        self._bad: list[Bad] = []
        self._targets_sha = sha256()

    def take(self, numbers: np.ndarray) -> None:
        """Looks at some examples; halves them until one that cannot be read stands alone."""
        try:
            hashes, bad = self._look_at_features(numbers)
            targets, wrong = self._look_at_targets(numbers)
        except BadExampleError as error:
            if len(numbers) == 1:
                self._bad.append(Bad(int(numbers[0]), error.where, error.reason))
                return
            self.take(numbers[: len(numbers) // 2])
            self.take(numbers[len(numbers) // 2 :])
            return
        bad = wrong | bad
        for position, reason in sorted(bad.items()):
            number = int(numbers[position])
            self._bad.append(Bad(number, self._source.where(number), reason))
        keep = np.setdiff1d(np.arange(len(numbers)), list(bad))
        self._good.append(numbers[keep])
        self._hashes.append(hashes[keep])
        self._remember_targets(targets[keep])

    def _look_at_features(self, numbers: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        stored = self._source.read_hashes(numbers)
        if stored is not None and not self._may_miss:
            return stored, {}
        columns = self._source.read(numbers)
        check_form(columns, self._source.fields, len(numbers))
        bad = find_bad_features(columns, self._source.fields, self._filled)
        return hash_examples(columns, self._source.fields) if stored is None else stored, bad

    def _look_at_targets(self, numbers: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        if self._source.overlaps:  # each target is a feature of a neighbour: the hashes know it
            return np.empty((len(numbers), 0), np.int32), {}
        targets = self._source.read_targets(numbers)
        return targets, find_bad_targets(targets, self._source.target)

    def _remember_targets(self, targets: np.ndarray) -> None:
        self._targets_sha.update(np.ascontiguousarray(targets, targets.dtype.newbyteorder("<")).tobytes())
        if self._source.target.kind == "class":
            self._classes.append(targets)

    def finish(self) -> Scan:
        """Returns what was found."""
        target = self._source.target
        hashes = np.concatenate(self._hashes)
        sha = sha256()
        for field in sorted(self._source.fields, key=lambda field: field.name):
            sha.update(f"{sorted(field.to_dict().items())}\n".encode())
        sha.update("\n".join((target.kind, str(target.width), *target.labels)).encode())
        sha.update(hashes.tobytes())
        sha.update(self._targets_sha.digest())
        classes = np.concatenate(self._classes) if target.kind == "class" else None
        return Scan(np.concatenate(self._good), hashes, classes, tuple(self._bad), sha.hexdigest())


def check_policy(scan: Scan, on_bad_example: Literal["stop", "skip"], max_bad_fraction: float) -> None:
    """Checks that the usable examples may be used without the others.

    Raises:
        DataError: There are bad examples and the policy is to stop, or they are too many to be skipped.
    """
    if not scan.bad:
        return
    first, count, total = scan.bad[0], len(scan.bad), len(scan.bad) + len(scan.good)
    more = f", and {count - 1:,} more" if count > 1 else ""
    if on_bad_example == "stop":
        raise DataError(
            f"{total:,} examples hold {'one' if count == 1 else count} that cannot be used: {first}{more}. Mend or "
            "remove it, or leave such examples out with data.on_bad_example: skip.",
            expected="usable examples",
            received=str(first),
        )
    if not len(scan.good):
        raise DataError(f"None of the {total:,} examples can be used; the first: {first}.")
    if count > max_bad_fraction * total:
        raise DataError(
            f"{count:,} of {total:,} examples ({count / total:.1%}) cannot be used, more than data.max_bad_fraction "
            f"({max_bad_fraction:.1%}) allows; the first: {first}.",
            expected=f"at most {max_bad_fraction:.1%}",
            received=f"{count / total:.1%}",
        )
