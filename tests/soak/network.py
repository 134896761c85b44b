"""The network of the campaign: whatever keeps a state of its own, or draws numbers, is in it."""

from typing import TYPE_CHECKING

from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def build_net(signature: Signature, /, *, maps: int = 8, units: int = 32) -> "keras.Model":
    """Returns convolution, batch normalisation, noise and dropout in a row, for 8x8 images of 10 classes."""
    import tf_keras as keras

    inputs = keras.Input((8, 8), name=signature.inputs[0].name)
    x = keras.layers.Reshape((8, 8, 1))(inputs)
    x = keras.layers.Conv2D(maps, 3, padding="same", use_bias=False)(x)  # (B, 8, 8, maps)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GaussianNoise(0.1)(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(units, activation="relu")(x)
    x = keras.layers.Dropout(0.3)(x)
    outputs = keras.layers.Dense(10, activation="softmax", name=signature.outputs[0].name)(x)
    return keras.Model(inputs, outputs, name="soak")
