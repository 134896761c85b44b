"""Support vector machines with a Gaussian kernel and fixed weights."""

import itertools
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

_BLOCK = 2**16
"""Differences that are held at a time for each example: 256 KiB."""


@keras.saving.register_keras_serializable("bmp")
class SupportVectors(keras.layers.Layer):
    """Maps features `(B, F)` to decisions `(B, outputs)`: `exp(-gamma |x - v|²)` of each vector v, weighed and summed.

    Distances are sums of squared differences: `|x|² - 2 x·v + |v|²` would lose what float32 has left of near vectors.

    None of the weights is trained.

    Args:
        vectors: How many.
        outputs: Decisions.
        gamma: Of the kernel.
    """

    def __init__(self, vectors: int, outputs: int, gamma: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vectors, self.outputs, self.gamma = vectors, outputs, gamma

    def build(self, input_shape: Any) -> None:
        """Makes the vectors, `(vectors, F)`, their coefficients, `(vectors, outputs)`, and the intercepts."""

        def add_table(name: str, *shape: int) -> Any:
            return self.add_weight(name, shape, "float32", initializer="zeros", trainable=False)

        self.vector = add_table("vector", self.vectors, input_shape[-1])
        self.coefficient = add_table("coefficient", self.vectors, self.outputs)
        self.intercept = add_table("intercept", self.outputs)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the decisions, `(B, outputs)`."""
        block = max(1, _BLOCK // self.vectors)  # features at a time: differences take memory for every pair
        distances: Any = 0.0  # (B, vectors)
        for start in range(0, inputs.shape[-1], block):
            x, vector = inputs[:, None, start : start + block], self.vector[:, start : start + block]
            distances += tf.reduce_sum(tf.math.squared_difference(x, vector), axis=-1)
        return tf.matmul(tf.exp(-self.gamma * distances), self.coefficient) + self.intercept

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return super().get_config() | {"vectors": self.vectors, "outputs": self.outputs, "gamma": self.gamma}


@keras.saving.register_keras_serializable("bmp")
class PairwiseVotes(keras.layers.Layer):
    """Maps the decision of each pair of classes, `(B, C * (C - 1) / 2)`, to a score for each class, `(B, C)`.

    A score is the number of pairs a class wins, plus its summed decisions squeezed to less than a third either way,
    which settles ties.

    Args:
        classes: C.
    """

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classes = classes

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the scores, `(B, C)`."""
        sides = np.zeros((inputs.shape[-1], self.classes), np.float32)  # 1 for the first of a pair, -1 for the second
        for pair, (first, second) in enumerate(itertools.combinations(range(self.classes), 2)):
            sides[pair, [first, second]] = 1, -1
        won_as_second = np.sum(sides < 0, axis=0, dtype=np.float32)
        votes = tf.matmul(tf.cast(inputs >= 0, inputs.dtype), sides) + won_as_second
        confidence = tf.matmul(inputs, sides)
        return votes + confidence / (3 * (tf.abs(confidence) + 1))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return super().get_config() | {"classes": self.classes}
