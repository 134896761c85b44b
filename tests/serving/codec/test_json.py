"""The two ways in have one verdict, and what goes out comes back."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmp.errors import BmpError, SignatureError
from bmp.signature import Arrays, Signature, TensorSpec
from serving.codec.json import decode_rectangle, decode_request, encode_prediction, to_array


def signature_of(shape: tuple[int | None, ...], dtype: str = "float32") -> Signature:
    return Signature((TensorSpec("x", dtype, shape),), (TensorSpec("y", "float32", (1,)),))


def decode_exactly(body: bytes, signature: Signature) -> Arrays:
    arrays = decode_request(body).to_arrays(signature)
    signature.check_inputs(arrays)
    return arrays


shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5)
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-10, 10, width=32),
    st.sampled_from([0, -0.0, 1e-320, 3.4028235e38, 3.4028236e38, 1e39, 2**53 + 1, 2**64 - 1]),
)


@st.composite
def nested(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """A shape, and a value that has that shape, nearly has it, or has nothing to do with it."""
    shape = draw(shapes)
    rows = draw(st.integers(0, 4))
    value = np.arange(rows * int(np.prod(shape)), dtype=float).reshape(rows, *shape).tolist()
    for _ in range(draw(st.integers(0, 2))):  # change something somewhere
        node, parent, index = value, None, 0
        while isinstance(node, list) and node and draw(st.booleans()):
            parent, index = node, draw(st.integers(0, len(node) - 1))
            node = node[index]
        if parent is None:
            continue
        odd = st.sampled_from([None, True, False, "1", "nan", "", [], [[]], [1], {}, {"a": 1}, [1, 2], [[], []]])
        parent[index] = draw(st.one_of(numbers, odd))
    return shape, value


@given(case=nested(), key=st.sampled_from(["x_test", "instances"]), spaced=st.booleans())
@example(case=((2,), [[[1, 2], []]]), key="x_test", spaced=False)  # right number of leaves, wrong places
@example(case=((2, 2), [[[1, 2, 3], [4]]]), key="x_test", spaced=False)
@example(case=((2, 1), [[[], []], [[1], [2]]]), key="x_test", spaced=False)  # an empty list looks like one number
@example(case=((2, 1), [[[], []]]), key="x_test", spaced=False)
@example(case=((1,), [[1e39]]), key="x_test", spaced=False)
def test_fast_way_accepts_only_what_the_exact_way_accepts_and_reads_the_same(
    case: tuple[tuple[int, ...], Any], key: str, spaced: bool
) -> None:
    shape, value = case
    body = json.dumps({key: value}, indent=1 if spaced else None).encode()
    signature = signature_of(shape)
    fast = decode_rectangle(body, signature)
    if fast is None:
        return
    assert fast.key == key
    signature.check_inputs(fast.arrays)
    exact = decode_exactly(body, signature)
    np.testing.assert_array_equal(fast.arrays["x"], exact["x"], strict=True)


@given(data=st.data(), shape=shapes, rows=st.integers(1, 64), key=st.sampled_from(["x_test", "instances"]))
def test_fast_way_takes_every_usual_body(data: st.DataObject, shape: tuple[int, ...], rows: int, key: str) -> None:
    elements = st.floats(-(2.0**100), 2.0**100, width=32)
    array = data.draw(hnp.arrays(np.float32, (rows, *shape), elements=elements))
    fast = decode_rectangle(orjson.dumps({key: array.tolist()}), signature_of(shape))
    assert fast is not None
    np.testing.assert_array_equal(fast.arrays["x"], array, strict=True)


@given(st.binary(max_size=60))
@example(b'{"x_test":[[1,2]],"x_test":[[3,4]]}')
@example(b'{"x_test0":[[1,2]]}')
@example(b'{"x_teste":[[1,2]]}')
@example(b'{"x_test":[[1,2]]}{}')
@example(b'{"x_test":[[1 2,]]}')
@example(b'{"x_test":[[1,[2]]]}')
@example(b'{"x_test":[[1,2],[3,[4]]]}')
@example(b'{"x_test":[[1,2],"[["]}')
@example(b'{"x_test":[{"a":1,"b":2}]}')
@example(b'\xef\xbb\xbf{"x_test":[[1,2]]}')
def test_any_bytes_end_in_arrays_or_in_an_error_of_ours(body: bytes) -> None:
    signature = signature_of((2,))
    fast = decode_rectangle(body, signature)
    try:
        exact = decode_exactly(body, signature)
    except BmpError:
        assert fast is None
    else:
        assert fast is None or np.array_equal(fast.arrays["x"], exact["x"])


json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "model"]), inner, max_size=2)
    ),
    max_leaves=12,
)


@given(value=json_values, dtype=st.sampled_from(["float32", "int8", "uint8", "int64", "bool"]))
def test_any_value_becomes_an_array_without_a_silent_conversion(value: Any, dtype: str) -> None:
    try:
        array = to_array(value, TensorSpec("x", dtype, (None,)), "x_test")
    except SignatureError as error:
        assert error.message.startswith("x_test")
        return
    assert array.dtype == dtype
    if dtype == "float32":
        assert np.isfinite(array).all()
        np.testing.assert_allclose(array, np.array(value, np.float64), rtol=1e-6, atol=1e-37)
    else:
        assert array.tolist() == value


@pytest.mark.parametrize(
    ("dtype", "value", "says"),
    [
        ("int32", [[1.5]], "x_test[0][0] is a number; expected a whole number"),
        ("int32", [[2**31]], "cannot represent"),
        ("uint8", [[-1]], "cannot represent"),
        ("int64", [[2**63]], "cannot represent"),
        ("bool", [[1]], "x_test[0][0] is a number; expected true or false"),
        ("float32", [[False]], "x_test[0][0] is a boolean; expected a number"),
    ],
)
def test_what_a_dtype_cannot_hold_is_refused(dtype: str, value: Any, says: str) -> None:
    with pytest.raises(SignatureError) as raised:
        to_array(value, TensorSpec("x", dtype, (1,)), "x_test")
    assert says in raised.value.message


def test_several_inputs_come_by_name() -> None:
    signature = Signature(
        (TensorSpec("a", "float32", (2,)), TensorSpec("b", "int32", ())), (TensorSpec("y", "float32", (1,)),)
    )
    arrays = decode_exactly(b'{"x_test": {"a": [[1, 2], [3, 4]], "b": [5, 6]}}', signature)
    assert arrays["a"].tolist() == [[1, 2], [3, 4]] and arrays["b"].tolist() == [5, 6]
    with pytest.raises(SignatureError, match="'b' is missing"):
        decode_exactly(b'{"x_test": {"a": [[1, 2]]}}', signature)
    with pytest.raises(SignatureError, match="2 inputs"):
        decode_exactly(b'{"x_test": [[1, 2]]}', signature)
    with pytest.raises(SignatureError, match="disagree"):
        decode_exactly(b'{"x_test": {"a": [[1, 2]], "b": [5, 6]}}', signature)


@given(hnp.arrays(np.float32, shapes, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_prediction_comes_back_bit_for_bit(array: np.ndarray) -> None:
    content = json.loads(encode_prediction({"y": array}))
    np.testing.assert_array_equal(np.array(content["prediction"], np.float32), array, strict=True)


def test_several_outputs_go_out_by_name() -> None:
    outputs = {"a": np.ones((1, 2), np.float32), "b": np.zeros((1,), np.int64)}
    assert json.loads(encode_prediction(outputs)) == {"prediction": {"a": [[1.0, 1.0]], "b": [0]}}
