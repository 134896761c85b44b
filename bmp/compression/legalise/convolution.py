"""Convolutions over a series as convolutions over images one pixel high, which more techniques know."""

from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.draft import Allows, Draft
from bmp.compression.legalise.graph import Neighbours, place, rebuild
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras

_KEPT = ("filters", "groups", "depth_multiplier", "activation", "use_bias", "trainable")
"""Arguments that both kinds have, and that say what is computed. Initializers are kept with them."""


def widen_convolutions(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Turns Conv1D, SeparableConv1D and DepthwiseConv1D into their two-dimensional kinds, between two reshapes."""
    around = Neighbours(model)
    found = {
        id(layer): layer
        for layer in model.layers
        if _is_series(layer) and allows(layer) and around.is_called_once(layer)
    }
    if not found:
        return None

    def visit(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _widen(layer, args[0]) if id(layer) in found else None

    return Draft(rebuild(model, visit), {layer.name: (layer.name,) for layer in found.values()})


def _is_series(layer: Any) -> bool:
    return type(layer) in _twins() and layer.data_format == "channels_last"


def _twins() -> dict[type, type]:
    import tf_keras as keras

    layers = keras.layers
    return {
        layers.Conv1D: layers.Conv2D,
        layers.SeparableConv1D: layers.SeparableConv2D,
        layers.DepthwiseConv1D: layers.DepthwiseConv2D,
    }


def _widen(layer: Any, x: Any) -> Any:
    """Returns `(B, T, filters)` from `(B, T, C)`."""
    import tf_keras as keras

    config = layer.get_config()
    (size,), (stride,), (dilation,) = (config[key] for key in ("kernel_size", "strides", "dilation_rate"))
    x = keras.layers.Reshape((1, -1, x.shape[-1]), name=f"{layer.name}_expand")(x)  # (B, 1, T, C)
    if config["padding"] == "causal":
        x = keras.layers.ZeroPadding2D(((0, 0), (dilation * (size - 1), 0)), name=f"{layer.name}_past")(x)
    # A depthwise convolution strides alike in both directions; over a height of 1 that is no difference.
    is_plain = type(layer) is keras.layers.Conv1D
    twin = _twins()[type(layer)](
        kernel_size=(1, size),
        strides=(1, stride) if is_plain else stride,
        dilation_rate=(1, dilation),
        padding="valid" if config["padding"] == "causal" else config["padding"],
        name=layer.name,
        **{key: value for key, value in config.items() if key in _KEPT or key.endswith("_initializer")},
    )
    weights = [weight if weight.ndim == 1 else weight[None] for weight in layer.get_weights()]
    x = place(twin, x, weights=weights)
    return keras.layers.Reshape((-1, x.shape[-1]), name=f"{layer.name}_squeeze")(x)
