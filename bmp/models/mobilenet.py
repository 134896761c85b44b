"""MobileNetV2, without weights."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, FiniteFloat

from bmp.errors import ConfigError
from bmp.models.head import add_head
from bmp.models.inputs import Share, Size, add_scale, take_image
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras

_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of the paper: expansion, maps, blocks, stride of the first block."""

_MIN_SIZE = 32


def build_mobilenet_v2(
    signature: Signature,
    /,
    *,
    alpha: Annotated[float, Field(gt=0, le=4)] = 1.0,
    dropout: Share = 0.2,
    resize: Size | None = None,
    scale: FiniteFloat = 1.0,
) -> "keras.Model":
    """Builds MobileNetV2 for images of 32x32 and more; all its weights are trained.

    Args:
        signature: One image input, `(H, W)` or `(H, W, C)`; one output of shape `(width,)`.
        alpha: Multiplies the maps of every layer.
        dropout: Share of activations dropped before the head, in training only.
        resize: Height and width images are brought to, bilinear, in the graph.
        scale: What pixels are multiplied by first, in the graph, so that clients send raw pixels.

    Raises:
        ConfigError: The data holds no images, or they are smaller than 32x32.

    Reference:
        Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2: inverted residuals and linear bottlenecks, 2018.
    """
    import tf_keras as keras

    # === Layers and graph ===
    inputs, x = take_image(signature, model="mobilenet_v2", resize=resize)
    height, width = x.shape[1:3]
    if min(height, width) < _MIN_SIZE:
        raise ConfigError(
            f"The model 'mobilenet_v2' halves images five times and needs {_MIN_SIZE}x{_MIN_SIZE} pixels; these have "
            f"{height}x{width}. Set model.args.resize: [{_MIN_SIZE}, {_MIN_SIZE}], or use model.build: resnet.",
            expected=f"at least {_MIN_SIZE}x{_MIN_SIZE}",
            received=f"{height}x{width}",
        )
    x = add_scale(x, scale)
    x = _add_convolution(x, "stem", _round_maps(32 * alpha), size=3, stride=2)
    number = 0
    for expansion, maps, blocks, first_stride in _STAGES:
        for block in range(blocks):
            number += 1
            stride = first_stride if block == 0 else 1
            x = _add_block(x, f"block_{number}", expansion, _round_maps(maps * alpha), stride)
    x = _add_convolution(x, "last", _round_maps(1280 * max(1.0, alpha)))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (B, 1280)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, add_head(x, signature, model="mobilenet_v2"), name="mobilenet_v2")


def _add_block(x: Any, name: str, expansion: int, maps: int, stride: int) -> Any:
    """Returns an inverted residual: expand, filter each map by itself, and project without activation."""
    import tf_keras as keras

    shortcut = x
    if expansion > 1:
        x = _add_convolution(x, f"{name}_expand", expansion * x.shape[-1])
    # He's initial weights for the 9 inputs there are; Keras would count those of all maps.
    kernel = keras.initializers.RandomNormal(stddev=(2 / 9) ** 0.5)
    x = keras.layers.DepthwiseConv2D(
        3, stride, padding="same", use_bias=False, depthwise_initializer=kernel, name=f"{name}_depthwise"
    )(x)
    x = _add_norm(x, f"{name}_depthwise")
    x = _add_convolution(x, f"{name}_project", maps, activate=False)
    if stride == 1 and shortcut.shape[-1] == maps:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def _add_convolution(x: Any, name: str, maps: int, *, size: int = 1, stride: int = 1, activate: bool = True) -> Any:
    import tf_keras as keras

    x = keras.layers.Conv2D(
        maps, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    return _add_norm(x, name, activate=activate)


def _add_norm(x: Any, name: str, *, activate: bool = True) -> Any:
    import tf_keras as keras

    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-3, name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x


def _round_maps(maps: float) -> int:
    """Returns the nearest multiple of 8, at least 8, that is not more than a tenth below."""
    rounded = max(8, int(maps + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * maps else rounded + 8
