"""Convolutional networks."""

from typing import TYPE_CHECKING

from pydantic import FiniteFloat, PositiveInt

from bmp.models.head import add_head
from bmp.models.inputs import Share, add_scale, take_image
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def build_cnn(
    signature: Signature,
    /,
    *,
    filters: list[PositiveInt],
    dense: list[PositiveInt],
    kernel_size: PositiveInt = 3,
    scale: FiniteFloat = 1.0,
    dropout: Share = 0.0,
) -> "keras.Model":
    """Builds a network in the manner of LeNet-5: convolution and pooling in turn, then dense layers.

    Args:
        signature: One image input, `(H, W)` or `(H, W, C)`; one output of shape `(width,)`.
        filters: Maps of each convolution; each is followed by 2x2 max pooling.
        dense: Units of each dense layer before the head.
        kernel_size: Side of the convolution kernels.
        scale: What pixels are multiplied by first, in the graph, so that clients send raw pixels.
        dropout: Share of activations dropped before the head, in training only.

    Raises:
        ConfigError: The data holds no images.

    Reference:
        LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998, II.B.
        `lenet5` is the network as published.
    """
    import tf_keras as keras

    # === Layers and graph ===
    inputs, x = take_image(signature, model="cnn")
    x = add_scale(x, scale)
    for number, maps in enumerate(filters, start=1):
        x = keras.layers.Conv2D(maps, kernel_size, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{number}")(x)  # (B, H/2, W/2, maps)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(dense, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, add_head(x, signature, model="cnn"), name="cnn")
