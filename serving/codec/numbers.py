"""Lists of numbers in JSON, cut out of it and read without making an object of each number.

What is unusual about them, for whatever reason, is for those to explain who read all of the JSON.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import simdjson

from serving.codec.tensors import DTYPES, Numbers

_KEY = re.compile(rb'"data"[ \t\r\n]*:')
_LIST = re.compile(_KEY.pattern + rb"[ \t\r\n]*\[")
_MAX_LISTS = 256
_NUMBER_BYTES = b"0123456789+-.eE \t\r\n"
_READ: dict[str, tuple[Any, str]] = {"f": ("d", "float64"), "i": ("i", "int64"), "u": ("u", "uint64")}
"""For each kind of number: as what simdjson reads it, and what numpy calls that."""


class Span(NamedTuple):
    """A part of a body.

    Args:
        start: Its first byte.
        end: The byte behind it.
    """

    start: int
    end: int


def find_lists(text: bytes) -> list[Span]:
    """Returns where the lists under keys "data" are; of what is no list of numbers it may be anything.

    Such a list has neither quotes nor braces in it, so it ends with the last bracket before the next of them. Each is
    looked for no further than it matters: a body may be a million beginnings of lists.
    """
    spans, end = list[Span](), 0
    while len(spans) < _MAX_LISTS and (found := _LIST.search(text, end)) is not None:
        start = found.end() - 1
        quote = text.find(b'"', start)
        stop = len(text) if quote < 0 else quote
        brace = text.find(b"}", start, stop)
        end = text.rfind(b"]", start, stop if brace < 0 else brace) + 1
        if not end:
            return []
        spans.append(Span(start, end))
    return spans


def cut_lists(text: bytes, spans: Sequence[Span]) -> bytes:
    """Returns JSON with empty lists in place of some."""
    pieces, position = [], 0
    for start, end in spans:
        pieces.append(text[position : start + 1])
        position = end - 1
    return b"".join([*pieces, text[position:]])


def has_lists(text: bytes, count: int) -> bool:
    """Tells whether JSON has so many keys "data", so that `find_lists` finds what JSON means.

    A key that is written with an escape is not found, and a quote that is escaped may look like one of a key.
    """
    return b"\\" not in text and len(_KEY.findall(text)) == count


def read_list(text: bytes, span: Span, datatype: str, shape: tuple[int, ...]) -> Numbers:
    """Reads numbers of a datatype that are flat, or nested like the shape.

    Raises:
        ValueError, TypeError, KeyError, RuntimeError, ArithmeticError: They are something else, or unusual.
    """
    start, end = span
    dtype = np.dtype(DTYPES[datatype])
    kind, wide = _READ[dtype.kind]
    parsed: Any = simdjson.Parser().parse(memoryview(text)[start:end])
    numbers = np.frombuffer(parsed.as_buffer(of_type=kind), wide)
    with np.errstate(over="raise"):
        array = numbers.astype(dtype).reshape(shape)
    if kind != "d" and (array.ravel() != numbers).any():
        raise ValueError("out of range")
    if text.find(b"[", start + 1, end) >= 0 and not _is_nested(text[start:end], shape):
        raise ValueError("nested in another way")
    return Numbers(memoryview(text)[start:end], array)


def _is_nested(text: bytes, shape: tuple[int, ...]) -> bool:
    """Tells whether lists of as many numbers as a shape has are nested like it."""
    if 0 in shape:
        return False
    skeleton = b""  # what is left when the bytes of numbers are taken out
    for size in reversed(shape):
        skeleton = b"[" + b",".join([skeleton] * size) + b"]"
    return text.translate(None, _NUMBER_BYTES) == skeleton
