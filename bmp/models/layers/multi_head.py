"""What is left of Keras' MultiHeadAttention when its four kernels are dense layers of their own."""

from typing import Any

import tensorflow as tf
import tf_keras as keras

_OUT_OF_SIGHT = 30.0
"""See bmp.models.layers.attention."""


@keras.saving.register_keras_serializable("bmp")
class Attention(keras.layers.Layer):
    """Scaled dot-product attention of queries to keys and values, several heads side by side; no weights.

    Called with `[query (B, T, heads * D), key (B, S, heads * D), value (B, S, heads * V)]`, and optionally a mask
    `(B, T, S)` as a fourth, true where a query may look at a key. Masks that Keras hands on, `(B, T)` and `(B, S)`,
    are heeded. Returns `(B, T, heads * V)`.

    Args:
        heads: Into which the widths are cut.
        causal: Whether a position sees only itself and those before it.
        dropout: Share of attention weights dropped, in training only.

    Reference:
        Vaswani et al.: Attention is all you need, 2017, section 3.2.
    """

    def __init__(self, heads: int, causal: bool = False, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self._drop = keras.layers.Dropout(dropout)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None, training: Any = None) -> tf.Tensor:
        """Returns the values each position attends to, `(B, T, heads * V)`."""
        query, key, value = (self._cut(x) for x in inputs[:3])  # (B, heads, T or S, D or V)
        scores = tf.matmul(query * query.shape[-1] ** -0.5, key, transpose_b=True)  # (B, heads, T, S)
        seen = self._seen(inputs, mask or (None, None, None), scores)
        if seen is not None:
            hidden = tf.stop_gradient(tf.reduce_min(scores, axis=-1, keepdims=True)) - _OUT_OF_SIGHT
            scores = tf.where(seen, scores, hidden)
        shares = self._drop(tf.nn.softmax(scores), training=training)
        context = tf.transpose(tf.matmul(shares, value), (0, 2, 1, 3))  # (B, T, heads, V)
        length, width = context.shape[1], value.shape[-1] * self.heads
        return tf.reshape(context, (-1, tf.shape(context)[1] if length is None else length, width))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Returns the mask of the queries."""
        return mask[0] if mask else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the queries' shape with the values' width."""
        query, _, value = input_shape[:3]
        return tf.TensorShape((*query[:-1], value[-1]))

    def _cut(self, x: tf.Tensor) -> tf.Tensor:
        length = tf.shape(x)[1] if x.shape[1] is None else x.shape[1]
        return tf.transpose(tf.reshape(x, (-1, length, self.heads, x.shape[-1] // self.heads)), (0, 2, 1, 3))

    def _seen(self, inputs: Any, masks: Any, scores: tf.Tensor) -> tf.Tensor | None:
        """Returns which key each query may look at, broadcastable to `(B, heads, T, S)`, or None for all."""
        seen = []
        if self.causal:
            queries, keys = tf.shape(scores)[2], tf.shape(scores)[3]
            seen.append(tf.range(queries)[:, None] >= tf.range(keys)[None, :])
        if len(inputs) > 3:
            seen.append(tf.cast(inputs[3], tf.bool)[:, None])
        of_query, of_key, of_value = masks[:3]
        if of_query is not None:
            seen.append(of_query[:, None, :, None])
        seen += [present[:, None, None, :] for present in (of_key, of_value) if present is not None]
        if not seen:
            return None
        common = seen[0]
        for other in seen[1:]:
            common = common & other
        return common

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return super().get_config() | {"heads": self.heads, "causal": self.causal, "dropout": self.dropout}
