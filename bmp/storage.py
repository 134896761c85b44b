"""Files that survive a crash: written aside, synced, then renamed into place."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_PLAIN = "A symbolic link, or no plain file or directory"


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
    """Appends bytes to a file and waits until they are on the disk; where that fails, the file is as it was."""
    if not path.exists():
        path.touch()
        sync_directory(path.parent)
    with path.open("ab", buffering=0) as file:
        end = file.tell()
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except BaseException:
            file.truncate(end)
            raise


def make_directory(path: Path) -> None:
    """Makes a directory and those above it, and waits until their names are on the disk."""
    if path.is_dir():
        return
    make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def read_plain(path: Path, *, below: Path | None = None, offset: int = 0) -> bytes:
    """Reads a plain file; a symbolic link is not followed.

    Args:
        path: Of the file.
        below: A directory above it; no directory between the two may be a link either. By default its own.
        offset: Where to start, in bytes.

    Raises:
        OSError: There is no such file, or something on the way to it is a link or of another kind.
    """
    below = below or path.parent
    *directories, name = path.relative_to(below).parts
    with ExitStack() as stack:
        parent = _open_step(stack, str(below), os.O_DIRECTORY)
        for directory in directories:
            parent = _open_step(stack, directory, os.O_DIRECTORY | os.O_NOFOLLOW, parent)
        descriptor = _open_step(stack, name, os.O_NOFOLLOW | os.O_NONBLOCK, parent)  # a pipe must not hold it up
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, _NOT_PLAIN, str(path))
        with open(descriptor, "rb", closefd=False) as file:
            file.seek(offset)
            return file.read()


def _open_step(stack: ExitStack, name: str, flags: int, parent: int | None = None) -> int:
    """Opens one step of a path, until the stack is left."""
    try:
        descriptor = os.open(name, os.O_RDONLY | flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise OSError(error.errno, _NOT_PLAIN, name) from error
        raise
    stack.callback(os.close, descriptor)
    return descriptor


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
