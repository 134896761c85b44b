"""Linear layers, and what becomes of their weights when a scale and a shift of each channel go into them."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Affine:
    """`scale * x + shift` of each channel, `(C,)` both."""

    scale: np.ndarray
    shift: np.ndarray

    @property
    def changes_nothing(self) -> bool:
        """Whether it returns what it is given."""
        return bool((self.scale == 1).all() and not self.shift.any())

    def tiled(self, count: int) -> "Affine":
        """Returns it for `count` places, one after the other, whose channels are flattened."""
        return Affine(np.tile(self.scale, count), np.tile(self.shift, count))


def read_affine(layer: Any) -> Affine | None:
    """Returns what a layer does to the channels, the last axis, where that is all it does; else None."""
    import tf_keras as keras

    channels = layer.output_shape[-1] if isinstance(layer.output_shape, tuple) else None
    if channels is None:
        return None
    if isinstance(layer, keras.layers.BatchNormalization):
        return _read_norm(layer, channels)
    if isinstance(layer, keras.layers.Normalization):
        return _read_normalization(layer, channels)
    if isinstance(layer, keras.layers.Rescaling):
        return Affine(*(np.broadcast_to(np.float64(value), (channels,)) for value in (layer.scale, layer.offset)))
    return None


def _read_norm(layer: Any, channels: int) -> Affine | None:
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [axis % len(layer.output_shape) for axis in axes] != [len(layer.output_shape) - 1]:
        return None
    mean, variance = (np.float64(weight) for weight in (layer.moving_mean, layer.moving_variance))
    gamma = np.float64(layer.gamma) if layer.scale else np.ones(channels)
    beta = np.float64(layer.beta) if layer.center else np.zeros(channels)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return Affine(scale, beta - mean * scale)


def _read_normalization(layer: Any, channels: int) -> Affine | None:
    mean, variance = (np.ravel(np.float64(value)) for value in (layer.mean, layer.variance))
    if layer.invert or mean.size not in (1, channels):
        return None
    scale = 1 / np.maximum(np.sqrt(variance), 1e-7)
    return Affine(np.broadcast_to(scale, (channels,)), np.broadcast_to(-mean * scale, (channels,)))


def is_linear(layer: Any) -> bool:
    """Returns whether a layer is a dense or convolutional one without activation."""
    import tf_keras as keras

    return type(layer) in _linear_kinds() and layer.activation is keras.activations.linear


def absorb_after(layer: Any, affine: Affine) -> list[np.ndarray]:
    """Returns the weights, bias last, with which a linear layer does what it and `affine` after it did."""
    *front, kernel = _kernels(layer)
    kernel = kernel * _spread_outputs(layer, affine.scale, kernel)
    bias = _bias(layer, len(affine.scale)) * affine.scale + affine.shift
    return _to_float32(*front, kernel, bias)


def absorbs_before(layer: Any, affine: Affine) -> bool:
    """Returns whether `affine` in front of a layer can go into it: what it pads with zeros would need a shift too."""
    import tf_keras as keras

    if type(layer) is keras.layers.Dense:
        return True
    convolutions = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    if type(layer) not in convolutions or layer.data_format != "channels_last":
        return False
    if type(layer) is not keras.layers.DepthwiseConv2D and layer.groups > 1:
        return False
    pads = layer.padding != "valid" and set(layer.kernel_size) != {1}
    return not pads or not affine.shift.any()


def absorb_before(layer: Any, affine: Affine) -> list[np.ndarray]:
    """Returns the weights, bias last, with which a layer does what `affine` before it and it did."""
    import tf_keras as keras

    (kernel,) = _kernels(layer)
    places = tuple(range(kernel.ndim - 2))  # of the kernel: height and width
    shift, scale = affine.shift[:, None], affine.scale[:, None]
    if type(layer) is keras.layers.DepthwiseConv2D:  # (h, w, C, m), and output c * m + ... is of input c alone
        added = (kernel * shift).sum(axis=places).ravel()
    else:
        added = (kernel * shift).sum(axis=(*places, kernel.ndim - 2))
    return _to_float32(kernel * scale, _bias(layer, len(added)) + added)


def _linear_kinds() -> tuple[type, ...]:
    import tf_keras as keras

    layers = keras.layers
    return (
        *(layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv2DTranspose),
        *(layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D),
    )


def _kernels(layer: Any) -> list[np.ndarray]:
    weights = layer.get_weights()
    return [weight.astype(np.float64) for weight in (weights[:-1] if layer.use_bias else weights)]


def _bias(layer: Any, count: int) -> np.ndarray:
    bias: np.ndarray = layer.get_weights()[-1] if layer.use_bias else np.zeros(count)
    return bias.astype(np.float64)


def _spread_outputs(layer: Any, scale: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the scale of each output channel, broadcastable to the kernel."""
    import tf_keras as keras

    if type(layer) is keras.layers.Conv2DTranspose:  # (h, w, outputs, inputs)
        return scale[:, None]
    if type(layer) is keras.layers.DepthwiseConv2D:  # (h, w, C, m)
        return scale.reshape(kernel.shape[-2:])
    return scale


def _to_float32(*arrays: np.ndarray) -> list[np.ndarray]:
    return [array.astype(np.float32) for array in arrays]
