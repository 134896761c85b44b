"""Decision trees with fixed weights."""

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("bmp")
class Trees(keras.layers.Layer):
    """Sums, or averages, what the leaves of trees say: features `(B, F)` to `(B, outputs)`.

    The nodes of all trees stand in one table; a leaf is its own child. Each example goes down all trees at once,
    as many steps as the deepest has. None of the weights is trained.

    Args:
        trees: How many.
        nodes: Of all trees together.
        outputs: Numbers a leaf says.
        depth: Steps from a root to the deepest leaf.
        mean: Whether the trees' outputs are averaged.
    """

    def __init__(self, trees: int, nodes: int, outputs: int, depth: int, mean: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trees, self.nodes, self.outputs, self.depth, self.mean = trees, nodes, outputs, depth, mean

    def build(self, input_shape: Any) -> None:
        """Makes the tables: root of each tree; feature, threshold and children of each node; values of each leaf."""

        def add_table(name: str, shape: tuple[int, ...], dtype: str) -> Any:
            return self.add_weight(name, shape, dtype, initializer="zeros", trainable=False)

        self.root = add_table("root", (self.trees,), "int32")
        self.feature = add_table("feature", (self.nodes,), "int32")
        self.threshold = add_table("threshold", (self.nodes,), "float32")
        self.left = add_table("left", (self.nodes,), "int32")
        self.right = add_table("right", (self.nodes,), "int32")
        self.value = add_table("value", (self.nodes, self.outputs), "float32")
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the sum or mean, `(B, outputs)`."""
        node = tf.zeros_like(inputs[:, :1], tf.int32) + self.root  # (B, trees)
        for _ in range(self.depth):
            number = tf.gather(inputs, tf.gather(self.feature, node), batch_dims=1)
            goes_left = number <= tf.gather(self.threshold, node)
            node = tf.where(goes_left, tf.gather(self.left, node), tf.gather(self.right, node))
        total = tf.reduce_sum(tf.gather(self.value, node), axis=1)
        return total / self.trees if self.mean else total

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        own = {key: getattr(self, key) for key in ("trees", "nodes", "outputs", "depth", "mean")}
        return super().get_config() | own
