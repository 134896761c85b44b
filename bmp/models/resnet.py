"""Residual network for small images."""

from typing import TYPE_CHECKING, Any

from pydantic import FiniteFloat, PositiveInt

from bmp.models.head import add_head
from bmp.models.inputs import add_scale, take_image
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def build_resnet(
    signature: Signature,
    /,
    *,
    blocks: PositiveInt = 3,
    stages: PositiveInt = 3,
    filters: PositiveInt = 16,
    scale: FiniteFloat = 1.0,
) -> "keras.Model":
    """Builds the residual network for CIFAR-10, of `6 * blocks + 2` layers where there are three stages.

    Where a stage widens, its shortcut is a strided 1x1 convolution (option B of the paper; for CIFAR-10 it pads
    with zeros): every layer is then one that can be pruned and quantized.

    Args:
        signature: One image input, `(H, W)` or `(H, W, C)`; one output of shape `(width,)`.
        blocks: Residual blocks of each stage, two convolutions each.
        stages: Each but the first halves height and width and has twice the maps.
        filters: Maps of the first stage.
        scale: What pixels are multiplied by first, in the graph, so that clients send raw pixels.

    Raises:
        ConfigError: The data holds no images.

    Reference:
        He, Zhang, Ren, Sun: Deep residual learning for image recognition, 2016, section 4.2.
    """
    import tf_keras as keras

    # === Layers and graph ===
    inputs, x = take_image(signature, model="resnet")
    x = add_scale(x, scale)
    x = _add_convolution(x, "stem", filters, size=3)
    for stage in range(1, stages + 1):
        maps = filters * 2 ** (stage - 1)
        for block in range(1, blocks + 1):
            stride = 2 if stage > 1 and block == 1 else 1
            x = _add_block(x, f"block_{stage}_{block}", maps, stride)  # (B, H/2^(stage-1), W/2^(stage-1), maps)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (B, maps)
    return keras.Model(inputs, add_head(x, signature, model="resnet"), name="resnet")


def _add_block(x: Any, name: str, maps: int, stride: int) -> Any:
    import tf_keras as keras

    shortcut = x
    if stride > 1 or x.shape[-1] != maps:
        shortcut = _add_convolution(x, f"{name}_shortcut", maps, size=1, stride=stride, activate=False)
    x = _add_convolution(x, f"{name}_1", maps, size=3, stride=stride)
    x = _add_convolution(x, f"{name}_2", maps, size=3, activate=False)
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _add_convolution(x: Any, name: str, maps: int, *, size: int, stride: int = 1, activate: bool = True) -> Any:
    """Returns convolution, batch normalisation and, where asked for, ReLU, in this order."""
    import tf_keras as keras

    x = keras.layers.Conv2D(
        maps, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if activate else x
