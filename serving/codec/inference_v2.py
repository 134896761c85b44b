"""Messages of the Open Inference Protocol, version 2, over HTTP: JSON, with tensors in it or as bytes behind it.

The binary tensor data extension: the header Inference-Header-Content-Length says how long the JSON is, and each
tensor of bytes says its own `binary_data_size`. A length of 0 means that there is no JSON, only one tensor.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from bmp.errors import RequestError, suggest
from serving.codec.fields import Fields
from serving.codec.json import parse_object
from serving.codec.tensors import DATATYPES, MAX_RANK, Tensor, datatype_of_numpy, to_bytes

HEADER_LENGTH = "Inference-Header-Content-Length"
_EXAMPLE = '{"inputs": [{"name": "…", "shape": […], "datatype": "FP32", "data": […]}]}'
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_MAX_SIZE = 2**31
_KEYS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")
_TENSOR_KEYS = ("name", "shape", "datatype", "parameters", "data")


class WantedOutput(NamedTuple):
    """An output that a request asks for.

    Args:
        name: Of the output.
        binary: Whether as bytes; None leaves it to the request.
        classes: How many labels are wanted in place of the numbers, if any.
        where: Its place in the request, as an error names it.
    """

    name: str
    binary: bool | None = None
    classes: int | None = None
    where: str = ""


class InferRequest(NamedTuple):
    """What a client asks.

    Args:
        tensors: In the order of the request, of different names.
        outputs: Those that are wanted; empty for all of them.
        binary: Whether outputs that do not say are wanted as bytes.
        id: To be repeated in the answer, if given.
        model: Its name, if the body says it as well.
        version: Its version, if the body says it as well.
        quality: Which variant of the version is wanted, if given.
    """

    tensors: tuple[Tensor, ...]
    outputs: tuple[WantedOutput, ...] = ()
    binary: bool = False
    id: str | None = None
    model: str | None = None
    version: str | None = None
    quality: str | None = None


class OutputTensor(NamedTuple):
    """A tensor of an answer.

    Args:
        name: Of the output.
        array: `(B, …)`, numbers or `bytes` objects.
        binary: Whether it goes as bytes.
    """

    name: str
    array: np.ndarray
    binary: bool = False


def read_header_length(text: str | None, body: bytes) -> int:
    """Returns how long the JSON at the start of a body is: all of it where the header is missing.

    Raises:
        RequestError: The header is no such number.
    """
    if text is None:
        return len(body)
    length = int(text) if _WHOLE.fullmatch(text) else -1
    if not 0 <= length <= len(body):
        raise RequestError(
            f"The header {HEADER_LENGTH} is '{text[:80]}'; expected the length of the JSON at the start of the body, "
            f"which is {len(body):,} bytes in all.",
            expected=f"0 to {len(body)}",
            received=text[:80],
        )
    return length


def decode_infer(body: bytes, header_length: int) -> InferRequest:
    """Reads a request that begins with JSON.

    Args:
        body: All of it.
        header_length: Of the JSON.

    Raises:
        RequestError: It is no such request, or the bytes of the tensors are not those that the JSON announces.
    """
    return _decode(body[:header_length], _Bytes(body, header_length))


def decode_head(text: bytes) -> InferRequest:
    """Reads the JSON of a request alone; in place of data a tensor has the number of its bytes, or lists.

    Raises:
        RequestError: It is no such request.
    """
    return _decode(text, _Sizes())


def _decode(text: bytes, data: "_Bytes | _Sizes") -> InferRequest:
    fields = Fields(parse_object(text, _EXAMPLE), known=_KEYS)
    tensors = [_decode_tensor(value, f"inputs[{i}]", data) for i, value in enumerate(fields.need("inputs", list))]
    if not tensors:
        raise RequestError(f"inputs is empty; expected {_EXAMPLE}.", expected="a tensor", received="none")
    data.check_empty()
    wanted = [_decode_wanted(value, f"outputs[{i}]") for i, value in enumerate(fields.get("outputs", list, []))]
    check_different([tensor.name for tensor in tensors], "inputs")
    check_different([output.name for output in wanted], "outputs")
    parameters = fields.open("parameters")
    return InferRequest(
        tuple(tensors),
        tuple(wanted),
        parameters.get("binary_data_output", bool, False),
        fields.get("id", str),
        fields.get("model_name", str),
        fields.get("model_version", str),
        parameters.get("quality", str),
    )


def encode_infer(
    model: str, version: int, outputs: Sequence[OutputTensor], id: str | None = None
) -> tuple[bytes, int | None]:
    """Writes an answer.

    Returns:
        The body, and the length of the JSON at its start, None where it is nothing else.
    """
    answer: dict[str, Any] = {"model_name": model, "model_version": str(version)}
    if id is not None:
        answer["id"] = id
    answer["outputs"] = described = []
    parts: list[bytes] = []
    for name, array, binary in outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": datatype_of_numpy(array.dtype), "shape": array.shape}
        if binary:
            parts.append(to_bytes(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        elif array.dtype == object:
            tensor["data"] = [element.decode("utf-8") for element in array.ravel()]
        else:
            tensor["data"] = array.ravel()
        described.append(tensor)
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([head, *parts]), len(head)) if parts else (head, None)


class _Bytes:
    """What stands behind the JSON, given out from the start."""

    def __init__(self, body: bytes, position: int) -> None:
        self._body = body
        self._position = position

    def take(self, size: int, where: str) -> memoryview:
        left = len(self._body) - self._position
        if not 0 <= size <= left:
            raise RequestError(
                f"{where}.parameters.binary_data_size is {size}, but {left:,} bytes are left behind the JSON, whose "
                f"length goes into the header {HEADER_LENGTH}.",
                expected=f"0 to {left}",
                received=str(size),
            )
        self._position += size
        return memoryview(self._body)[self._position - size : self._position]

    def check_empty(self) -> None:
        left = len(self._body) - self._position
        if left:
            raise RequestError(
                f"The body holds {left:,} bytes more than its JSON and the binary_data_size of its inputs say.",
                expected="no further bytes",
                received=f"{left} bytes",
            )


class _Sizes:
    """What may stand behind JSON that is read without it."""

    def take(self, size: int, where: str) -> int:
        return size

    def check_empty(self) -> None:
        """Nothing is known to be left."""


def _decode_tensor(value: Any, place: str, data: _Bytes | _Sizes) -> Tensor:
    fields = Fields(value, place, _TENSOR_KEYS)
    name, datatype = fields.need("name", str), fields.need("datatype", str)
    check_datatype(datatype, f"{place}.datatype")
    shape = check_shape(fields.need("shape", list), f"{place}.shape")
    parameters = fields.open("parameters")
    check_parameters(parameters, place)
    size, lists = parameters.get("binary_data_size", int), fields.get("data", list)
    if (size is None) == (lists is None):
        raise RequestError(
            f"{place} has {'no data' if size is None else 'data both in the JSON and behind it'}; expected either "
            "'data' or the parameter 'binary_data_size'.",
            expected="'data' or 'binary_data_size'",
            received="neither" if size is None else "both",
        )
    return Tensor(name, datatype, shape, lists if size is None else data.take(size, place), place)


def check_datatype(datatype: str, place: str) -> None:
    """Checks the name of a datatype.

    Raises:
        RequestError: There is none of this name.
    """
    if datatype not in DATATYPES:
        raise RequestError(
            f"{place} is '{datatype[:80]}'; known are {', '.join(DATATYPES)}.{suggest(datatype[:80], DATATYPES)}",
            expected=", ".join(DATATYPES),
            received=datatype[:80],
        )


def check_shape(sizes: list[Any], place: str) -> tuple[int, ...]:
    """Returns the shape of a tensor.

    Raises:
        RequestError: These are no whole numbers of a sensible size, or none at all, or too many.
    """
    if not 0 < len(sizes) <= MAX_RANK or not all(type(size) is int and 0 <= size <= _MAX_SIZE for size in sizes):
        raise RequestError(
            f"{place} is {str(sizes)[:80]}; expected a list of whole numbers, the number of examples first.",
            expected="such as [1, 8]",
            received=str(sizes)[:80],
        )
    return tuple(sizes)


def check_parameters(parameters: Fields, place: str) -> None:
    """Checks that the data of a tensor travels with the message.

    Raises:
        RequestError: They name a region of shared memory.
    """
    if "shared_memory_region" in parameters:
        raise RequestError(
            f"{place} names a region of shared memory, and this server has none; send the data with the request.",
            expected="'data' or 'binary_data_size'",
            received="shared_memory_region",
        )


def read_wanted(name: str, parameters: Fields, place: str) -> WantedOutput:
    """Returns an output that a request asks for.

    Raises:
        RequestError: A parameter is of a wrong type, or names a region of shared memory.
    """
    check_parameters(parameters, place)
    return WantedOutput(
        name,
        parameters.get("binary_data", bool),
        parameters.get("classification", int) or None,  # Triton's clients say 0 where they want none
        place,
    )


def check_different(names: Sequence[str], key: str) -> None:
    """Checks that no tensor is named twice.

    Raises:
        RequestError: One is.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RequestError(
                f"{key} names '{name[:80]}' twice.", expected="different names", received=f"'{name[:80]}' twice"
            )
        seen.add(name)


def _decode_wanted(value: Any, place: str) -> WantedOutput:
    fields = Fields(value, place, ("name", "parameters"))
    return read_wanted(fields.need("name", str), fields.open("parameters"), place)
