"""Bodies that are a `.npy` file, as `numpy.save` writes one: an array of numbers, never a pickle.

The header, which is a literal of Python, is matched and not evaluated.

Reference:
    NEP 1, a simple file format for NumPy arrays.
"""

import math
import re
import struct

import numpy as np

from bmp.errors import RequestError
from serving.codec.tensors import MAX_RANK

NPY = "application/x-npy"
_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I"), 3: struct.Struct("<I")}  # of the header, by major version
_MAX_HEADER_BYTES = 4096
_HEADER = re.compile(
    rb"\{ *'descr': *'([<>|=][biuf][1248])', *'fortran_order': *(True|False), *"
    rb"'shape': *\(((?:\d{1,18}, *)*\d{0,18})\),? *\} *\n?",
    re.ASCII,
)


def decode_npy(body: bytes) -> np.ndarray:
    """Returns the array of a `.npy` file in this machine's byte order; numbers may be NaN or infinite.

    Raises:
        RequestError: It is none, or not one of numbers.
    """
    header, start = _split(body)
    match = _HEADER.fullmatch(header)
    if match is None:
        raise _refuse("its header is not that of an array of numbers")
    try:
        dtype = np.dtype(match[1].decode())
    except TypeError:  # a boolean of two bytes, a float of one
        raise _refuse(f"numpy has no dtype {match[1].decode()}") from None
    shape = tuple(int(size) for size in match[3].replace(b",", b" ").split())
    size_bytes = math.prod(shape) * dtype.itemsize
    if len(shape) > MAX_RANK or len(body) - start != size_bytes or not size_bytes:
        raise _refuse(f"it has {len(body) - start:,} bytes of data, and {dtype} {shape} has {size_bytes:,}")
    if dtype.kind == "b" and body[start:].translate(None, b"\0\1"):
        raise _refuse("a boolean in it is neither 0 nor 1")
    array = np.frombuffer(body[start:], dtype).reshape(shape, order="F" if match[2] == b"True" else "C")
    return array.astype(dtype.newbyteorder("="), order="C", copy=False)


def _split(body: bytes) -> tuple[bytes, int]:
    """Returns the header, and where the data starts."""
    length = _LENGTHS.get(body[6]) if len(body) > 8 and body.startswith(_MAGIC) else None
    if length is None or len(body) < 8 + length.size:
        raise _refuse("it does not start as one")
    start = 8 + length.size
    size = length.unpack_from(body, 8)[0]
    if size > _MAX_HEADER_BYTES:
        raise _refuse(f"its header of {size:,} bytes is longer than {_MAX_HEADER_BYTES:,}")
    return body[start : start + size], start + size


def _refuse(reason: str) -> RequestError:
    return RequestError(
        f"The body is not the .npy file of an array of numbers: {reason}. Write it with numpy.save.",
        expected="a .npy file",
        received="something else",
    )
