"""Messages of the Open Inference Protocol, written and read by Triton's own client on the other side."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from infer_ways import read_both_ways
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from bmp.errors import BmpError, RequestError
from serving.codec.inference_v2 import (
    HEADER_LENGTH,
    InferRequest,
    OutputTensor,
    encode_infer,
    read_header_length,
)

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)
WORDS = np.array(["Grüße", ""], object)
TENSOR = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [0, 1, 2, 3, 4, 5]}


def as_triton_sends(binary: bool, outputs: list[InferRequestedOutput] | None = None) -> tuple[bytes, str | None]:
    """A request of two tensors, and its header."""
    inputs = [InferInput("x", [2, 3], "FP32"), InferInput("word", [2], "BYTES")]
    inputs[0].set_data_from_numpy(NUMBERS, binary_data=binary)
    inputs[1].set_data_from_numpy(WORDS, binary_data=binary)
    body, length = InferenceServerClient.generate_request_body(inputs, outputs, request_id="a1")
    return body, None if length is None else str(length)


def decode(body: bytes, header: str | None = None) -> InferRequest:
    return read_both_ways(body, read_header_length(header, body))


@pytest.mark.parametrize("binary", [True, False])
def test_reads_what_tritons_client_sends(binary: bool) -> None:
    request = decode(*as_triton_sends(binary))
    numbers, words = request.tensors
    assert (numbers.name, words.name, request.id, request.outputs, request.binary) == ("x", "word", "a1", (), True)
    assert np.array_equal(numbers.to_array(), NUMBERS)
    assert [value if isinstance(value, str) else value.decode() for value in words.to_values()] == WORDS.tolist()


def test_reads_which_outputs_tritons_client_wants() -> None:
    wanted = [InferRequestedOutput("y", binary_data=False), InferRequestedOutput("z", class_count=3)]
    first, second = decode(*as_triton_sends(True, wanted)).outputs
    assert (first.name, first.binary, first.classes) == ("y", False, None)
    assert (second.name, second.binary, second.classes) == ("z", True, 3)


@pytest.mark.parametrize("binary", [(True, True), (False, False), (True, False), (False, True)])
def test_tritons_client_reads_what_is_answered(binary: tuple[bool, bool]) -> None:
    words = np.array([[b"0.5:1:Gr\xc3\xbc\xc3\x9fe"], [b""]], object)
    outputs = [OutputTensor("y", NUMBERS.T, binary[0]), OutputTensor("z", words, binary[1])]
    body, length = encode_infer("digits", 3, outputs, "a1")
    assert (length is None) is (not any(binary))
    result = InferenceServerClient.parse_response_body(body, header_length=length)
    assert np.array_equal(result.as_numpy("y"), NUMBERS.T) and result.as_numpy("y").dtype == np.float32
    assert [word if isinstance(word, bytes) else word.encode() for word in result.as_numpy("z").ravel()] == [
        *words.ravel()
    ]
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("digits", "3", "a1")


def test_null_is_the_same_as_nothing() -> None:
    bare = {**TENSOR, "parameters": None}
    body = {"id": None, "parameters": None, "inputs": [bare], "outputs": None, "model_name": None}
    assert decode(orjson.dumps(body)) == decode(orjson.dumps({"inputs": [TENSOR]}))


def with_bytes(size: Any, behind: bytes, **fields: Any) -> tuple[bytes, str]:
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": size}, **fields}
    head = orjson.dumps({"inputs": [tensor]})
    return head + behind, str(len(head))


BAD: dict[str, tuple[Any, str | None, str]] = {
    # name: (body, header, what the message must say)
    "empty": (b"", None, "not valid JSON"),
    "not JSON": (b"{", None, "not valid JSON"),
    "NaN": (b'{"inputs": [{"data": [NaN]}]}', None, "not valid JSON"),
    "deep": (b"[" * 5000, None, "not valid JSON"),
    "array": ([TENSOR], None, "is an array"),
    "no inputs": ({}, None, "The body has no 'inputs'"),
    "no tensor": ({"inputs": []}, None, "inputs is empty"),
    "inputs object": ({"inputs": TENSOR}, None, "inputs is an object; expected a list"),
    "unknown key": ({"inputs": [TENSOR], "output": []}, None, "Did you mean 'outputs'?"),
    "tensor a list": ({"inputs": [[1]]}, None, "inputs[0] is an array; expected an object"),
    "tensor key": ({"inputs": [{**TENSOR, "dtype": "FP32"}]}, None, "Did you mean 'datatype'?"),
    "no name": ({"inputs": [{**TENSOR, "name": None}]}, None, "inputs[0] has no 'name'"),
    "no shape": ({"inputs": [{**TENSOR, "shape": None}]}, None, "inputs[0] has no 'shape'"),
    "no data": ({"inputs": [{**TENSOR, "data": None}]}, None, "inputs[0] has no data"),
    "name a number": ({"inputs": [{**TENSOR, "name": 1}]}, None, "inputs[0].name is a number"),
    "datatype": ({"inputs": [{**TENSOR, "datatype": "FP33"}]}, None, "Did you mean 'FP32'?"),
    "datatype of numpy": ({"inputs": [{**TENSOR, "datatype": "float32"}]}, None, "datatype is 'float32'; known are"),
    "empty shape": ({"inputs": [{**TENSOR, "shape": []}]}, None, "inputs[0].shape is []"),
    "negative": ({"inputs": [{**TENSOR, "shape": [-1, 3]}]}, None, "inputs[0].shape is [-1, 3]"),
    "fraction": ({"inputs": [{**TENSOR, "shape": [2.0, 3]}]}, None, "inputs[0].shape is [2.0, 3]"),
    "boolean in shape": ({"inputs": [{**TENSOR, "shape": [True, 3]}]}, None, "inputs[0].shape is [True, 3]"),
    "huge": ({"inputs": [{**TENSOR, "shape": [2**63]}]}, None, "inputs[0].shape is [9223372036854775808]"),
    "rank": ({"inputs": [{**TENSOR, "shape": [1] * 33}]}, None, "inputs[0].shape is"),
    "data a number": ({"inputs": [{**TENSOR, "data": 1}]}, None, "inputs[0].data is a number; expected a list"),
    "twice": ({"inputs": [TENSOR, TENSOR]}, None, "inputs names 'x' twice"),
    "output twice": ({"inputs": [TENSOR], "outputs": [{"name": "y"}] * 2}, None, "outputs names 'y' twice"),
    "output a string": ({"inputs": [TENSOR], "outputs": ["y"]}, None, "outputs[0] is a string"),
    "binary a number": (
        {"inputs": [TENSOR], "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
        None,
        "outputs[0].parameters.binary_data is a number; expected true or false",
    ),
    "classes a boolean": (
        {"inputs": [TENSOR], "outputs": [{"name": "y", "parameters": {"classification": True}}]},
        None,
        "classification is a boolean",
    ),
    "id a number": ({"inputs": [TENSOR], "id": 7}, None, "id is a number; expected a string"),
    "shared memory": (
        {"inputs": [{**TENSOR, "data": None, "parameters": {"shared_memory_region": "r"}}]},
        None,
        "shared memory",
    ),
    "header a word": ({"inputs": [TENSOR]}, "all", f"{HEADER_LENGTH} is 'all'"),
    "header negative": ({"inputs": [TENSOR]}, "-1", f"{HEADER_LENGTH} is '-1'"),
    "header in Arabic digits": ({"inputs": [TENSOR]}, "٣", f"{HEADER_LENGTH} is"),
    "header too long": ({"inputs": [TENSOR]}, "1000", f"{HEADER_LENGTH} is '1000'"),
    "header huge": ({"inputs": [TENSOR]}, "9" * 30, f"{HEADER_LENGTH} is '999"),
    "header too short": ({"inputs": [TENSOR]}, "10", "not valid JSON"),
    "bytes left": (*with_bytes(8, b"\0" * 9), "1 bytes more than"),
    "bytes missing": (*with_bytes(8, b"\0" * 7), "binary_data_size is 8, but 7 bytes are left"),
    "bytes without header": (with_bytes(8, b"\0" * 8)[0], None, "not valid JSON"),
    "negative bytes": (*with_bytes(-8, b"\0" * 8), "binary_data_size is -8"),
    "bytes a fraction": (*with_bytes(8.0, b"\0" * 8), "binary_data_size is a number; expected a whole number"),
    "both": (*with_bytes(8, b"\0" * 8, data=[1, 2]), "data both in the JSON and behind it"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(name: str) -> None:
    body, header, says = BAD[name]
    with pytest.raises(BmpError) as raised:
        decode(body if isinstance(body, bytes) else orjson.dumps(body), header)
    assert isinstance(raised.value, RequestError)
    assert says in raised.value.message and len(raised.value.message) < 400


GOOD_BODY, GOOD_HEADER = as_triton_sends(True)
assert GOOD_HEADER is not None
HEAD_LENGTH = int(GOOD_HEADER)


@given(st.one_of(st.integers(-2, len(GOOD_BODY) + 40).map(str), st.text(max_size=6), st.binary(max_size=6).map(repr)))
@settings(max_examples=200, deadline=None)
def test_every_other_header_is_refused(header: str) -> None:
    if header == GOOD_HEADER:
        return
    with pytest.raises(RequestError):
        decode(GOOD_BODY, header)


@given(st.integers(0, HEAD_LENGTH - 1), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_json_with_any_byte_changed_is_read_or_refused(position: int, byte: int) -> None:
    body = GOOD_BODY[:position] + bytes([byte]) + GOOD_BODY[position + 1 :]
    try:
        for tensor in decode(body, GOOD_HEADER).tensors:
            assert len(tensor.to_values()) == tensor.size
    except BmpError as error:
        assert len(error.message) < 400


@given(st.integers(0, len(GOOD_BODY) - 1))
@settings(max_examples=100, deadline=None)
def test_a_body_that_ends_early_is_refused(size: int) -> None:
    with pytest.raises(RequestError):
        decode(GOOD_BODY[:size], GOOD_HEADER)


def test_an_answer_in_json_is_json() -> None:
    body, _ = encode_infer("digits", 3, [OutputTensor("y", NUMBERS)])
    assert json.loads(body) == {
        "model_name": "digits",
        "model_version": "3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 3], "data": [0, 1, 2, 3, 4, 5]}],
    }
