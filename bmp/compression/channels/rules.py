"""What bmp knows of layers and their channels: how channels pass through, and which weights belong to which.

The channels of a tensor are its last axis. A rule returns which channels leave a layer, given which enter; a layer
without a rule, or with arguments that its rule does not cover, may mix channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np

Side = Literal["in", "out"]

BLOCKED = "blocked"
"""What a rule returns where channels may be mixed."""

_LAST: dict[int, Side] = {-1: "out"}
"""Axes of a bias, or of what normalises channels."""

_ELEMENTWISE = frozenset(
    (
        *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "swish", "silu", "mish", "sigmoid"),
        *("hard_sigmoid", "tanh", "softplus", "softsign", "exponential"),
    )
)
"""Activations that look at one number at a time."""


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Args:
        layer: Of Keras.
        inputs: The atoms of each tensor that enters, int64 `(C,)`.
        in_shapes: Of these tensors, the batch first.
        out_shape: Of the tensor that leaves.
    """

    layer: Any
    inputs: list[np.ndarray]
    in_shapes: list[tuple[int | None, ...]]
    out_shape: tuple[int | None, ...]


class Trace(Protocol):
    """What rules tell what they find."""

    def make(self, layer: Any, width: int) -> np.ndarray:
        """Returns the atoms of a layer that makes channels."""

    def couple(self, first: np.ndarray, second: np.ndarray) -> None:
        """Lets atoms live and die together."""

    def block(self, atoms: np.ndarray, reason: str) -> None:
        """Makes atoms stay."""


Rule = Callable[[Trace, Call], np.ndarray | str]


def follow(trace: Trace, call: Call) -> np.ndarray | str:
    """Returns the atoms that leave a layer, or BLOCKED."""
    rule = _rules().get(type(call.layer))
    if rule is None or getattr(call.layer, "data_format", None) == "channels_first":
        return BLOCKED
    if rule is not _make and not _is_elementwise(call.layer):
        return BLOCKED
    return rule(trace, call)


def has_rule(layer: Any) -> bool:
    """Returns whether bmp knows how channels pass through layers of this kind."""
    return type(layer) in _rules()


def channel_axes(layer: Any) -> tuple[dict[int, Side], ...]:
    """Returns, for each weight of a layer, which of its axes run over channels that enter or leave the layer."""
    import tf_keras as keras

    layers, out = keras.layers, _LAST
    if type(layer) in (layers.BatchNormalization, layers.PReLU):
        return (out,) * len(layer.weights)
    kernel: dict[int, Side] = {}
    if type(layer) in (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D):
        kernel = {-2: "in", -1: "out"}
    elif type(layer) is layers.Conv2DTranspose:
        kernel = {-2: "out", -1: "in"}
    elif type(layer) is layers.DepthwiseConv2D:
        kernel = {-2: "in"}
    return (kernel, out)[: len(layer.weights)] if kernel else ()


def reads_all(layer: Any) -> bool:
    """Returns whether each output of a layer is a weighted sum over all channels that enter."""
    axes = channel_axes(layer)
    return bool(axes) and {"in", "out"} == set(axes[0].values())


@cache
def _rules() -> dict[type, Rule]:
    import tf_keras as keras

    from bmp.models.layers import ScaledTanh

    layers = keras.layers
    rules: dict[type, Rule] = dict.fromkeys(
        (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Conv2DTranspose), _make
    )
    rules |= dict.fromkeys((layers.Add, layers.Subtract, layers.Multiply), _merge)
    rules |= dict.fromkeys((layers.Average, layers.Maximum, layers.Minimum), _merge)
    rules |= dict.fromkeys((layers.Flatten, layers.Reshape), _reshape)
    rules |= {layers.Concatenate: _concatenate, layers.DepthwiseConv2D: _widen, layers.Permute: _permute}
    rules |= {layers.BatchNormalization: _normalise, layers.Rescaling: _rescale}
    same = (
        *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU, layers.ThresholdedReLU, layers.PReLU),
        *(ScaledTanh, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
        *(layers.GaussianNoise, layers.GaussianDropout, layers.ActivityRegularization, layers.Resizing),
        *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D, layers.GlobalMaxPooling1D),
        *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D, layers.GlobalMaxPooling2D),
        *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
        *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D, layers.Cropping2D, layers.UpSampling1D),
        layers.UpSampling2D,
    )
    return rules | dict.fromkeys(same, _pass)


def _is_elementwise(layer: Any) -> bool:
    activation = getattr(layer, "activation", None)
    return activation is None or getattr(activation, "__name__", "") in _ELEMENTWISE


def _make(trace: Trace, call: Call) -> np.ndarray | str:
    width = call.out_shape[-1]
    if width is None or getattr(call.layer, "groups", 1) != 1:
        return BLOCKED
    atoms = trace.make(call.layer, width)
    if not _is_elementwise(call.layer):  # a softmax, say; what enters the kernel before it is free all the same
        trace.block(atoms, f"the activation of '{call.layer.name}' may mix them")
    return atoms


def _pass(trace: Trace, call: Call) -> np.ndarray | str:
    return call.inputs[0] if len(call.inputs) == 1 else BLOCKED


def _merge(trace: Trace, call: Call) -> np.ndarray | str:
    first, *others = call.inputs
    if any(other.shape != first.shape for other in others):
        return BLOCKED
    for other in others:
        trace.couple(first, other)
    return first


def _concatenate(trace: Trace, call: Call) -> np.ndarray | str:
    if call.layer.axis not in (-1, len(call.out_shape) - 1):
        return _merge(trace, call)
    return np.concatenate(call.inputs)


def _widen(trace: Trace, call: Call) -> np.ndarray | str:
    """A depthwise convolution makes `depth_multiplier` channels of each one."""
    return np.repeat(call.inputs[0], call.layer.depth_multiplier)


def _normalise(trace: Trace, call: Call) -> np.ndarray | str:
    axis = np.atleast_1d(call.layer.axis)
    return call.inputs[0] if axis.tolist() in ([-1], [len(call.out_shape) - 1]) else BLOCKED


def _rescale(trace: Trace, call: Call) -> np.ndarray | str:
    is_scalar = np.ndim(call.layer.scale) == np.ndim(call.layer.offset) == 0
    return call.inputs[0] if is_scalar else BLOCKED


def _permute(trace: Trace, call: Call) -> np.ndarray | str:
    return call.inputs[0] if call.layer.dims[-1] == len(call.layer.dims) else BLOCKED


def _reshape(trace: Trace, call: Call) -> np.ndarray | str:
    """Channels that are repeated in the new last axis, such as those of every pixel, are removed there as well.

    The new last axis must hold the same channels wherever one looks.
    """
    before = [size for size in call.in_shapes[0][1:] if size is not None]
    width = call.out_shape[-1]
    if width is None or len(before) < len(call.in_shapes[0]) - 1:
        return BLOCKED
    rows = np.broadcast_to(call.inputs[0], before).reshape(-1, width)
    return rows[0] if (rows == rows[0]).all() else BLOCKED
