"""Files that survive a crash: written aside, synced, then renamed into place."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside its place: it comes there whole and synced at the end, or not at all."""
    aside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with aside.open("xb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file: a reader, or a machine after a power cut, sees the old bytes or the new, never a mix."""
    with open_atomically(path) as file:
        file.write(data)


def append_durably(path: Path, line: bytes) -> None:
    """Appends bytes to a file and waits until they are on the disk."""
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_directory(path.parent)


def sync_tree(directory: Path) -> None:
    """Waits until every file and directory below, and the directory itself, are on the disk."""
    for parent, _, files in os.walk(directory, topdown=False):
        for name in files:
            with (Path(parent) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(parent))


def sync_directory(directory: Path) -> None:
    """Waits until the entries of a directory (creations, renames) are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException | None) -> bool:
    """Says whether an error, or one that led to it, is that of a full disk, a spent quota or a limited file.

    TensorFlow and HDF5 raise errors of their own without a number; their text holds that of the system.
    """
    while error is not None:
        if getattr(error, "errno", None) in _FULL or any(os.strerror(number) in str(error) for number in _FULL):
            return True
        error = error.__cause__
    return False
