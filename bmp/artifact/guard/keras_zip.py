"""`.keras` files: a zip with a description, a note of which Keras wrote it, and an HDF5 file of weights.

metadata.json      which Keras wrote it
config.json        the network
model.weights.h5   the weights
"""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from bmp.artifact.guard.config import check_config, read_json
from bmp.artifact.guard.hdf5 import open_h5
from bmp.artifact.guard.limits import Limits, check_file
from bmp.artifact.guard.names import check_member_names
from bmp.errors import ArtifactError, UnsafeError

METADATA, CONFIG, WEIGHTS = "metadata.json", "config.json", "model.weights.h5"
_MEMBERS = (METADATA, CONFIG, WEIGHTS)
_LOCAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x05\x06"
_LOCAL_BYTES, _END_BYTES, _COMMENT_BYTES = 30, 22, 65_535
_ENTRY_BYTES = 2_048
"""Of a member in the directory at the end, at most: a name of 512 characters, and room to spare."""
_ENCRYPTED = 1


def check_keras(path: Path, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Checks a Keras model in a `.keras` file: the archive, the description, and the file of weights.

    Args:
        path: To the file.
        limits: On sizes and counts.

    Raises:
        ArtifactError: It is no whole zip, or lacks a member.
        UnsafeError: Unpacking or reading it could do harm.
    """
    with open_keras(path, limits) as archive:
        check_config(archive.read_json(CONFIG), limits)
        archive.read_json(METADATA)
        with open_h5(io.BytesIO(archive.read(WEIGHTS)), f"{WEIGHTS} in {path.name}", limits):
            pass


@contextmanager
def open_keras(path: Path, limits: Limits) -> Iterator["KerasArchive"]:
    """Opens a `.keras` file after checking its members; nothing of it is unpacked to a disk.

    Raises:
        ArtifactError: It is no whole zip, or lacks a member.
        UnsafeError: It has members that Keras does not write, or that become much larger than they are.
    """
    size = check_file(path, limits, "a .keras file")
    with path.open("rb") as content:
        _check_ends(content, size, path.name, limits)
        with _translate(path.name), zipfile.ZipFile(content) as archive:
            members = archive.infolist()
            _check_names(members, path.name, limits)
            _check_members(members, path.name, limits)
            _check_places(content, members, archive.start_dir, path.name)
            yield KerasArchive(archive, path.name, limits)


class KerasArchive:
    """The members of a `.keras` file that has been checked."""

    def __init__(self, archive: zipfile.ZipFile, name: str, limits: Limits) -> None:
        self._archive, self._name, self._limits = archive, name, limits

    def read(self, member: str) -> bytes:
        """Returns the content of a member; not more than the archive says it has."""
        with _translate(self._name):
            return self._archive.read(member)

    def read_json(self, member: str) -> Any:
        """Returns what a member in JSON says.

        Raises:
            ArtifactError: It is no JSON.
            UnsafeError: It is too large or nests too deep.
        """
        what = f"{member} in {self._name}"
        size = self._archive.getinfo(member).file_size
        if size > self._limits.config_bytes:
            raise UnsafeError(f"{what} has {size:,} bytes; up to {self._limits.config_bytes:,} are read.")
        return read_json(self.read(member), what, self._limits)


@contextmanager
def _translate(name: str) -> Iterator[None]:
    """Turns what zipfile raises on damaged files into one sentence."""
    try:
        yield
    except ArtifactError:
        raise
    except (
        *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, KeyError),
        *(ValueError, RuntimeError, OverflowError, NotImplementedError, MemoryError),
    ) as error:
        raise ArtifactError(f"{name} is no whole .keras file: {' '.join(str(error).split())[:200]}.") from error


def _check_ends(content: BinaryIO, size: int, name: str, limits: Limits) -> None:
    """Checks that the file begins and ends as a zip, and that its directory is not too large to be read."""
    if content.read(len(_LOCAL_MAGIC)) != _LOCAL_MAGIC:
        raise ArtifactError(
            f"{name} is no .keras file: it does not begin as a zip archive. A model in HDF5 should be named .h5.",
            expected="a zip archive",
            received="other bytes",
        )
    content.seek(max(0, size - _END_BYTES - _COMMENT_BYTES))
    tail = content.read()
    start = tail.rfind(_END_MAGIC)
    if start < 0 or len(tail) - start < _END_BYTES:
        raise ArtifactError(f"{name} is no whole .keras file: it does not end as a zip archive.")
    count, directory_bytes = struct.unpack_from("<HI", tail, start + 10)
    if count > limits.members or directory_bytes > limits.members * _ENTRY_BYTES:
        raise UnsafeError(
            f"{name} has {count:,} members in a directory of {directory_bytes:,} bytes; a .keras file has three.",
            expected="3 members",
            received=f"{count:,} members",
        )


def _check_names(members: list[zipfile.ZipInfo], name: str, limits: Limits) -> None:
    names = [member.orig_filename for member in members]
    check_member_names(names, limits)
    foreign = sorted(set(names) - set(_MEMBERS))
    if foreign:
        raise UnsafeError(
            f"{name} has the member '{foreign[0]}', which no layer that is rebuilt from a file can have written: a "
            f".keras file holds {', '.join(_MEMBERS)}. Layers that keep a vocabulary write assets; leave them out of "
            "the network.",
            expected=", ".join(_MEMBERS),
            received=foreign[0],
        )
    missing = [member for member in _MEMBERS if member not in names]
    if missing:
        raise ArtifactError(f"{name} is no whole .keras file: it lacks {', '.join(missing)}.")


def _check_members(members: list[zipfile.ZipInfo], name: str, limits: Limits) -> None:
    for member in members:
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise UnsafeError(
                f"{name} is refused: its member '{member.filename}' is a link or a device, no plain file."
            )
        if member.flag_bits & _ENCRYPTED or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsafeError(
                f"{name} is refused: its member '{member.filename}' is packed in a way Keras does not use."
            )
        limits.check_growth(f"The member '{member.filename}' of {name}", member.compress_size, member.file_size)
    total = sum(member.file_size for member in members)
    limits.check_growth(f"{name}, unpacked,", sum(member.compress_size for member in members), total)


def _check_places(content: BinaryIO, members: list[zipfile.ZipInfo], directory: int, name: str) -> None:
    """Checks that the members stand one after another: overlapping ones unpack the same bytes again and again."""
    end = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        content.seek(member.header_offset)
        header = content.read(_LOCAL_BYTES)
        if len(header) < _LOCAL_BYTES or header[:4] != _LOCAL_MAGIC:
            raise ArtifactError(f"{name} is no whole .keras file: '{member.filename}' does not begin where it should.")
        if member.header_offset < end:
            raise UnsafeError(f"{name} is refused: its member '{member.filename}' overlaps the one before.")
        name_bytes, extra_bytes = struct.unpack_from("<HH", header, 26)
        end = member.header_offset + _LOCAL_BYTES + name_bytes + extra_bytes + member.compress_size
    if end > directory:
        raise UnsafeError(f"{name} is refused: its last member overlaps the directory of the archive.")
