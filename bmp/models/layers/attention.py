"""What a transformer needs beside dense layers. All weights of attention are in dense layers around it, so that they
are pruned and quantized like any other.
"""

from typing import Any

import tensorflow as tf
import tf_keras as keras

_OUT_OF_SIGHT = 30.0
"""How far below the smallest score a masked one is put: a share of e^-30, which float32 does not see. The usual minus
infinity would leave an int8 export no steps to tell the other scores apart."""


@keras.saving.register_keras_serializable("bmp")
class SelfAttention(keras.layers.Layer):
    """Scaled dot-product attention of a sequence with itself, several heads side by side; no weights.

    Called with queries, keys and values in one `(B, T, 3 * width)`, and optionally a mask, bool `(B, T)`, true where
    a position may be looked at. Returns `(B, T, width)`.

    Args:
        heads: Into which the width is cut.
        causal: Whether a position sees only itself and those before it.
        dropout: Share of attention weights dropped, in training only.

    Reference:
        Vaswani et al.: Attention is all you need, 2017, section 3.2.
    """

    def __init__(self, heads: int, causal: bool = False, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.causal = causal
        self.dropout = dropout
        self._drop = keras.layers.Dropout(dropout)

    def call(self, inputs: Any, training: Any = None) -> tf.Tensor:
        """Returns the values each position attends to, `(B, T, width)`."""
        packed, mask = inputs if isinstance(inputs, (list, tuple)) else (inputs, None)
        length, width = packed.shape[1], packed.shape[2] // 3
        size = width // self.heads  # D
        query, key, value = (
            tf.transpose(tf.reshape(part, (-1, length, self.heads, size)), (0, 2, 1, 3))  # (B, heads, T, D)
            for part in tf.split(packed, 3, axis=-1)
        )
        scores = tf.matmul(query * size**-0.5, key, transpose_b=True)  # (B, heads, T, T)
        seen = self._seen(length, mask)
        if seen is not None:
            hidden = tf.stop_gradient(tf.reduce_min(scores, axis=-1, keepdims=True)) - _OUT_OF_SIGHT
            scores = tf.where(seen, scores, hidden)
        shares = self._drop(tf.nn.softmax(scores), training=training)
        context = tf.transpose(tf.matmul(shares, value), (0, 2, 1, 3))  # (B, T, heads, D)
        return tf.reshape(context, (-1, length, width))

    def _seen(self, length: int, mask: tf.Tensor | None) -> tf.Tensor | None:
        """Returns which key (last axis) each query may look at, broadcastable to `(B, heads, T, T)`."""
        past = tf.range(length)[:, None] >= tf.range(length)[None, :] if self.causal else None
        if mask is None:
            return past
        present = mask[:, None, None, :]
        return present if past is None else present & past

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return super().get_config() | {"heads": self.heads, "causal": self.causal, "dropout": self.dropout}


@keras.saving.register_keras_serializable("bmp")
class LearnedPositions(keras.layers.Layer):
    """Adds a learned vector for each position to `(B, T, width)`."""

    def build(self, input_shape: Any) -> None:
        """Makes the vectors, `(T, width)`."""
        self.table = self.add_weight(
            "table", tuple(input_shape[1:]), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the sum, `(B, T, width)`."""
        return inputs + self.table


@keras.saving.register_keras_serializable("bmp")
class TiedEmbedding(keras.layers.Embedding):
    """An embedding whose table is the output layer as well.

    `layer(tokens)` maps int `(B, T)` to `(B, T, width)`; `layer(features, reverse=True)` maps `(B, T, width)` to the
    logits of every token, `(B, T, vocabulary)`.

    Reference:
        Press and Wolf: Using the output embedding to improve language models, 2017.
    """

    def call(self, inputs: tf.Tensor, reverse: bool = False) -> tf.Tensor:
        """Returns vectors of tokens, or logits of vectors."""
        if not reverse:
            return super().call(inputs)
        return tf.matmul(inputs, tf.cast(self.embeddings, inputs.dtype), transpose_b=True)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Is left to be inferred: it depends on the direction."""
        return keras.layers.Layer.compute_output_shape(self, input_shape)


@keras.saving.register_keras_serializable("bmp")
class PaddingMask(keras.layers.Layer):
    """Maps tokens `(B, T)` to bool `(B, T)`: true but where token 0 fills up."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the mask."""
        return tf.not_equal(inputs, 0)


@keras.saving.register_keras_serializable("bmp")
class MaskedMean(keras.layers.Layer):
    """Mean of `(B, T, width)` over the positions where bool `(B, T)` is true: `(B, width)`, zeros where none is."""

    def call(self, inputs: Any) -> tf.Tensor:
        """Returns the mean, given `[features, mask]`."""
        features, mask = inputs
        weights = tf.cast(mask, features.dtype)[:, :, None]
        return tf.reduce_sum(features * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
