"""Small networks that need rewriting, each with weights and statistics that are not those of a new one."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from bmp.signature import Signature, TensorSpec

L = keras.layers
OUTPUT = TensorSpec("answer", "float32", (3,))


def sign(*shape, dtype="float32", vocabulary=None):
    return Signature((TensorSpec("x", dtype, shape, vocabulary),), (OUTPUT,), "regression")


def shake(model, seed=0):
    """Gives every weight a value of its own; variances stay positive, and scales of either sign occur."""
    random = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        drawn = random.normal(size=variable.shape) * 0.4
        drawn = np.abs(drawn) + 0.3 if "variance" in variable.name else drawn
        weights.append(drawn.astype(variable.dtype.as_numpy_dtype))
    model.set_weights(weights)
    return model


def chain(shape, *layers, dtype="float32"):
    """A sequence of layers ending in three numbers."""
    x = inputs = keras.Input(shape, name="x", dtype=dtype)
    for layer in layers:
        x = layer(x)
    return shake(keras.Model(inputs, L.Dense(3, name="answer")(x)))


def conv_norm_relu():
    return chain((6, 6, 2), L.Conv2D(4, 3, use_bias=False), L.BatchNormalization(), L.ReLU(), L.Flatten())


def conv_relu_norm():
    return chain((6, 6, 2), L.Conv2D(4, 3, activation="relu", name="c"), L.BatchNormalization(name="n"), L.Flatten())


def norm_before_padding():
    layers = L.BatchNormalization(name="n"), L.Conv2D(4, 3, padding="same"), L.GlobalAveragePooling2D()
    return chain((6, 6, 2), *layers)


def norm_before_pooling():
    layers = L.BatchNormalization(name="n", scale=False), L.MaxPooling2D(), L.Conv2D(4, 2, padding="valid"), L.Flatten()
    return chain((6, 6, 2), *layers)


def depthwise_norm():
    layers = L.DepthwiseConv2D(3, depth_multiplier=2), L.BatchNormalization(), L.SeparableConv2D(4, 2)
    return chain((6, 6, 2), *layers, L.BatchNormalization(center=False), L.Flatten())


def transposed_norm():
    return chain((4, 4, 2), L.Conv2DTranspose(3, 2, strides=2), L.BatchNormalization(), L.Flatten())


def dense_norm():
    return chain((5,), L.Dense(6), L.BatchNormalization(), L.ReLU(), L.Dropout(0.2))


def dense_relu_norm_dropout():
    return chain((5,), L.Dense(6, activation="relu"), L.BatchNormalization(name="n"), L.Dropout(0.2))


def norm_on_both_sides():
    return chain((6, 6, 2), L.BatchNormalization(), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU(), L.Flatten())


def two_users():
    """The convolution's output is used beside the normalisation: neither may change it."""
    x = inputs = keras.Input((6, 6, 2), name="x")
    y = L.Conv2D(2, 3, padding="same", name="c")(x)
    z = L.ReLU()(L.BatchNormalization(name="n")(y))
    return shake(keras.Model(inputs, L.Dense(3, name="answer")(L.Flatten()(L.Add()([y, z])))))


def series():
    layers = (
        L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
        L.Conv1D(4, 3, strides=2, padding="same", groups=2),
        L.SeparableConv1D(6, 2, padding="same", activation="tanh"),
        L.DepthwiseConv1D(2, strides=2),
        L.Conv1D(5, 2),
    )
    return chain((16, 4), *layers, L.GlobalAveragePooling1D())


def loops():
    """Recurrent layers as loops, one after the other and both ways."""
    layers = (
        L.LSTM(3, return_sequences=True),
        L.Bidirectional(L.GRU(2, return_sequences=True)),
        L.Bidirectional(L.LSTM(2), backward_layer=L.LSTM(2, go_backwards=True)),
    )
    return chain((5, 4), *layers)


def attention():
    x = inputs = keras.Input((6, 8), name="x")
    y = L.MultiHeadAttention(2, 3, value_dim=5, name="self")(x, x, use_causal_mask=True)
    z = L.MultiHeadAttention(4, 2, output_shape=6, use_bias=False, name="cross")(y, x[:, :4])
    return shake(keras.Model(inputs, L.Dense(3, name="answer")(L.GlobalAveragePooling1D()(z))))


def masked_attention():
    x = inputs = keras.Input((7,), name="x", dtype="int32")
    y = L.Embedding(5, 8, mask_zero=True)(x)
    y = L.MultiHeadAttention(2, 4, name="masked")(y, y)
    z = L.MultiHeadAttention(2, 4, name="given")(y, y, attention_mask=(x[:, :, None] != x[:, None, :]))
    return shake(keras.Model(inputs, L.Dense(3, name="answer")(L.Flatten()(z))))


def nested():
    """A sequence in a model in a model, called twice; names of layers occur twice."""
    inner = keras.Sequential([L.Dense(4, activation="relu", name="d", input_shape=(5,)), L.Dense(5, name="e")])
    x = keras.Input((5,))
    middle = keras.Model(x, L.Add(name="d")([inner(x), x]), name="middle")
    inputs = keras.Input((5,), name="x")
    y = middle(L.BatchNormalization()(inputs))
    return shake(keras.Model(inputs, L.Dense(3, name="answer")(middle(y))))


def scaled_bytes():
    layers = L.Rescaling(1 / 255), L.Conv2D(4, 3, padding="same"), L.Flatten()
    return chain((6, 6, 2), *layers, dtype="uint8")


class Own(keras.Model):
    """Layers, a model inside, and operations of TensorFlow."""

    def __init__(self):
        super().__init__(name="own")
        self.body = keras.Sequential([L.Dense(6), L.BatchNormalization(), L.ReLU()])
        self.head = L.Dense(3)

    def call(self, inputs, training=None):
        x = self.body(inputs, training=training)
        return self.head(tf.concat([x, tf.nn.relu(inputs * 2.0)[:, :3]], axis=-1))


def subclassed():
    model = Own()
    model(keras.Input((5,)))
    return shake(model)
