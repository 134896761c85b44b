"""A layer that can round what enters it to eight bits, as an int8 file does. All of this is TensorFlow."""

from typing import Any

import tensorflow as tf
import tf_keras as keras


class RoundedInput(keras.layers.Wrapper):
    """Wraps a layer; first it observes the range of what enters, then it can round to 256 steps of that range.

    Args:
        layer: Not built yet.
    """

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__(layer, name=layer.name)
        self.supports_masking = True
        self.observes = False
        self.low, self.high = tf.Variable(0.0, trainable=False), tf.Variable(0.0, trainable=False)
        self.rounds = tf.Variable(False, trainable=False)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns what the layer makes of its input, rounded or as it is."""
        if not inputs.dtype.is_floating:
            return self.layer(inputs)
        if self.observes and tf.executing_eagerly():
            self.low.assign(tf.minimum(self.low, tf.reduce_min(inputs)))
            self.high.assign(tf.maximum(self.high, tf.reduce_max(inputs)))
        rounded = tf.quantization.fake_quant_with_min_max_vars(inputs, self.low, self.high)
        return self.layer(tf.where(self.rounds, rounded, inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns that of the layer."""
        return self.layer.compute_output_shape(input_shape)
