"""The fast way to read requests: it takes the usual ones, and reads them as the exact way does."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infer_ways import read_both_ways

from bmp.errors import BmpError
from serving.codec.inference_v2_heads import decode_usual
from serving.codec.tensors import DTYPES, Numbers

ARRAYS = {
    "FP32": np.array([[0.1, -2.5e-7], [3, 1e30]], np.float32),
    "FP64": np.array([[0.1, -2.5e-300], [3, 1e300]], np.float64),
    "FP16": np.array([[0.1, -2], [3, 6e4]], np.float16),
    "INT64": np.array([[-(2**63), 2**63 - 1], [0, 1]], np.int64),
    "UINT64": np.array([[2**64 - 1, 0], [3, 4]], np.uint64),
    "INT8": np.array([[-128, 127], [3, 4]], np.int8),
}


def tensor(data: Any, shape: Any = (2, 2), datatype: Any = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": shape, "datatype": datatype, "data": data, **more}


def ask(*tensors: Any, **more: Any) -> bytes:
    return orjson.dumps({"inputs": tensors, **more})


def is_usual(body: bytes) -> bool:
    """Tells whether the fast way takes a body of JSON, which both ways read the same."""
    read_both_ways(body)
    return decode_usual(body, len(body)) is not None


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("datatype", ARRAYS)
@pytest.mark.parametrize("write", [orjson.dumps, lambda content: json.dumps(content, indent=1).encode()])
def test_takes_numbers_of_every_kind(datatype: str, nested: bool, write: Any) -> None:
    array = ARRAYS[datatype]
    data = (array if nested else array.ravel()).tolist()
    body = write({"outputs": [{"name": "y"}], "inputs": [tensor(data, array.shape, datatype)], "id": "7"})
    request = decode_usual(body, len(body))
    assert request is not None and is_usual(body) and (request.id, request.outputs[0].name) == ("7", "y")
    assert np.array_equal(request.tensors[0].to_array(), array)


@given(st.sampled_from(list(DTYPES)), st.lists(st.integers(1, 3), min_size=1, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_reads_any_numbers_as_the_exact_way_does(datatype: str, shape: list[int], data: st.DataObject) -> None:
    size = int(np.prod(shape))
    numbers = st.integers(-(2**64), 2**65) | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False)
    values = data.draw(st.lists(numbers, min_size=size, max_size=size))
    nested = np.array(values, object).reshape(shape).tolist()
    for each in (values, nested):
        read_both_ways(json.dumps({"inputs": [tensor(each, shape, datatype)]}).encode())


TWO = [tensor([1, 2, 3, 4]), {**tensor([[5], [6]], (2, 1), "INT32"), "name": "z"}]


def test_takes_several_tensors() -> None:
    assert is_usual(ask(*TWO)) and is_usual(ask(*TWO, id="data", parameters={"binary_data_output": True}))
    body = ask(*TWO)
    request = decode_usual(body, len(body))
    assert request is not None and [each.to_array().ravel().tolist() for each in request.tensors] == [
        [1, 2, 3, 4],
        [5, 6],
    ]


def test_the_order_of_keys_is_all_the_same() -> None:
    keys = [*reversed(tensor([1, 2, 3, 4], parameters={"note": "data"}).items())]
    assert is_usual(ask(dict(keys), id="7")) and is_usual(ask(dict(keys[1:] + keys[:1]), id="7"))


UNUSUAL = {
    "a word": ask(tensor(["a", "b", "c", "d"], datatype="BYTES")),
    "booleans": ask(tensor([True, False, True, True], datatype="BOOL")),
    "a boolean": ask(tensor([1, True, 3, 4])),
    "null": ask(tensor([1, None, 3, 4])),
    "an object": ask(tensor([1, {}, 3, 4])),
    "a list": ask(tensor([1, [2], 3, 4])),
    "a fraction": ask(tensor([1, 2.5, 3, 4], datatype="INT32")),
    "too large": ask(tensor([1, 1e39, 3, 4])),
    "too large for a byte": ask(tensor([1, 128, 3, 4], datatype="INT8")),
    "too many": ask(tensor([1, 2, 3, 4, 5])),
    "another shape": ask(tensor([[1, 2, 3, 4]])),
    "ragged": ask(tensor([[1, 2, 3], [4]])),
    "nothing nested": ask(tensor([[]], (0, 2**31))),
    "an escaped key": ask(tensor([1, 2, 3, 4])).replace(b'"data"', b'"d\\u0061ta"'),
    "an escaped quote": ask({**tensor([1, 2, 3, 4]), "name": 'x"data":['}),
    "data twice": ask(tensor([1, 2, 3, 4])).replace(b'"data":', b'"data":[9],"data":'),
    "inputs twice": ask(tensor([1, 2, 3, 4]))[:-1] + b"," + ask(tensor([5, 6, 7, 8]))[1:],
    "data of parameters": ask(tensor([1, 2, 3, 4], parameters={"data": [1]})),
    "data elsewhere": ask(tensor([1, 2, 3, 4]), parameters={"data": 1}),
    "a large head": ask(tensor([1, 2, 3, 4]), id="7" * 5000),
    "as deep as it may be": ask(tensor([1, 2, 3, 4])).replace(b"[1,2,3,4]", b"[" * 1000 + b"]" * 1000),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_leaves_what_is_unusual_to_the_exact_way(name: str) -> None:
    assert not is_usual(UNUSUAL[name])


BAD = {
    "too deep": UNUSUAL["as deep as it may be"].replace(b"[" * 1000, b"[" * 1022).replace(b"]" * 1000, b"]" * 1022),
    "a mark before it": b"\xef\xbb\xbf" + ask(*TWO),
    "a comma too many": ask(*TWO).replace(b"4]", b"4,]"),
    "two lists": ask(*TWO).replace(b"4]", b"4],[5]"),
    "a list that does not end": ask(*TWO).replace(b"4]", b"4"),
    "a list that ends twice": ask(*TWO).replace(b"4]", b"4]]"),
    "a shape that is open": ask(tensor([1, 2, 3, 4], [-1, 2])),
    "a truth in the shape": ask(tensor([1, 2, 3, 4], [True, 4])),
    "no shape": ask(tensor([1, 2, 3, 4], None)),
    "a datatype that is a list": ask(tensor([1, 2, 3, 4], datatype=["FP32"])),
    "an unknown key": ask(tensor([1, 2, 3, 4], dtype="FP32")),
    "both": ask(tensor([1, 2, 3, 4], parameters={"binary_data_size": 0})),
    "inputs of words": ask("data"),
    "words in a list": b'{"inputs": [["data"]]}',
    "not an object": b'[{"data": [1]}]',
    "cut off": ask(*TWO)[:-3],
    "only a key": b'"data":[1]',
}


@pytest.mark.parametrize("name", BAD)
def test_lets_nothing_pass_that_is_wrong(name: str) -> None:
    with pytest.raises(BmpError):
        read_both_ways(BAD[name])


GOOD = ask(*TWO, id="7", outputs=[{"name": "y"}])
PIECES = [b'"data":', b'"data":[', b"[", b"]", b"}", b"{", b'"', b",", b"1", b"-", b"e9", b"\\", b" ", b"true", b"\xff"]


@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.lists(st.sampled_from(PIECES), max_size=3).map(b"".join))
@settings(max_examples=500, deadline=None)
def test_json_that_is_spoiled_gets_one_verdict(position: int, count: int, piece: bytes) -> None:
    body = GOOD[:position] + piece + GOOD[position + count :]
    try:
        read_both_ways(body)
    except BmpError as error:
        assert len(error.message) < 400


# === Bytes behind the JSON ===


def with_bytes(*sizes: Any, **more: Any) -> bytes:
    tensors = [
        {"name": f"x{i}", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
        for i, size in enumerate(sizes)
    ]
    return ask(*tensors, **more)


NUMBERS = np.array([1, 2, np.nan, 4], np.float32).tobytes()


def test_a_head_that_was_seen_before_is_read_with_new_bytes() -> None:
    for i in range(5):  # at any place in memory
        head = with_bytes(8, 8, id="7" * i)
        for data in (NUMBERS, NUMBERS[::-1]):
            request = decode_usual(head + data, len(head))
            assert request is not None
            assert b"".join(tensor.to_array().tobytes() for tensor in request.tensors) == data
            assert all(tensor.to_array().flags.aligned for tensor in request.tensors)
            read_both_ways(head + data, len(head))


@pytest.mark.parametrize("sizes", [(8, 7), (8, 9), (-8, 24), (0, 8), (8, 2**63), (16,), (8.0, 8), (True, 15)])
def test_sizes_that_are_wrong_get_one_verdict(sizes: Any) -> None:
    head = with_bytes(*sizes)
    with pytest.raises(BmpError):
        for tensor in read_both_ways(head + NUMBERS, len(head)).tensors:
            tensor.to_array()


def test_lists_with_bytes_behind_them_are_for_the_exact_way() -> None:
    head = ask(tensor([1, 2, 3, 4]), *orjson.loads(with_bytes(16))["inputs"])
    assert decode_usual(head + NUMBERS, len(head)) is None
    assert [len(each.to_values()) for each in read_both_ways(head + NUMBERS, len(head)).tensors if each.size == 4] == [
        4
    ]


def test_numbers_alias_the_request_or_nothing() -> None:
    body = ask(tensor([1, 2, 3, 4]))
    request = decode_usual(body, len(body))
    assert request is not None
    data = request.tensors[0].data
    assert isinstance(data, Numbers) and bytes(data.text) == b"[1,2,3,4]" and data.text.obj is body
