"""Read back by what TensorFlow Serving reads with: its own protocol buffers, TensorFlow's TFRecord reader."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bmp.artifact.warmup import MAX_RECORDS, WARMUP_FILE, _make_records, write_warmup
from bmp.errors import ExportError

DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]


def read_requests(directory):
    records = tf.data.TFRecordDataset(str(directory / WARMUP_FILE)).as_numpy_iterator()
    return [PredictionLog.FromString(record).predict_log.request for record in records]


def test_each_example_is_a_request_of_its_own(tmp_path):
    random = np.random.default_rng(0)
    inputs = {"image": random.normal(size=(5, 8, 8)).astype(np.float32), "colour": random.integers(9, size=5)}
    write_warmup(inputs, "digits", tmp_path)
    requests = read_requests(tmp_path)
    assert len(requests) == 5
    for row, request in enumerate(requests):
        assert (request.model_spec.name, request.model_spec.signature_name) == ("digits", "serving_default")
        assert set(request.inputs) == {"image", "colour"}
        for name, tensor in request.inputs.items():
            array = tf.make_ndarray(tensor)
            assert (array.dtype, array.shape) == (inputs[name].dtype, (1, *inputs[name].shape[1:]))
            np.testing.assert_array_equal(array, inputs[name][row : row + 1])


def test_there_are_never_more_than_tensorflow_serving_takes(tmp_path):
    write_warmup({"x": np.zeros((MAX_RECORDS + 1, 1), np.uint8)}, "m", tmp_path)
    assert len(read_requests(tmp_path)) == MAX_RECORDS == 1000


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(DTYPES).flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=1, min_side=1, max_side=9))),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=200),
)
def test_any_array_comes_back_bit_by_bit(array, name):
    for row, record in enumerate(_make_records({name: array}, name)):
        log = PredictionLog.FromString(record)
        assert not log.HasField("log_metadata") and log.predict_log.request.model_spec.name == name
        back = tf.make_ndarray(log.predict_log.request.inputs[name])
        assert back.dtype == array.dtype and back.shape == (1, *array.shape[1:])
        assert back.tobytes() == array[row : row + 1].tobytes()


def test_bytes_of_another_order_are_turned(tmp_path):
    write_warmup({"x": np.array([[1, 2]], ">i4")}, "m", tmp_path)
    np.testing.assert_array_equal(tf.make_ndarray(read_requests(tmp_path)[0].inputs["x"]), [[1, 2]])


def test_a_type_no_request_carries_is_refused(tmp_path):
    with pytest.raises(ExportError, match="Input 'word' is <U5, which no warm-up request"):
        write_warmup({"word": np.array(["hello"])}, "m", tmp_path)
