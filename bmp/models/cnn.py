"""Convolutional networks."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, FiniteFloat, PositiveInt

from bmp.errors import ConfigError
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
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> "keras.Model":
    """Builds a network in the manner of LeNet-5: convolution and pooling in turn, then dense layers.

    Args:
        signature: One image input, `(H, W)` or `(H, W, C)`; one output of shape `(classes,)`.
        filters: Maps of each convolution; each is followed by 2x2 max pooling.
        dense: Units of each dense layer before the softmax.
        kernel_size: Side of the convolution kernels.
        scale: What pixels are multiplied by first, in the graph, so that clients send raw pixels.
        dropout: Share of activations dropped before the softmax, in training only.

    Raises:
        ConfigError: The data holds no images.

    Reference:
        LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998, II.B.
    """
    import tf_keras as keras

    (spec,), (output,) = signature.inputs, signature.outputs
    if len(spec.shape) not in (2, 3):
        raise ConfigError(
            f"The model 'cnn' needs images of shape (H, W) or (H, W, C), but input '{spec.name}' is {spec}. "
            "Use model.build: mlp for rows of features.",
            expected="(B, H, W) or (B, H, W, C)",
            received=str(spec),
        )
    # === Layers and graph ===
    inputs = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    x = inputs
    if len(spec.shape) == 2:
        x = keras.layers.Reshape((*spec.shape, 1), name="add_channel")(x)  # (B, H, W, 1)
    if scale != 1.0:
        x = keras.layers.Rescaling(scale, name="scale")(x)
    for number, maps in enumerate(filters, start=1):
        x = keras.layers.Conv2D(maps, kernel_size, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool_{number}")(x)  # (B, H/2, W/2, maps)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(dense, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = keras.layers.Dense(output.shape[0], activation="softmax", name=output.name)(x)
    return keras.Model(inputs, outputs, name="cnn")
