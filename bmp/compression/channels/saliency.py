"""How much a network needs each of its units, to choose those that are taken out."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.compression.channels.groups import ChannelMap
from bmp.compression.channels.rules import channel_axes, reads_all

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

Losses = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]
"""Targets and outputs to the loss of each example, `(B,)`."""

_COUNTED = ("kernel:0", "gamma:0")
"""Weights that channels are multiplied by; a bias or a mean says nothing of how much a channel is needed."""


def weigh_by_magnitude(model: "keras.Model", channels: ChannelMap) -> np.ndarray:
    """Returns how large the weights of each unit are, float64 `(units,)`.

    The L2 norm of what makes its channels, of the scale that normalises them and of what reads them; each divided by
    its mean over the layer, so that no layer of a group outweighs the others, and summed over the whole group.

    Args:
        model: With the weights to be looked at.
        channels: Of the model.

    Reference:
        Li, Kadav, Durdanovic, Samet, Graf: Pruning filters for efficient ConvNets, 2017, section 3 (there the L1 norm).
    """
    total = np.zeros(channels.size)
    for layer in model.layers:
        for weight, axes in zip(layer.weights, channel_axes(layer), strict=False):
            if not weight.name.endswith(_COUNTED):
                continue
            squares = np.square(weight.numpy(), dtype=np.float64)
            for axis, side in axes.items():
                units = (channels.entering if side == "in" else channels.leaving)[layer.name]
                others = tuple(np.delete(np.arange(squares.ndim), axis))
                norms = np.sqrt(np.bincount(units, squares.sum(axis=others), channels.size))
                total += norms / max(norms[np.unique(units)].mean(), np.finfo(np.float64).tiny)
    return total


def weigh_by_taylor(
    model: "keras.Model", channels: ChannelMap, batches: Iterable[tuple[Any, Any]], losses: Losses
) -> np.ndarray:
    """Returns how much the loss would change without each unit, to first order, squared: float64 `(units,)`.

    Gradient times weight, summed over all weights that read the unit's channels, wherever in the group: that is the
    gradient of a gate on these channels. Its square is averaged over batches.

    Args:
        model: With the weights to be looked at.
        channels: Of the model.
        batches: Of inputs, as the model takes them, and targets.
        losses: What is learned.

    Reference:
        Molchanov, Mallya, Tyree, Frosio, Kautz: Importance estimation for neural network pruning, 2019, section 3.2.
    """
    import tensorflow as tf

    readers = [layer for layer in model.layers if reads_all(layer)]
    kernels = [layer.weights[0] for layer in readers]

    @tf.function(reduce_retracing=True)
    def differentiate(inputs: Any, targets: "tf.Tensor") -> "list[tf.Tensor]":
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(kernels)
            loss = tf.reduce_mean(losses(targets, model(inputs, training=False)))
        gradients = tape.gradient(loss, kernels, unconnected_gradients="zero")
        sums = []
        for layer, kernel, gradient in zip(readers, kernels, gradients, strict=True):
            axis = next(axis for axis, side in channel_axes(layer)[0].items() if side == "in") % len(kernel.shape)
            others = [other for other in range(len(kernel.shape)) if other != axis]
            sums.append(tf.reduce_sum(kernel * gradient, axis=others))  # (C,)
        return sums

    total, count = np.zeros(channels.size), 0
    for inputs, targets in batches:
        change = np.zeros(channels.size)
        for layer, sums in zip(readers, differentiate(inputs, targets), strict=True):
            change += np.bincount(channels.entering[layer.name], sums.numpy(), channels.size)
        total, count = total + change**2, count + 1
    return total / max(count, 1)


def keep_best_units(channels: ChannelMap, scores: np.ndarray, counts: Mapping[str, int]) -> np.ndarray:
    """Returns whether each unit stays, bool `(units,)`: of each group that is named, so many of the highest scores."""
    kept = np.ones(channels.size, bool)
    for group in channels.free:
        if group.name in counts:
            order = group.units[np.argsort(-scores[group.units], kind="stable")]
            kept[order[counts[group.name] :]] = False
    return kept
