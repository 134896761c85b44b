"""Runs the TensorFlow twins of a preprocessing on numpy columns."""

import numpy as np
import tensorflow as tf

from bmp.data.twins import run_twins


def to_tensor(column: np.ndarray) -> np.ndarray:
    """What a pipeline hands to TensorFlow: UTF-8 for str."""
    if column.dtype != object:
        return column
    encoded = np.empty(len(column), object)
    encoded[:] = [value.encode() if isinstance(value, str) else value for value in column]
    return encoded


class Twin:
    """A preprocessing by TensorFlow, traced once for batches of any size."""

    def __init__(self, preprocessing) -> None:
        kinds = {"number": tf.float32, "tensor": tf.float32}
        columns = {
            field.name: tf.TensorSpec((None, *field.shape), kinds.get(field.kind, tf.string))
            for field in preprocessing.fields
        }

        @tf.function(input_signature=[columns])
        def run(columns):
            return run_twins(preprocessing, columns, None)

        @tf.function(input_signature=[columns, tf.TensorSpec((None, 2), tf.int32)])
        def vary(columns, seeds):
            return run_twins(preprocessing, columns, seeds)

        self._run, self._vary = run, vary

    def run(self, columns, seeds=None) -> dict[str, np.ndarray]:
        tensors = {name: tf.constant(to_tensor(column)) for name, column in columns.items()}
        outputs = self._run(tensors) if seeds is None else self._vary(tensors, tf.constant(seeds, tf.int32))
        return {name: tensor.numpy() for name, tensor in outputs.items()}


def assert_equal(served: dict[str, np.ndarray], trained: dict[str, np.ndarray], tolerance: float) -> None:
    assert list(served) == list(trained)
    for name, array in served.items():
        assert (array.dtype, array.shape) == (trained[name].dtype, trained[name].shape)
        np.testing.assert_allclose(trained[name], array, rtol=0, atol=tolerance, err_msg=name)
