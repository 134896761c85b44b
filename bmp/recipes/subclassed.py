"""A network of one's own: a class of Keras, and the function that a recipe names."""

import tensorflow as tf
import tf_keras as keras

from bmp.signature import Signature


class Net(keras.Model):
    """One hidden layer, and a probability.

    Args:
        hidden: Units of the hidden layer.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(name="net")
        self.hidden = keras.layers.Dense(hidden, activation="tanh")
        self.head = keras.layers.Dense(1, activation="sigmoid")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Takes features (B, 10), returns probabilities (B, 1)."""
        return self.head(self.hidden(inputs))


def build_net(signature: Signature, /, *, hidden: int) -> keras.Model:
    """Returns the network; the recipe's `args` arrive as keywords."""
    return Net(hidden)
