"""What LeNet-5 needs beside Keras' own layers."""

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

_SOURCES = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (2, 3, 5, 0)),
    (0, 1, 2, 3, 4, 5),
)
"""Table I of the paper: the maps of S2 that each map of C3 looks at."""
_CONNECTIONS = sum(map(len, _SOURCES))


@keras.saving.register_keras_serializable("bmp")
class TableConvolution(keras.layers.Layer):
    """C3: 16 maps of 5x5 kernels, each over some of the 6 maps of S2. With the biases, 1,516 weights."""

    def build(self, input_shape: Any) -> None:
        """Makes a kernel for each of the 60 connections, `(5, 5, 60)`, and a bias for each map, `(16,)`."""
        mean_fan_in = 25 * _CONNECTIONS / 16
        spread = keras.initializers.RandomUniform(-2.4 / mean_fan_in, 2.4 / mean_fan_in)
        self.kernel = self.add_weight("kernel", (5, 5, _CONNECTIONS), initializer=spread)
        self.bias = self.add_weight("bias", (16,), initializer="zeros")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Maps `(B, H, W, 6)` to `(B, H - 4, W - 4, 16)`."""
        place = np.full((6, 16), _CONNECTIONS)  # of a kernel; the last one is zero
        pairs = [(source, target) for target, sources in enumerate(_SOURCES) for source in sources]
        place[tuple(zip(*pairs, strict=True))] = np.arange(_CONNECTIONS)
        kernel = tf.gather(tf.pad(self.kernel, ((0, 0), (0, 0), (0, 1))), place, axis=2)  # (5, 5, 6, 16)
        return tf.nn.bias_add(tf.nn.conv2d(inputs, kernel, 1, "VALID"), self.bias)


@keras.saving.register_keras_serializable("bmp")
class ScaledTanh(keras.layers.Layer):
    """`1.7159 tanh(2 x / 3)`, the paper's squashing function: about 1 at 1, and -1 at -1."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns a tensor of the same shape."""
        return 1.7159 * tf.tanh(2 / 3 * inputs)
