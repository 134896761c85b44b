"""Tensors in JSON and in bytes: what goes out comes in, and what does not fit is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.errors import BmpError, SignatureError
from bmp.signature import TensorSpec
from serving.codec.tensors import (
    BYTES,
    DTYPES,
    Tensor,
    datatype_of,
    fit_array,
    join_elements,
    split_elements,
    to_bytes,
)

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Any numbers of any datatype, NaN and infinity among them."""
    dtype, shape = np.dtype(draw(st.sampled_from(list(DTYPES.values())))), draw(SHAPES)
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    return np.frombuffer(bytes(byte & 1 for byte in data) if dtype.kind == "b" else data, dtype).reshape(shape)


def tensor(data: Any, shape: tuple[int, ...], datatype: str = "FP32") -> Tensor:
    return Tensor("x", datatype, shape, data, "inputs[0]")


@given(arrays())
@settings(max_examples=100, deadline=None)
def test_numbers_in_bytes_come_back_bit_by_bit(array: np.ndarray) -> None:
    back = tensor(to_bytes(array), array.shape, datatype_of(array.dtype.name)).to_array()
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@given(arrays(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_numbers_in_lists_come_back_flat_and_nested(array: np.ndarray, flat: bool) -> None:
    array = np.nan_to_num(array) if array.dtype.kind == "f" else array
    given = tensor((array.ravel() if flat else array).tolist(), array.shape, datatype_of(array.dtype.name))
    back = given.to_array()
    assert back.dtype == array.dtype and np.array_equal(back, array)
    assert given.to_values() == array.ravel().tolist()


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=5))
@settings(deadline=None)
def test_elements_of_bytes_come_back(elements: list[bytes]) -> None:
    data = join_elements(elements)
    assert split_elements(data, "x", len(elements)) == elements
    assert to_bytes(np.array([*elements, None], object)[:-1]) == data
    assert tensor(data, (len(elements),), BYTES).to_values() == elements
    for cut in range(1, len(data)):
        with pytest.raises(BmpError):
            tensor(data[:-cut], (len(elements),), BYTES).to_values()


@given(st.binary(max_size=40), SHAPES, st.sampled_from([*DTYPES, BYTES]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes, shape: tuple[int, ...], datatype: str) -> None:
    for read in (Tensor.to_values, Tensor.to_array):
        try:
            assert len(read(tensor(data, shape, datatype))) > 0
        except BmpError as error:
            assert len(error.message) < 300


JUNK: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-300, 300) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@given(JUNK, SHAPES, st.sampled_from([*DTYPES, BYTES]))
@settings(max_examples=150, deadline=None)
def test_any_lists_are_read_or_refused(data: Any, shape: tuple[int, ...], datatype: str) -> None:
    try:
        array = tensor(data, shape, datatype).to_array()
        assert array.shape == shape and array.dtype == DTYPES[datatype]
    except BmpError as error:
        assert len(error.message) < 500
    try:
        assert len(tensor(data, shape, datatype).to_values()) == np.prod(shape)
    except BmpError as error:
        assert len(error.message) < 500


@pytest.mark.parametrize(
    ("data", "shape", "datatype", "says"),
    [
        ([1, 2, 3], (2, 2), "FP32", "says shape [2, 2], but its data has 3 elements"),
        ([[1, 2], [3]], (2, 2), "FP32", "inputs[0].data[1] has 1 elements"),
        ([[1], [2], [3], [4]], (2, 2), "FP32", "its data has [4, 1]"),
        ([[[1, 2]], [[3, 4]]], (2, 2), "FP32", "its data has [2, 1, 2]"),
        ([1, True], (2,), "FP32", "inputs[0].data[1] is a boolean"),
        ([1, 0], (2,), "BOOL", "inputs[0].data[0] is a number; expected true or false"),
        ([1, 1.5], (2,), "INT8", "inputs[0].data[1] is a number; expected a whole number"),
        ([1, 128], (2,), "INT8", "a number that int8 cannot represent"),
        ([-1], (1,), "UINT64", "a number that uint64 cannot represent"),
        ([1e39], (1,), "FP32", "a number that float32 cannot represent"),
        ([70000], (1,), "FP16", "a number that float16 cannot represent"),
        (["a"], (1,), "BYTES", "is BYTES; expected numbers for 'x'"),
        ([], (0, 2), "FP32", "holds nothing"),
        (b"", (0,), "FP32", "holds nothing"),
        (b"", (2**31, 2**31, 0), "FP32", "holds nothing"),
        (b"", (2**31,) * 32, "FP32", "has 0 bytes of data"),
        (b"1234567", (2,), "FP32", "has 7 bytes of data; FP32 of shape [2] has 8"),
        (b"\0\2", (2,), "BOOL", "a byte other than 0 and 1"),
    ],
)
def test_what_is_no_such_tensor_is_said(data: Any, shape: tuple[int, ...], datatype: str, says: str) -> None:
    with pytest.raises(SignatureError) as raised:
        tensor(data, shape, datatype).to_array()
    assert says in raised.value.message


@pytest.mark.parametrize(
    ("data", "shape", "says"),
    [
        (["a", "b"], (3,), "says shape [3], but its data has 2 elements"),
        ([["a"], "b"], (2, 1), "something else at level 1"),
        ([["a"], ["b", "c"]], (2, 1), "something else at level 1"),
        (join_elements([b"a", b"b"]), (3,), "but its data has 2 elements"),
        ({"a": 1}, (1,), "inputs[0].data is an object; expected a list"),
    ],
)
def test_what_are_no_such_strings_is_said(data: Any, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(SignatureError) as raised:
        tensor(data, shape, BYTES).to_values()
    assert says in raised.value.message


EXACT = [("float16", "float32"), ("float32", "float64"), ("uint8", "float32"), ("int16", "int32"), ("int32", "float64")]
INEXACT = [
    ("float64", "float32"),
    ("int32", "float32"),
    ("int64", "int32"),
    ("float32", "int32"),
    ("uint8", "int8"),
    ("bool", "float32"),
    ("uint8", "bool"),
]


@pytest.mark.parametrize(("given", "wanted"), EXACT)
def test_a_dtype_that_holds_all_numbers_of_another_takes_them(given: str, wanted: str) -> None:
    array = fit_array(np.array([1, 3], given), TensorSpec("x", wanted, ()), "x")
    assert array.dtype == wanted and array.tolist() == [1, 3]


@pytest.mark.parametrize(("given", "wanted"), INEXACT)
def test_a_dtype_that_does_not_is_refused(given: str, wanted: str) -> None:
    with pytest.raises(SignatureError, match=f"Input 'x' is {given}; expected {wanted}"):
        fit_array(np.ones(2, given), TensorSpec("x", wanted, ()), "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_place(value: float) -> None:
    array = np.zeros((2, 3), np.float32)
    array[1, 2] = value
    with pytest.raises(SignatureError, match=r"inputs\[0\] holds NaN or infinity at \[1\]\[2\]"):
        tensor(array.tobytes(), array.shape).fit(TensorSpec("x", "float32", (3,)))


def test_nan_in_bytes_is_a_missing_value() -> None:
    assert tensor(np.array([1, np.nan], np.float32).tobytes(), (2,)).to_values() == [1, None]
