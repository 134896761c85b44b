"""The file to import, copied to a place of its own first: what is read is then what was measured, byte for byte."""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bmp.errors import ArtifactError, NotFoundError, UnsafeError, suggest

_CHUNK_BYTES = 1 << 20
_MAX_BYTES = 16 * 2**30
_MAX_FILES = 10_000


@dataclass(frozen=True)
class Staged:
    """A copy of what is imported.

    Args:
        path: Of the copy.
        sha256: Of the file; of a directory, that of the lines `<sha256> <path>` of its files, sorted by path.
        size_bytes: Of all files.
    """

    path: Path
    sha256: str
    size_bytes: int


def stage(source: Path, directory: Path) -> Staged:
    """Copies a file or a directory into a directory, and returns its digest.

    Raises:
        NotFoundError: There is none.
        UnsafeError: It is too large, or holds links or devices.
        ArtifactError: It cannot be read.
    """
    if not source.exists():
        beside = [path.name for path in source.parent.iterdir()] if source.parent.is_dir() else []
        raise NotFoundError(f"There is no file or directory {source}.{suggest(source.name, beside)}")
    target = directory / (source.name or source.resolve().name)
    try:
        if source.is_dir():
            return _stage_directory(source, target)
        digest, size_bytes = _copy(source, target, _MAX_BYTES)
    except OSError as error:
        raise ArtifactError(f"{source} cannot be read: {error.strerror or error}.") from error
    return Staged(target, digest, size_bytes)


def _stage_directory(source: Path, target: Path) -> Staged:
    lines, total, count = [], 0, 0
    for parent, directories, files in os.walk(source):
        count += len(files) + len(directories)
        if count > _MAX_FILES:
            raise UnsafeError(
                f"{source} holds more than {_MAX_FILES:,} files; a model does not. Name its own directory."
            )
        for name in directories:
            if (Path(parent) / name).is_symlink():
                raise UnsafeError(f"{Path(parent) / name} is a link; a model is made of plain files and directories.")
        place = target / Path(parent).relative_to(source)
        place.mkdir(parents=True, exist_ok=True)
        for name in files:
            digest, size_bytes = _copy(Path(parent) / name, place / name, _MAX_BYTES - total, follow=False)
            total += size_bytes
            lines.append(f"{digest} {(place / name).relative_to(target).as_posix()}")
    text = "".join(f"{line}\n" for line in sorted(lines, key=lambda line: line.partition(" ")[2]))
    return Staged(target, hashlib.sha256(text.encode()).hexdigest(), total)


def _copy(source: Path, target: Path, left_bytes: int, *, follow: bool = True) -> tuple[str, int]:
    """Copies a plain file and returns its digest and size; a link that the user names is followed, none below."""
    flags = os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)  # a pipe does not make us wait
    if not follow and source.is_symlink():
        raise UnsafeError(f"{source} is a link; a model is made of plain files and directories.")
    with os.fdopen(os.open(source, flags), "rb") as reader:
        if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
            raise UnsafeError(f"{source} is neither a plain file nor a directory; a model is made of nothing else.")
        with target.open("xb") as writer:
            return _pump(reader, writer, source, left_bytes)


def _pump(reader: BinaryIO, writer: BinaryIO, source: Path, left_bytes: int) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := reader.read(_CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > left_bytes:
            raise UnsafeError(f"{source} makes the model larger than {_MAX_BYTES / 2**30:g} GiB, which is the most.")
        digest.update(chunk)
        writer.write(chunk)
    return digest.hexdigest(), size_bytes
