"""Lists of numbers in JSON: where they are, what is left without them, and what they hold."""

import json
from typing import Any

import numpy as np
import pytest

from serving.codec.numbers import Span, cut_lists, find_lists, has_lists, read_list

TWO = b'{"inputs": [{"data": [1, [2]], "shape": [2]}, {"data" :\n[]}], "data": 3}'


def test_what_is_left_is_json_with_empty_lists() -> None:
    spans = find_lists(TWO)
    assert [TWO[span.start : span.end] for span in spans] == [b"[1, [2]]", b"[]"]
    assert json.loads(cut_lists(TWO, spans)) == {"inputs": [{"data": [], "shape": [2]}, {"data": []}], "data": 3}
    assert has_lists(TWO, 3) and not has_lists(TWO, 2) and not has_lists(TWO.replace(b"shape", b"sh\\u0061pe"), 3)


@pytest.mark.parametrize("text", [b"", b'"data":[', b'"data":["]"]', b'{"data":[}]', b'"data":', b"data:[1]"])
def test_what_does_not_end_is_no_list(text: bytes) -> None:
    assert find_lists(text) == [] and cut_lists(text, []) == text


def test_no_more_lists_are_looked_for_than_any_model_takes() -> None:
    assert len(find_lists(b'"data":[]' * 10_000)) < 1000


@pytest.mark.parametrize(
    ("text", "datatype", "shape", "expected"),
    [
        (b"[1, -2.5e0, 3E2, -0.0]", "FP32", (4,), np.array([1, -2.5, 300, -0.0], np.float32)),
        (b"[1,2,3,4]", "FP64", (2, 2), np.array([[1, 2], [3, 4]], np.float64)),
        (b" [[1],\n[2]]", "UINT8", (2, 1), np.array([[1], [2]], np.uint8)),
        (b"[]", "FP32", (0, 3), np.zeros((0, 3), np.float32)),
    ],
)
def test_reads_numbers(text: bytes, datatype: str, shape: tuple[int, ...], expected: np.ndarray) -> None:
    padded = b'"data":' + text + b"}"
    numbers = read_list(padded, Span(7, 7 + len(text)), datatype, shape)
    array = numbers.array
    assert (array.dtype, array.shape, array.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
    assert bytes(numbers.text) == text


@pytest.mark.parametrize(
    ("text", "datatype", "shape", "error"),
    [
        (b"[1,2]", "FP32", (3,), ValueError),
        (b"[1,2]", "BOOL", (2,), KeyError),
        (b"[1,2]", "BYTES", (2,), KeyError),
        (b"[1,true]", "FP32", (2,), TypeError),
        (b"[1,2.0]", "INT32", (2,), TypeError),
        (b"[1,-1]", "UINT64", (2,), ValueError),
        (b"[1,-1]", "UINT8", (2,), ValueError),
        (b"[1,256]", "UINT8", (2,), ValueError),
        (b"[1,70000]", "FP16", (2,), FloatingPointError),
        (b"[[1],[2]]", "FP32", (2,), ValueError),
        (b"[[[],[1]],[[2],[]]]", "FP32", (1, 2, 1), ValueError),
        (b"[[1,2],[3]]", "FP32", (3,), ValueError),
        (b"[[]]", "FP32", (1, 0), ValueError),
        (b"[1],[2]", "FP32", (2,), ValueError),
        (b"[1,2", "FP32", (2,), ValueError),
    ],
)
def test_reads_nothing_else(text: bytes, datatype: str, shape: tuple[int, ...], error: Any) -> None:
    with pytest.raises(error):
        read_list(text, Span(0, len(text)), datatype, shape)
