"""Tensors of TensorFlow and of the Open Inference Protocol to those that serving judges, and answers back."""

from typing import Any, NamedTuple

import numpy as np

from bmp.errors import RequestError, SignatureError
from serving.codec.inference_v2 import OutputTensor, check_datatype, check_shape
from serving.codec.tensors import BYTES, DTYPES, Tensor, datatype_of_numpy, to_bytes

_POINTER_BYTES = 8


class _Kind(NamedTuple):
    """How TensorFlow has a datatype.

    Args:
        dtype: Number of the enum.
        name: Its name there.
        field: The list of a TensorProto that holds its elements.
    """

    dtype: int
    name: str
    field: str


_KINDS = {
    "FP32": _Kind(1, "DT_FLOAT", "float_val"),
    "FP64": _Kind(2, "DT_DOUBLE", "double_val"),
    "FP16": _Kind(19, "DT_HALF", "half_val"),
    "INT8": _Kind(6, "DT_INT8", "int_val"),
    "INT16": _Kind(5, "DT_INT16", "int_val"),
    "INT32": _Kind(3, "DT_INT32", "int_val"),
    "INT64": _Kind(9, "DT_INT64", "int64_val"),
    "UINT8": _Kind(4, "DT_UINT8", "int_val"),
    "UINT16": _Kind(17, "DT_UINT16", "int_val"),
    "UINT32": _Kind(22, "DT_UINT32", "uint32_val"),
    "UINT64": _Kind(23, "DT_UINT64", "uint64_val"),
    "BOOL": _Kind(10, "DT_BOOL", "bool_val"),
    BYTES: _Kind(7, "DT_STRING", "string_val"),
}
_DATATYPES = {kind.dtype: datatype for datatype, kind in _KINDS.items()}
_CONTENTS = {
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "BOOL": "bool_contents",
    BYTES: "bytes_contents",
}
"""Lists of an InferTensorContents; it has none for FP16."""


def read_proto(name: str, message: Any, max_bytes: int) -> Tensor:
    """Reads a `tensorflow.TensorProto`.

    Args:
        name: Of the input.
        message: The tensor. A single value in a list stands for all elements, as TensorFlow has it.
        max_bytes: What one value may become.

    Raises:
        RequestError: It is of a type or a shape that no model takes.
        SignatureError: The elements are out of the range of their type, or one stands for too many.
    """
    place = f"inputs.{name[:80]}"
    datatype = _DATATYPES.get(message.dtype)
    if datatype is None:
        known = ", ".join(kind.name for kind in _KINDS.values())
        received = _name_dtype(message)
        raise RequestError(f"{place} is {received}; expected one of {known}.", expected=known, received=received)
    sizes = "of unknown rank" if message.tensor_shape.unknown_rank else [dim.size for dim in message.tensor_shape.dim]
    shape = check_shape(sizes if isinstance(sizes, list) else [], f"{place}.tensor_shape")
    if message.tensor_content and datatype != BYTES:
        return Tensor(name, datatype, shape, message.tensor_content, place)
    tensor = Tensor(name, datatype, shape, None, place)
    values = _spread(getattr(message, _KINDS[datatype].field), tensor, max_bytes)
    return Tensor(name, datatype, shape, _pack(values, tensor, bits=datatype == "FP16"), place)


def read_contents(message: Any, place: str) -> Tensor:
    """Reads an `InferInputTensor` whose elements are in its `contents`.

    Args:
        message: The tensor.
        place: Where it stands in the request.

    Raises:
        RequestError: It is of a type or a shape that no model takes, or of one that travels in bytes alone.
        SignatureError: The elements are out of the range of their type.
    """
    tensor = read_raw(message, b"", place)
    field = _CONTENTS.get(message.datatype)
    if field is None:
        raise RequestError(
            f"{place} is {message.datatype}, which 'contents' has no list for; send it in raw_input_contents.",
            expected="raw_input_contents",
            received="contents",
        )
    values = getattr(message.contents, field)
    return Tensor(tensor.name, tensor.datatype, tensor.shape, _pack(values, tensor), place)


def read_raw(message: Any, data: bytes, place: str) -> Tensor:
    """Reads an `InferInputTensor` whose elements are in `raw_input_contents`.

    Args:
        message: The tensor.
        data: Its elements.
        place: Where it stands in the request.

    Raises:
        RequestError: It is of a type or a shape that no model takes.
    """
    check_datatype(message.datatype, f"{place}.datatype")
    return Tensor(message.name, message.datatype, check_shape(list(message.shape), f"{place}.shape"), data, place)


def write_proto(message: Any, output: OutputTensor) -> None:
    """Fills a `tensorflow.TensorProto` with a tensor of an answer."""
    array = output.array
    datatype = datatype_of_numpy(array.dtype)
    message.dtype = _KINDS[datatype].dtype
    for size in array.shape:
        message.tensor_shape.dim.add(size=size)
    if datatype == BYTES:
        message.string_val.extend(array.ravel())
    else:
        message.tensor_content = to_bytes(array)


def _name_dtype(message: Any) -> str:
    value = message.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number.get(message.dtype)
    return f"type {message.dtype}" if value is None else value.name


def _spread(values: Any, tensor: Tensor, max_bytes: int) -> Any:
    """Returns as many values as the tensor has elements where there is one for all of them."""
    if len(values) != 1 or tensor.size <= 1:
        return values
    is_text = tensor.datatype == BYTES
    each = max(_POINTER_BYTES, len(values[0])) if is_text else np.dtype(DTYPES[tensor.datatype]).itemsize
    size = tensor.size * each
    if size > max_bytes:  # a short message must not become more work than a long one
        raise SignatureError(
            f"{tensor.where} has one value for shape {list(tensor.shape)}, which would be {size:,} bytes; expected at "
            f"most {max_bytes:,}.",
            expected=f"at most {max_bytes} bytes",
            received=f"{size} bytes",
        )
    return list(values) * tensor.size if is_text else np.repeat(np.array(values), tensor.size)


def _pack(values: Any, tensor: Tensor, bits: bool = False) -> Any:
    """Returns numbers as bytes, and strings as they are.

    Args:
        values: The elements.
        tensor: What they belong to.
        bits: Whether they are the bits of the numbers.
    """
    if tensor.datatype == BYTES:
        return list(values)
    if len(values) != tensor.size:
        raise SignatureError(
            f"{tensor.where} says shape {list(tensor.shape)}, but its data has {len(values):,} elements; expected "
            f"{tensor.size:,}.",
            expected=f"{tensor.size} elements",
            received=f"{len(values)} elements",
        )
    array, dtype = np.array(values), np.dtype("uint16" if bits else DTYPES[tensor.datatype])
    narrow = array.astype(dtype, copy=False)
    if dtype != array.dtype and (narrow != array).any():
        wrong, limits = array[narrow != array][0], np.iinfo(dtype)
        raise SignatureError(
            f"{tensor.where} holds {wrong}, which is out of the range of {tensor.datatype}; expected {limits.min} to "
            f"{limits.max}.",
            expected=f"{limits.min} to {limits.max}",
            received=str(wrong),
        )
    return to_bytes(narrow)
