"""Views of kernels: what a layer computes with in place of its kernel while it is trained, so that a pattern holds.

A view is a part of the graph: it works at every step, whether XLA compiles it, in calls of several steps, and on every
replica. What changes it changes a variable from outside, alike on all replicas.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from bmp.compression.weights.kernels import Kernel


class View(Protocol):
    """What a layer sees of a kernel."""

    def __call__(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns what the layer computes with; gradients reach the kernel through it."""

    def settle(self, kernel: np.ndarray) -> np.ndarray:
        """Returns what the kernel is when training is over."""

    @property
    def variable(self) -> tf.Variable:
        """That says which weights do what."""


class Mask:
    """Sets weights to zero; they keep what they were, and may come back while the mask still changes.

    Args:
        kernel: Of the shape of the mask, which lets everything through at first.
    """

    def __init__(self, kernel: np.ndarray) -> None:
        self.variable = tf.Variable(tf.ones(kernel.shape), trainable=False, name="mask")

    def __call__(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the kernel with zeros."""
        return kernel * self.variable

    def settle(self, kernel: np.ndarray) -> np.ndarray:
        """Returns the kernel with zeros."""
        return np.where(self.variable.numpy() > 0, kernel, np.float32(0))


class Sharing:
    """Keeps weights of a cluster at one value, by giving all of them the mean of their gradients; zeros stay zero.

    The weights of a cluster must be equal when training begins.

    Args:
        index: The cluster of each weight, of the shape of the kernel; 0 is that of zeros.

    Reference:
        Han, Mao, Dally: Deep compression, 2016, section 3.3 (there the sum of the gradients).
    """

    def __init__(self, index: np.ndarray) -> None:
        self._shape = index.shape
        counts = np.bincount(index.ravel(), minlength=1).astype(np.float32)
        counts[0] = np.inf  # a mean of 0
        self._counts = np.maximum(counts, 1)
        self.variable = tf.Variable(index.ravel().astype(np.int64), trainable=False, name="clusters")

    def __call__(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the kernel itself, with another gradient."""
        index = tf.convert_to_tensor(self.variable)

        @tf.custom_gradient
        def share(kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
            def spread(gradient: tf.Tensor) -> tf.Tensor:
                sums = tf.math.unsorted_segment_sum(tf.reshape(gradient, [-1]), index, len(self._counts))
                return tf.reshape(tf.gather(sums / self._counts, index), self._shape)

            return tf.identity(kernel), spread

        return share(tf.convert_to_tensor(kernel))

    def settle(self, kernel: np.ndarray) -> np.ndarray:
        """Returns the kernel with each cluster at its mean, to the last bit."""
        index = self.variable.numpy()
        sums = np.bincount(index, weights=kernel.ravel(), minlength=len(self._counts))
        means = (sums / self._counts).astype(np.float32) + np.float32(0)  # no zero with a sign
        return means[index].reshape(self._shape)


def hold(layer: Any, pairs: Sequence[tuple[Kernel, View]]) -> None:
    """Lets a layer compute with views of its kernels from now on; its weights stay what and where they are.

    Args:
        layer: Of the model; the kernels may be owned by what it wraps.
        pairs: Kernels of this layer, each with its view.
    """
    call = layer.call
    variables = [kernel.variable for kernel, _ in pairs]

    def held(*args: Any, **kwargs: Any) -> Any:
        for (kernel, view), variable in zip(pairs, variables, strict=True):
            _put(kernel, view(variable))
        try:
            return call(*args, **kwargs)
        finally:
            for (kernel, _), variable in zip(pairs, variables, strict=True):
                _put(kernel, variable)

    object.__setattr__(layer, "call", tf.autograph.experimental.do_not_convert(held))


def hold_all(model: Any, pairs: Sequence[tuple[Kernel, View]]) -> None:
    """Lets every layer of a model compute with views of its kernels; see `hold`."""
    for layer in model.layers:
        own = [(kernel, view) for kernel, view in pairs if kernel.layer == layer.name]
        if own:
            hold(layer, own)


def settle_all(pairs: Sequence[tuple[Kernel, View]]) -> None:
    """Makes kernels what they are when training is over."""
    for kernel, view in pairs:
        kernel.variable.assign(view.settle(kernel.read()))


def _put(kernel: Kernel, value: Any) -> None:
    # Past Keras, which would take a tensor in place of a variable for a weight that is gone.
    object.__setattr__(kernel.owner, kernel.attribute, value)
