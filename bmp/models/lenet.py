"""LeNet-5, as published."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import FiniteFloat

from bmp.errors import ConfigError
from bmp.models.head import add_head
from bmp.models.inputs import Size, add_scale, take_image
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras

_FIELD = 32
"""Pixels on a side of what the network looks at."""
_MAX_BORDER = 4
"""Images that lack no more than this are padded: the 28x28 of MNIST are."""


def build_lenet5(
    signature: Signature,
    /,
    *,
    resize: Size | None = None,
    scale: FiniteFloat = 1.0,
    offset: FiniteFloat = 0.0,
    connections: Literal["table", "full"] = "table",
    pooling: Literal["trainable", "average", "max"] = "trainable",
) -> "keras.Model":
    """Builds LeNet-5: C1 6@5x5, S2, C3 16@5x5, S4, C5 120, F6 84, head; 60,000 weights before the head.

    As published: the sizes, the connections of C3 (Table I), subsampling with a trainable coefficient and bias, the
    scaled tanh and the range of initial weights. Not as published: the head is dense with the activation of the
    objective, in place of distances to drawn characters.

    Args:
        signature: One image input of 32x32, or of 28x28 and more, which gets a border of zeros; one output of shape
            `(width,)`.
        resize: Height and width that images of other sizes are brought to first, bilinear, in the graph.
        scale: What pixels are multiplied by, in the graph, so that clients send raw pixels; 1.275 / 255 in the paper.
        offset: What is added then; -0.1 in the paper, so that pixels have a mean of about 0.
        connections: Which maps of S2 those of C3 look at: the paper's table, or all. C3 is pruned only with `full`.
        pooling: Mean of 2x2, times a coefficient, plus a bias for each map, squashed, as published; or plain mean or
            maximum.

    Raises:
        ConfigError: The data holds no images, or images of another size and `resize` is not set.

    Reference:
        LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998, II.B and
        appendix A.
    """
    import tf_keras as keras

    from bmp.models.layers import ScaledTanh, TableConvolution

    # === Layers and graph ===
    inputs, x = take_image(signature, model="lenet5", resize=resize)
    x = _add_border(x)
    x = add_scale(x, scale, offset)
    x = _add_convolution(x, "c1", 6)  # (B, 28, 28, 6)
    x = _add_subsampling(x, "s2", pooling)  # (B, 14, 14, 6)
    if connections == "table":
        x = ScaledTanh(name="c3_squash")(TableConvolution(name="c3")(x))
    else:
        x = _add_convolution(x, "c3", 16)  # (B, 10, 10, 16)
    x = _add_subsampling(x, "s4", pooling)  # (B, 5, 5, 16)
    x = _add_convolution(x, "c5", 120)  # (B, 1, 1, 120)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(84, kernel_initializer=_uniform(120), name="f6")(x)
    x = ScaledTanh(name="f6_squash")(x)
    return keras.Model(inputs, add_head(x, signature, model="lenet5"), name="lenet5")


def _add_border(x: Any) -> Any:
    """Returns 32x32 pixels `(B, 32, 32, C)`.

    Raises:
        ConfigError: The images are too small or too large for that.
    """
    import tf_keras as keras

    height, width = x.shape[1:3]
    borders = [_FIELD - height, _FIELD - width]
    if not all(0 <= border <= _MAX_BORDER for border in borders):
        raise ConfigError(
            f"The model 'lenet5' looks at {_FIELD}x{_FIELD} pixels, or 28x28 with a border of zeros; these images "
            f"have {height}x{width}. Set model.args.resize: [28, 28], or use model.build: cnn.",
            expected=f"28x28 to {_FIELD}x{_FIELD}",
            received=f"{height}x{width}",
        )
    if not any(borders):
        return x
    return keras.layers.ZeroPadding2D(tuple((b // 2, b - b // 2) for b in borders), name="border")(x)


def _add_convolution(x: Any, name: str, maps: int) -> Any:
    import tf_keras as keras

    from bmp.models.layers import ScaledTanh

    x = keras.layers.Conv2D(maps, 5, kernel_initializer=_uniform(25 * x.shape[-1]), name=name)(x)
    return ScaledTanh(name=f"{name}_squash")(x)


def _add_subsampling(x: Any, name: str, pooling: str) -> Any:
    import tf_keras as keras

    from bmp.models.layers import ScaledTanh

    if pooling == "max":
        return keras.layers.MaxPooling2D(2, name=name)(x)
    x = keras.layers.AveragePooling2D(2, name=name)(x)
    if pooling == "average":
        return x
    # One coefficient and one bias for each map: a depthwise convolution with kernels of one pixel.
    x = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones", name=f"{name}_coefficient")(x)
    return ScaledTanh(name=f"{name}_squash")(x)


def _uniform(fan_in: int) -> Any:
    """The paper's initial weights: uniform, 2.4 divided by the number of inputs of a unit to either side."""
    import tf_keras as keras

    return keras.initializers.RandomUniform(-2.4 / fan_in, 2.4 / fan_in)
