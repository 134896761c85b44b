"""Tensors of the Open Inference Protocol, version 2: numbers or strings, as JSON has them or as bytes.

In bytes they are little-endian and row-major; an element of BYTES stands behind its length, four bytes.
"""

import math
import struct
from collections.abc import Iterable
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from bmp.errors import RequestError, SignatureError
from bmp.signature import TensorSpec
from serving.codec.json import kind_of, to_array

BYTES = "BYTES"
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""What numpy calls the numbers."""
DATATYPES = (*DTYPES, BYTES)
MAX_RANK = 32

_NAMES = {dtype: datatype for datatype, dtype in DTYPES.items()}
_IN_BYTES = {datatype: np.dtype(dtype).newbyteorder("<") for datatype, dtype in DTYPES.items()}
_LENGTH = struct.Struct("<I")


def datatype_of(dtype: str) -> str:
    """Returns what the protocol calls a dtype of numpy; BYTES for what is no number."""
    return _NAMES.get(dtype, BYTES)


@cache
def datatype_of_numpy(dtype: np.dtype) -> str:
    """Returns the same for a dtype itself: numpy takes long to tell its name."""
    return datatype_of(dtype.name)


class Numbers(NamedTuple):
    """Numbers in JSON that have been read already, flat or nested like the shape of their tensor.

    Args:
        text: As JSON has them.
        array: Of the datatype and the shape that the tensor says.
    """

    text: memoryview
    array: np.ndarray


class Tensor(NamedTuple):
    """A tensor as a request brings it, before it has met a model.

    Args:
        name: Of the input.
        datatype: One of DATATYPES.
        shape: Of the whole batch, `(B, …)`.
        data: As JSON gave it, flat or nested like the shape; or `Numbers`; or bytes, or a view of some.
        where: Its place in the request, as an error names it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any
    where: str

    @property
    def size(self) -> int:
        """How many elements the shape stands for."""
        return math.prod(self.shape)

    def to_array(self) -> np.ndarray:
        """Returns the numbers in this shape; in bytes they may be NaN or infinite.

        Raises:
            SignatureError: They are strings, not of the datatype, or not so many.
        """
        if self.datatype == BYTES:
            raise SignatureError(
                f"{self.where} is BYTES; expected numbers for '{self.name}'.", expected="numbers", received=BYTES
            )
        self._check_filled()
        if isinstance(self.data, Numbers):
            return self.data.array
        return self._read_bytes() if self._is_in_bytes else self._read_lists()

    def fit(self, spec: TensorSpec) -> np.ndarray:
        """Returns the numbers as `fit_array` makes them fit a model.

        Raises:
            SignatureError: They do not fit, or whatever `to_array` has to say.
        """
        array = self.to_array()
        if isinstance(self.data, Numbers) and array.dtype == spec.dtype:
            return array  # numbers in JSON are finite
        return fit_array(array, spec, self.where)

    def to_values(self) -> list[Any]:
        """Returns the elements one after the other: strings as `str` or `bytes`, a NaN as None, which is missing.

        Raises:
            SignatureError: They are not of this shape.
        """
        self._check_filled()
        if not self._is_in_bytes:
            return self._flatten()
        if self.datatype == BYTES:
            elements = split_elements(bytes(self.data), self.where, self.size)
            if len(elements) > self.size:
                raise self._explain_shape(f"over {self.size:,} elements", f"{self.size:,}")
            self._check_count(len(elements))
            return elements
        return [None if value != value else value for value in self.to_array().ravel().tolist()]

    @property
    def _is_in_bytes(self) -> bool:
        return isinstance(self.data, (bytes, memoryview))

    def _check_filled(self) -> None:
        if not self.size:
            raise SignatureError(
                f"{self.where} has shape {list(self.shape)}, which holds nothing; expected at least one example.",
                expected="at least one example",
                received="an empty batch",
            )

    def _read_bytes(self) -> np.ndarray:
        dtype = _IN_BYTES[self.datatype]
        size_bytes = self.size * dtype.itemsize
        if len(self.data) != size_bytes:
            raise SignatureError(
                f"{self.where} has {len(self.data):,} bytes of data; {self.datatype} of shape {list(self.shape)} has "
                f"{size_bytes:,}.",
                expected=f"{size_bytes} bytes",
                received=f"{len(self.data)} bytes",
            )
        if dtype == "bool" and bytes(self.data).translate(None, b"\0\1"):
            raise SignatureError(
                f"{self.where} holds a byte other than 0 and 1; expected BOOL.",
                expected="0 or 1",
                received="another byte",
            )
        array = np.frombuffer(self.data, dtype).reshape(self.shape)
        return array if array.flags.aligned else array.copy()  # what is not costs each reader more than a copy

    def _read_lists(self) -> np.ndarray:
        spec = TensorSpec(self.name, DTYPES[self.datatype], self.shape[1:])
        array = to_array(self.data, spec, f"{self.where}.data")
        if array.ndim > 1 and array.shape != self.shape:
            raise self._explain_shape(list(array.shape))
        self._check_count(array.size)
        return array.reshape(self.shape)

    def _flatten(self) -> list[Any]:
        """Returns the leaves of lists that are flat, or nested like the shape."""
        level = orjson.loads(self.data.text) if isinstance(self.data, Numbers) else self.data
        if not isinstance(level, list):
            raise SignatureError(
                f"{self.where}.data is {kind_of(level)}; expected a list.",
                expected="a list",
                received=kind_of(level),
            )
        if level and isinstance(level[0], list) and len(level) != self.shape[0]:
            raise self._explain_shape(f"{len(level):,} lists at level 0")
        for depth, size in enumerate(self.shape[1:], 1):
            if not level or not isinstance(level[0], list):
                break
            if any(type(part) is not list or len(part) != size for part in level):
                raise self._explain_shape(f"something else at level {depth}")
            level = list(chain.from_iterable(level))
        self._check_count(len(level))
        return level

    def _check_count(self, count: int) -> None:
        if count != self.size:
            raise self._explain_shape(f"{count:,} elements", f"{self.size:,}")

    def _explain_shape(self, received: object, expected: str = "lists like it, or one flat list") -> SignatureError:
        return SignatureError(
            f"{self.where} says shape {list(self.shape)}, but its data has {received}; expected {expected}.",
            expected=str(list(self.shape)),
            received=str(received),
        )


def fit_array(array: np.ndarray, spec: TensorSpec, where: str) -> np.ndarray:
    """Returns numbers in the dtype that a model takes; its shape is not checked here.

    Raises:
        SignatureError: That dtype does not hold every number of theirs, or one is NaN or infinite.
    """
    if array.dtype != spec.dtype:
        if array.dtype.kind == "b" or not np.can_cast(array.dtype, spec.dtype, "safe"):
            raise SignatureError(
                f"Input '{spec.name}' is {array.dtype}; expected {spec}.", expected=str(spec), received=str(array.dtype)
            )
        array = array.astype(spec.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        index = "".join(f"[{int(step)}]" for step in np.argwhere(~np.isfinite(array))[0])
        raise SignatureError(
            f"{where} holds NaN or infinity at {index}; expected finite numbers.",
            expected="finite numbers",
            received="NaN or infinity",
        )
    return array


def split_elements(data: bytes, where: str, most: int) -> list[bytes]:
    """Returns the elements of a BYTES tensor; of more than `most`, which must be an error, one too many.

    Raises:
        RequestError: The data ends within one.
    """
    elements: list[bytes] = []
    position = 0
    while position < len(data) and len(elements) <= most:
        start = position + _LENGTH.size
        length = _LENGTH.unpack_from(data, position)[0] if start <= len(data) else 0
        position = start + length
        if position > len(data):
            raise RequestError(
                f"{where}: the data ends within element {len(elements)}; expected its length in 4 bytes, "
                "little-endian, and then so many bytes.",
                expected=f"{position} bytes or more",
                received=f"{len(data)} bytes",
            )
        elements.append(data[start:position])
    return elements


def join_elements(elements: Iterable[bytes]) -> bytes:
    """Returns a BYTES tensor, as `split_elements` reads it."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def to_bytes(array: np.ndarray) -> bytes:
    """Returns a tensor in bytes: numbers, or `bytes` objects."""
    if array.dtype == object:
        return join_elements(array.ravel())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
