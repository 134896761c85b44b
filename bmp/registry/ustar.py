"""The plainest tar there is: POSIX `ustar` with files and directories only, of the same files always the same bytes.

Read and written by hand, not by `tarfile`: whatever is not just what this file would write (links, devices, extended
headers, sparse files, names that lead elsewhere) is refused before a byte of it is unpacked. Nothing is compressed, so
an archive never becomes more than it is.

Reference:
    IEEE Std 1003.1, pax, "ustar Interchange Format".
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from bmp.artifact.guard.limits import Limits
from bmp.artifact.guard.names import check_member_names
from bmp.errors import ArtifactError, UnsafeError

_BLOCK = 512
_END_BYTES = 2 * _BLOCK  # of zeros
_MAX_FILE_BYTES = 8**11 - 1
_FILE, _DIRECTORY = b"0", b"5"
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a named pipe",
    b"S": "a sparse file",
    b"x": "an extended header",
    b"g": "an extended header",
    b"L": "an extended header",
    b"K": "an extended header",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK": "zip"}


@dataclass(frozen=True)
class Member:
    """A file or a directory of an archive.

    Args:
        name: Parts with `/` between them; that of a directory ends with one.
        size_bytes: None of a directory.
        offset: Where its bytes begin.
    """

    name: str
    size_bytes: int | None
    offset: int


def write_member(archive: BinaryIO, name: str, source: BinaryIO | None) -> None:
    """Appends a file, or a directory where there is no source.

    Raises:
        ArtifactError: The name or the file is too long for this form.
    """
    if source is None:
        archive.write(_make_header(f"{name}/", None))
        return
    size = source.seek(0, os.SEEK_END)
    source.seek(0)
    archive.write(_make_header(name, size))
    shutil.copyfileobj(source, archive, 1 << 20)
    archive.write(bytes(-size % _BLOCK))


def write_end(archive: BinaryIO) -> None:
    """Ends an archive."""
    archive.write(bytes(_END_BYTES))


def _make_header(name: str, size_bytes: int | None) -> bytes:
    """Returns the one header of a member: owner, mode and time are always the same."""
    prefix, base = _split_name(name.encode())
    if (size_bytes or 0) > _MAX_FILE_BYTES:
        raise ArtifactError(f"'{name}' has {size_bytes:,} bytes; a tar file of this form holds {_MAX_FILE_BYTES:,}.")
    kind, mode = (_DIRECTORY, 0o755) if size_bytes is None else (_FILE, 0o644)
    begin = base.ljust(100, b"\0") + b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, 0, 0, size_bytes or 0, 0)
    end = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"%07o\0%07o\0" % (0, 0) + prefix.ljust(167, b"\0")
    checksum = sum(begin) + sum(end) + sum(b" " * 8)  # taken with blanks in its own place
    return begin + b"%06o\0 " % checksum + end


def _split_name(name: bytes) -> tuple[bytes, bytes]:
    """Returns what of a long name goes into the header's two fields, of 155 and 100 bytes."""
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", len(name) - 101, len(name) - 1)
    if not 0 < cut <= 155:
        raise ArtifactError(f"The name '{name.decode()}' is too long for a tar file of this form.")
    return name[:cut], name[cut + 1 :]


def unpack(archive: BinaryIO, path: Path, directory: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Writes the members of an archive below an empty directory, after looking at all of them.

    Args:
        archive: A plain file, open for reading.
        path: What it is called in errors.
        directory: Empty, and nobody else's.
        limits: On size and number.

    Raises:
        UnsafeError: There is something else in it than files and directories of plain names, or too much.
        ArtifactError: It is no archive of this form, or is cut short.
    """
    members = list(islice(_read_headers(archive, path, limits), limits.members + 1))
    check_member_names((member.name for member in members), limits)
    for member in members:
        _unpack_member(archive, path, member, directory)


def _read_headers(archive: BinaryIO, path: Path, limits: Limits) -> Iterator[Member]:
    total = os.fstat(archive.fileno()).st_size
    if total > limits.size_bytes:
        raise UnsafeError(f"{path} has {total:,} bytes; at most {limits.size_bytes:,} are read.")
    offset = 0
    while any(block := _read_block(archive, path, offset)):
        member = _read_header(block, path, offset + _BLOCK)
        size = member.size_bytes or 0
        offset = member.offset + size + -size % _BLOCK
        if offset > total:
            raise ArtifactError(f"{path} is cut short: '{member.name}' should have {size:,} bytes.")
        yield member
    if total < offset + _END_BYTES:
        raise ArtifactError(f"{path} is cut short; its end is not whole.")
    if total > offset + _END_BYTES or any(_read_block(archive, path, offset + _BLOCK)):
        raise UnsafeError(f"{path} goes on after its end, at byte {offset:,}.")


def _read_block(archive: BinaryIO, path: Path, offset: int) -> bytes:
    archive.seek(offset)
    block = archive.read(_BLOCK)
    if len(block) != _BLOCK:
        raise _explain_foreign(block, path) if offset == 0 else ArtifactError(f"{path} is cut short; it has no end.")
    return block


def _read_header(block: bytes, path: Path, offset: int) -> Member:
    kind = block[156:157]
    if block[257:262] == b"ustar" and kind in _KINDS:
        name = block[:100].rstrip(b"\0").decode(errors="replace")
        raise UnsafeError(f"{path} holds {_KINDS[kind]}, {name!r}; a version holds files and directories only.")
    try:
        names = [field.rstrip(b"\0").decode() for field in (block[345:500], block[:100])]
        size = int(block[124:135], 8) if kind == _FILE else None
        member = Member("/".join(filter(None, names)), size, offset)
        if member.name.endswith("/") == (size is None) and _make_header(member.name, size) == block:
            return member
    except (ValueError, ArtifactError):  # no text, no number, or none that we would write
        pass
    raise _explain_foreign(block, path)


def _explain_foreign(block: bytes, path: Path) -> ArtifactError:
    packed = next((kind for magic, kind in _COMPRESSED.items() if block.startswith(magic)), None)
    if packed is not None:
        return ArtifactError(f"{path} is compressed ({packed}); unpack it to the tar file that was exported.")
    return ArtifactError(f"{path} is no tar file as 'bmp models export' writes them, or it has been altered.")


def _unpack_member(archive: BinaryIO, path: Path, member: Member, directory: Path) -> None:
    target = directory / member.name
    if member.size_bytes is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    archive.seek(member.offset)
    left = member.size_bytes
    with target.open("xb") as file:
        while left:
            chunk = archive.read(min(left, 1 << 20))
            if not chunk:
                raise ArtifactError(f"{path} is cut short: '{member.name}' should have {member.size_bytes:,} bytes.")
            left -= file.write(chunk)
