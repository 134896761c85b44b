"""Tensors in messages: what TensorFlow writes is read, what is written TensorFlow reads, and the rest is refused."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework.tensor_pb2 import TensorProto as TheirProto

from bmp.errors import BmpError, RequestError, SignatureError
from serving.codec.inference_v2 import OutputTensor
from serving.codec.tensors import BYTES, DTYPES, Tensor
from serving.grpc.messages import message_type
from serving.grpc.tensors import read_contents, read_proto, read_raw, write_proto

MAX_BYTES = 10_000
FIELDS = [field for field in dir(tf.make_tensor_proto(0)) if field.endswith("_val")]
TensorProto = message_type("tensorflow.TensorProto")
InferInputTensor = message_type("inference.ModelInferRequest.InferInputTensor")

arrays = st.sampled_from(sorted(DTYPES.values())).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=4))
)
texts = hnp.arrays(object, hnp.array_shapes(min_dims=1, max_dims=2, max_side=3), elements=st.binary(max_size=5))


def from_tensorflow(proto: Any) -> Tensor:
    return read_proto("x", TensorProto.FromString(proto.SerializeToString()), MAX_BYTES)


def check_values(tensor: Tensor, array: np.ndarray) -> None:
    assert tensor.shape == array.shape
    if array.dtype == object:
        assert tensor.to_values() == array.ravel().tolist()
    else:
        read = tensor.to_array()
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@given(array=arrays | texts)
def test_what_tensorflow_writes_is_read(array: np.ndarray) -> None:
    check_values(from_tensorflow(tf.make_tensor_proto(array)), array)


@given(array=arrays)
def test_numbers_in_lists_are_read(array: np.ndarray) -> None:
    values = array.view(np.uint16) if array.dtype == np.float16 else array  # its list holds bits
    for count in (array.size, 1) if (values == values.flat[0]).all() else (array.size,):
        proto = tf.make_tensor_proto(array)
        tensor = TensorProto(dtype=proto.dtype)
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        field = tf.make_tensor_proto(array.flat[0])  # one value goes into the list of its type
        (name,) = (name for name in FIELDS if len(getattr(field, name)))
        getattr(tensor, name).extend(values.ravel()[:count].tolist())
        check_values(read_proto("x", tensor, MAX_BYTES), array)


@given(array=arrays | texts)
def test_tensorflow_reads_what_is_written(array: np.ndarray) -> None:
    message = TensorProto()
    write_proto(message, OutputTensor("y", array))
    read = tf.make_ndarray(TheirProto.FromString(message.SerializeToString()))
    assert read.shape == array.shape and read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def make_proto(dtype: int, shape: list[int], **fields: Any) -> Any:
    tensor = TensorProto(dtype=dtype, **fields)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


BAD: dict[str, tuple[Any, type[BmpError], str]] = {
    "no type": (make_proto(0, [1, 3]), RequestError, "is DT_INVALID; expected one of DT_FLOAT"),
    "complex": (make_proto(8, [1]), RequestError, "is DT_COMPLEX64; expected one of DT_FLOAT"),
    "a reference": (make_proto(101, [1]), RequestError, "is type 101; expected one of DT_FLOAT"),
    "no shape": (make_proto(1, [], float_val=[1]), RequestError, r"inputs\.x\.tensor_shape is \[\]"),
    "a negative size": (make_proto(1, [-1, 3], float_val=[1]), RequestError, r"tensor_shape is \[-1, 3\]"),
    "a huge size": (make_proto(1, [2**62], float_val=[1]), RequestError, "tensor_shape is"),
    "33 sizes": (make_proto(1, [1] * 33, float_val=[1]), RequestError, "tensor_shape is"),
    "no values": (make_proto(1, [1, 3]), SignatureError, "its data has 0 elements; expected 3"),
    "two of three": (make_proto(1, [1, 3], float_val=[1, 2]), SignatureError, "its data has 2 elements; expected 3"),
    "four of three": (make_proto(1, [1, 3], float_val=[1] * 4), SignatureError, "4 elements; expected 3"),
    "in another list": (make_proto(1, [1, 3], double_val=[1] * 3), SignatureError, "its data has 0 elements"),
    "one for a billion": (make_proto(1, [10**9], float_val=[1]), SignatureError, "which would be 4,000,000,000 bytes"),
    "one text for many": (make_proto(7, [2000], string_val=[b"a"]), SignatureError, "which would be 16,000 bytes"),
    "one long text": (make_proto(7, [101], string_val=[b"a" * 100]), SignatureError, "which would be 10,100 bytes"),
    "over int8": (make_proto(6, [1], int_val=[128]), SignatureError, "holds 128, which is out of the range of INT8"),
    "under uint8": (make_proto(4, [1], int_val=[-1]), SignatureError, "holds -1, which is out of the range of UINT8"),
    "over 16 bits": (make_proto(19, [1], half_val=[65536]), SignatureError, "holds 65536"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tensors(name: str) -> None:
    message, kind, says = BAD[name]
    with pytest.raises(kind, match=says):
        read_proto("x", message, MAX_BYTES)


def test_an_unknown_rank_is_refused() -> None:
    message = make_proto(1, [1, 3], float_val=[1] * 3)
    message.tensor_shape.unknown_rank = True
    with pytest.raises(RequestError, match="tensor_shape is"):
        read_proto("x", message, MAX_BYTES)


@given(data=st.binary(max_size=40), cut=st.integers(0, 60))
def test_any_bytes_are_a_tensor_or_refused(data: bytes, cut: int) -> None:
    good = tf.make_tensor_proto(np.ones((2, 3), np.float32)).SerializeToString()
    message = TensorProto()
    try:
        message.ParseFromString(good[:cut] + data)
    except Exception as error:
        assert type(error).__name__ == "DecodeError"
        return
    try:
        tensor = read_proto("x", message, MAX_BYTES)
        values = tensor.to_values() if tensor.datatype == BYTES else tensor.to_array().ravel()
    except (RequestError, SignatureError):
        return
    assert len(values) == tensor.size


@given(array=arrays | texts)
def test_contents_and_raw_are_the_same(array: np.ndarray) -> None:
    datatype = BYTES if array.dtype == object else next(name for name, dtype in DTYPES.items() if dtype == array.dtype)
    message = InferInputTensor(name="x", datatype=datatype, shape=array.shape)
    if datatype == "FP16":
        with pytest.raises(RequestError, match="send it in raw_input_contents"):
            read_contents(message, "inputs[0]")
    else:
        kind = {"b": "bool", "i": "int", "u": "uint", "O": "bytes"}.get(array.dtype.kind, datatype.lower())
        wide = "64" if array.dtype.itemsize == 8 and array.dtype.kind in "iu" else ""
        getattr(message.contents, f"{kind}{wide}_contents").extend(array.ravel().tolist())
        check_values(read_contents(message, "inputs[0]"), array)
    if datatype != BYTES:
        check_values(read_raw(message, array.tobytes(), "inputs[0]"), array)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"datatype": "FP31", "shape": [1]}, "Did you mean 'FP32'?"),
        ({"datatype": "BF16", "shape": [1]}, r"inputs\[0\]\.datatype is 'BF16'"),
        ({"datatype": "FP32", "shape": []}, r"inputs\[0\]\.shape is \[\]"),
        ({"datatype": "FP32", "shape": [-1]}, r"inputs\[0\]\.shape is \[-1\]"),
        ({"datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1]}}, "has 1 elements; expected 2"),
        ({"datatype": "INT8", "shape": [1], "contents": {"int_contents": [-129]}}, "out of the range of INT8"),
        ({"datatype": "UINT8", "shape": [1], "contents": {"uint_contents": [256]}}, "out of the range of UINT8"),
    ],
    ids=str,
)
def test_bad_contents(fields: dict[str, Any], says: str) -> None:
    with pytest.raises((RequestError, SignatureError), match=says):
        read_contents(InferInputTensor(name="x", **fields), "inputs[0]")
