"""Requests of the Open Inference Protocol whose JSON was seen before, but for the numbers in it.

A client asks the same about one example after the other: what its JSON says beside the numbers, its head, is the same
again and again, and is read once. What is unusual is for `decode_infer` to read and to explain.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from bmp.errors import RequestError
from serving.codec.inference_v2 import InferRequest, decode_head
from serving.codec.numbers import Span, cut_lists, find_lists, has_lists, read_list
from serving.codec.tensors import Tensor

_MAX_HEADS = 256
_MAX_HEAD_BYTES = 4096


class _Head(NamedTuple):
    """What JSON says beside the numbers.

    Args:
        request: In place of their data its tensors have the number of their bytes, or an empty list.
        lists: How many have a list.
    """

    request: InferRequest
    lists: int


def decode_usual(body: bytes, header_length: int) -> InferRequest | None:
    """Reads a usual request, fast.

    Args:
        body: All of it.
        header_length: Of the JSON.

    Returns:
        What `decode_infer` would return, with `Numbers` in place of lists; or None for a body that is for that to
        judge.
    """
    lists = find_lists(body) if header_length == len(body) else []
    text = cut_lists(body, lists) if lists else body[:header_length]
    head = _read_head(text) if len(text) <= _MAX_HEAD_BYTES else None
    if head is None or head.lists != len(lists):
        return None
    try:
        tensors = _fill(head.request.tensors, body, header_length, lists)
    except (ValueError, TypeError, KeyError, RuntimeError, ArithmeticError):
        return None
    return InferRequest(tensors, *head.request[1:])


@lru_cache(maxsize=_MAX_HEADS)
def _read_head(text: bytes) -> _Head | None:
    """Returns what a head says, None where it is unusual or wrong."""
    try:
        request = decode_head(text)
    except RequestError:
        return None
    sizes = [tensor.data for tensor in request.tensors if type(tensor.data) is int]
    head = _Head(request, len(request.tensors) - len(sizes))
    return head if has_lists(text, head.lists) and all(size >= 0 for size in sizes) else None


def _fill(tensors: Sequence[Tensor], body: bytes, position: int, lists: Sequence[Span]) -> tuple[Tensor, ...]:
    """Returns tensors with their data.

    Args:
        tensors: Of a head.
        body: That begins with it.
        position: Of the bytes behind the JSON.
        lists: Those in it, one for each tensor that has one.

    Raises:
        ValueError, TypeError, KeyError, RuntimeError, ArithmeticError: It is not what the tensors say.
    """
    spans, filled = iter(lists), list[Tensor]()
    for name, datatype, shape, size, where in tensors:
        if type(size) is int:
            filled.append(Tensor(name, datatype, shape, memoryview(body)[position : position + size], where))
            position += size
        else:
            filled.append(Tensor(name, datatype, shape, read_list(body, next(spans), datatype, shape), where))
    if position != len(body):
        raise ValueError("not as many bytes as the JSON says")
    return tuple(filled)
