"""Both ways to read a request of the Open Inference Protocol, held against each other."""

from collections.abc import Callable
from typing import Any

from bmp.errors import BmpError
from serving.codec.inference_v2 import InferRequest, decode_infer
from serving.codec.inference_v2_heads import decode_usual
from serving.codec.tensors import Numbers, Tensor


def read_both_ways(body: bytes, header_length: int | None = None) -> InferRequest:
    """Returns what the exact way reads, after the fast one has read the same or nothing."""
    header_length = len(body) if header_length is None else header_length
    usual = decode_usual(body, header_length)
    try:
        request = decode_infer(body, header_length)
    except BmpError:
        assert usual is None, "the fast way takes what the exact one refuses"
        raise
    if usual is not None:
        check_same(usual, request)
    return request


def check_same(usual: InferRequest, request: InferRequest) -> None:
    assert usual[1:] == request[1:] and len(usual.tensors) == len(request.tensors)
    for one, other in zip(usual.tensors, request.tensors, strict=True):
        assert (one.name, one.datatype, one.shape, one.where) == (other.name, other.datatype, other.shape, other.where)
        assert isinstance(one.data, Numbers | memoryview)
        for read in (Tensor.to_array, Tensor.to_values):
            assert outcome(read, one) == outcome(read, other)


def outcome(read: Callable[[Tensor], Any], tensor: Tensor) -> Any:
    """Returns what is read, so that a float differs from the same whole number, or what the error says."""
    try:
        read_data = read(tensor)
    except BmpError as error:
        return type(error), error.message, error.expected, error.received
    return repr(read_data) if isinstance(read_data, list) else (read_data.dtype, read_data.shape, read_data.tobytes())
