"""TFRecord framing: a file is a row of length-prefixed, checksummed pieces of bytes.

    uint64 length | uint32 masked CRC-32C of the length | data | uint32 masked CRC-32C of the data    (little-endian)

Reference:
    tensorflow/core/lib/io/record_writer.h; Castagnoli et al., "Optimization of cyclic redundancy-check codes with 24
    and 32 parity bits", 1993.
"""

import errno
import mmap
import struct
from array import array
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import google_crc32c
import numpy as np

from bmp.errors import DataError

HEADER = struct.Struct("<QI")
FOOTER = struct.Struct("<I")
FRAME_BYTES = HEADER.size + FOOTER.size
"""Bytes a record takes beside its data."""

Crc = TypeVar("Crc", int, np.ndarray)


def mask(crc: Crc) -> Crc:
    """Returns the checksum as it is stored: rotated and shifted, for data that holds checksums itself.

    Args:
        crc: An int, or uint64 of any shape.
    """
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """Returns one record, ready to be written."""
    return make_header(len(data)) + data + FOOTER.pack(mask(google_crc32c.value(data)))


@lru_cache(maxsize=4096)
def make_header(length: int) -> bytes:
    """Returns what stands before the data of a record."""
    return HEADER.pack(length, mask(google_crc32c.value(length.to_bytes(8, "little"))))


def unframe(record: bytes) -> bytes:
    """Returns the data of one record.

    Raises:
        ValueError: It is no whole, undamaged record; the message says why, without naming a file.
    """
    if len(record) < FRAME_BYTES:
        raise ValueError("the file ends inside the record")
    if record[: HEADER.size] != make_header(len(record) - FRAME_BYTES):
        raise ValueError("its length or the checksum of its length is wrong")
    data = record[HEADER.size : -FOOTER.size]
    if mask(google_crc32c.value(data)) != int.from_bytes(record[-FOOTER.size :], "little"):
        raise ValueError("its checksum is wrong")
    return data


def unframe_alike(raw: bytes, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes the data out of records that are all of one length.

    Args:
        raw: N records, one behind the other.
        size: Bytes of the data of each.

    Returns:
        The data, uint8 `(N, size)`, and whether each record is whole, bool `(N,)`.
    """
    header = np.frombuffer(make_header(size), np.uint8)
    rows = np.frombuffer(raw, np.uint8).reshape(-1, size + FRAME_BYTES)  # (N, R)
    value, first, step = google_crc32c.value, HEADER.size, size + FRAME_BYTES
    found = [value(raw[start : start + size]) for start in range(first, len(raw), step)]
    written = rows[:, -FOOTER.size :].copy().view("<u4")[:, 0]
    whole = (rows[:, :first] == header).all(axis=1) & (mask(np.array(found, np.uint64)) == written)
    return rows[:, first : first + size], whole


def find_records(memory: mmap.mmap | bytes, path: Path) -> np.ndarray:
    """Returns where each record of a file begins, and where the last one ends: int64 `(N + 1,)`.

    Only the lengths are read. A file that ends inside a record counts it, so that the last place lies behind the
    end of the file.

    Raises:
        DataError: A length is damaged: whatever comes after it cannot be found.
    """
    places, place, size = array("q"), 0, len(memory)
    while place < size:
        places.append(place)
        header = memory[place : place + HEADER.size]
        if len(header) < HEADER.size:
            place = size + 1
            break
        length, crc = HEADER.unpack(header)
        if mask(google_crc32c.value(header[:8])) != crc:
            if place == 0:
                raise DataError(_describe_foreign(header, path))
            raise DataError(
                f"{path}, byte {place}: the length of record {len(places) - 1} is damaged, so that the "
                f"{size - place:,} bytes from there on cannot be read. Fetch the file again."
            )
        place += length + FRAME_BYTES
    places.append(place)
    return np.frombuffer(places, np.int64)


def _describe_foreign(header: bytes, path: Path) -> str:
    if header[:2] == b"\x1f\x8b":
        return (
            f"{path} is compressed as a whole (gzip), so that no record in it can be read by its number. "
            f"Unpack it first: gunzip --keep {path.name if path.suffix == '.gz' else f'--suffix= {path.name}'}"
        )
    return f"{path} is no TFRecord file: it does not begin with the length of a record and its checksum."


def map_file(path: Path) -> mmap.mmap | bytes:
    """Returns the bytes of a file without reading them: pages come in when they are looked at.

    Raises:
        DataError: It cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:  # an empty file cannot be mapped
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        hint = " Raise the limit with 'ulimit -n', or write fewer shards." if error.errno == errno.EMFILE else ""
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.{hint}") from error
