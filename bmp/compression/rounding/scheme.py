"""How TF-MOT quantizes a model, mended: kernels before a ReLU layer are rounded as all others are."""

from typing import Any

import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_layout_transform as layout_transform,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_registry as registry,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
    default_8bit_quantize_scheme as scheme,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_configs import (
    NoOpQuantizeConfig,
)


class Scheme(scheme.Default8BitQuantizeScheme):
    """8 bits; the scale of a kernel is one for each output channel of a convolution, or one for all.

    Args:
        by_kernel: Whether it is one for all.
    """

    def __init__(self, by_kernel: bool) -> None:
        super().__init__(disable_per_axis=by_kernel)

    def get_layout_transformer(self) -> "Layout":
        """Returns what chooses the quantizers of each layer from its neighbours."""
        return Layout(self._disable_per_axis)


class Layout(layout_transform.Default8BitQuantizeLayoutTransform):
    """Chooses as TF-MOT does, but where it takes all quantizers from a layer of weights.

    To have nothing rounded between such a layer and a ReLU layer after it, TF-MOT leaves the kernel unrounded as well;
    LiteRT's converter rounds it all the same, and the network has never been trained for that.

    Args:
        by_kernel: See `Scheme`.
    """

    def __init__(self, by_kernel: bool) -> None:
        self._by_kernel = by_kernel

    def apply(self, model: keras.Model, layer_quantize_map: dict[str, Any]) -> tuple[keras.Model, dict[str, Any]]:
        """Returns the model, and what there is to each layer, by its name."""
        model, chosen = super().apply(model, layer_quantize_map)
        for layer in model.layers:
            options = chosen.get(layer.name, {})
            if isinstance(options.get("quantize_config"), NoOpQuantizeConfig):
                options["quantize_config"] = self._round_kernel(layer) or options["quantize_config"]
        return model, chosen

    def _round_kernel(self, layer: Any) -> Any | None:
        """Returns a configuration that rounds the kernel alone, or None for a layer that has none."""
        kinds = {"Dense": "kernel", "Conv2D": "kernel", "DepthwiseConv2D": "depthwise_kernel"}
        kernel = kinds.get(type(layer).__name__)
        if kernel is None:
            return None
        by_channel = not self._by_kernel and type(layer).__name__ != "Dense"
        kind = registry.Default8BitConvQuantizeConfig if by_channel else registry.Default8BitQuantizeConfig
        return kind([kernel], [], False)
