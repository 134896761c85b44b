"""Quantizers in a model of TF-MOT, mended: ranges that start where they belong and are those of all replicas, kernels
that keep their patterns, frozen layers that stay frozen.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper
from tensorflow_model_optimization.python.core.quantization.keras.quantizers import AllValuesQuantizer

from bmp.compression.weights.kernels import Kernel, find_kernels
from bmp.compression.weights.views import View

_FOLLOWS = 0.01
"""How far a range goes to that of a batch: TF-MOT's 0.001 is for trainings of many thousand steps."""


class RangeQuantizer:
    """Rounds activations within a range that follows the batches, over all replicas as over one.

    TF-MOT's own lets each replica have its range of inputs, and takes means of the others.

    Args:
        inner: The quantizer of TF-MOT in its place.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self._grows = isinstance(inner, AllValuesQuantizer)
        self.watched: dict[int, int] | None = None
        """While ranges are looked for: batches so far, by the `id` of the variable of a lower end."""

    def __call__(self, inputs: tf.Tensor, training: bool, weights: Mapping[str, tf.Variable], **_: Any) -> tf.Tensor:
        """Returns the rounded activations."""
        if self.watched is not None:
            return self._watch(inputs, weights)
        if not training:
            return self.inner(inputs, False, weights)
        low, high = self._follow(weights, *_gather_range(*_measure(inputs)), _FOLLOWS)
        return tf.quantization.fake_quant_with_min_max_vars(
            inputs, low, high, num_bits=self.inner.num_bits, narrow_range=self.inner.narrow_range
        )

    def _watch(self, inputs: tf.Tensor, weights: Mapping[str, tf.Variable]) -> tf.Tensor:
        """Returns the activations as they are, and makes the range the mean of those of the batches so far."""
        assert self.watched is not None, "nobody watches"
        key = id(weights["min_var"])
        self.watched[key] = self.watched.get(key, 0) + 1
        self._follow(weights, *_measure(inputs), 1 / self.watched[key])
        return inputs

    def _follow(
        self, weights: Mapping[str, tf.Variable], low: tf.Tensor, high: tf.Tensor, share: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        old_low, old_high = (tf.convert_to_tensor(weights[name]) for name in ("min_var", "max_var"))
        if self._grows:
            new_low, new_high = tf.minimum(old_low, low), tf.maximum(old_high, high)
        else:
            new_low, new_high = old_low + (low - old_low) * share, old_high + (high - old_high) * share
        weights["min_var"].assign(new_low)
        weights["max_var"].assign(new_high)
        return new_low, new_high


class KernelQuantizer:
    """Rounds what a view shows of a kernel.

    Args:
        inner: The quantizer of TF-MOT.
        view: Of the kernel.
    """

    def __init__(self, inner: Any, view: View) -> None:
        self.inner = inner
        self.view = view

    def __call__(self, inputs: tf.Tensor, training: bool, weights: Mapping[str, Any], **options: Any) -> tf.Tensor:
        """Returns the rounded kernel."""
        rounded: tf.Tensor = self.inner(self.view(inputs), training, weights, **options)
        return rounded


def freeze_frozen(model: keras.Model) -> None:
    """Takes the weights of frozen layers from those that are trained; TF-MOT's wrapper has put them there."""
    for wrapper in _list_wrappers(model):
        if not wrapper.layer.trainable:
            wrapper._non_trainable_weights.extend(wrapper._trainable_weights)
            wrapper._trainable_weights.clear()


def find_ranges(model: keras.Model, inputs: Mapping[str, np.ndarray], batch_size: int) -> None:
    """Lets ranges begin as those of examples, and of kernels; TF-MOT's begin at 6 to either side.

    Args:
        model: Of TF-MOT, of this process alone.
        inputs: `(N, *shape)` by name.
        batch_size: The mean of the ranges of so large batches counts.
    """
    for wrapper in _list_wrappers(model):
        for weight, quantizer, variables in wrapper._weight_vars:
            quantizer(weight, True, weights=variables)
    with following_ranges(model) as quantizers:
        for quantizer in quantizers:
            quantizer.watched = {}
        for start in range(0, len(next(iter(inputs.values()))), batch_size):
            batch = {name: array[start : start + batch_size] for name, array in inputs.items()}
            model(batch if len(batch) > 1 else next(iter(batch.values())), training=False)


@contextmanager
def following_ranges(model: keras.Model) -> Iterator[list[RangeQuantizer]]:
    """Puts bmp's quantizers of activations in the place of TF-MOT's meanwhile."""
    changed: list[tuple[Any, Any]] = []
    for layer in model.layers:
        for place in _list_places(layer):
            changed.append((place, place.quantizer))
            place.quantizer = RangeQuantizer(place.quantizer)
    try:
        yield [place.quantizer for place, _ in changed]
    finally:
        for place, quantizer in changed:
            place.quantizer = quantizer


def list_range_variables(model: keras.Model) -> dict[str, tf.Variable]:
    """Returns the ends of all ranges, by what they are called in a message."""
    return {
        f"the range {weight.name.partition(':')[0]}": weight
        for layer in model.layers
        if isinstance(layer, (QuantizeLayer, QuantizeWrapper))
        for weight in layer.non_trainable_weights
        if weight.name.partition(":")[0].endswith(("_min", "_max"))
    }


def list_held_kernels(model: keras.Model, layers: set[str]) -> list[Kernel]:
    """Returns the kernels of some layers, by the names that they had before TF-MOT wrapped them."""
    kernels = []
    for layer in model.layers:
        wrapped = getattr(layer, "layer", None) if isinstance(layer, QuantizeWrapper) else None
        name = layer.name if wrapped is None else wrapped.name
        if name not in layers:
            continue
        if wrapped is None:
            kernels += find_kernels(layer)
        else:
            kernels += [_find_wrapped(layer, kernel) for kernel in find_kernels(wrapped)]
    return kernels


def preserve(model: keras.Model, pairs: list[tuple[Kernel, View]]) -> list[tuple[Kernel, View]]:
    """Lets quantizers round views of kernels; returns the pairs of layers that have none, which are left."""
    views = {id(kernel.variable): view for kernel, view in pairs}
    done = set()
    for wrapper in _list_wrappers(model):
        for place, (weight, quantizer, variables) in enumerate(wrapper._weight_vars):
            if id(weight) in views:
                wrapper._weight_vars[place] = (weight, KernelQuantizer(quantizer, views[id(weight)]), variables)
                done.add(id(weight))
    return [(kernel, view) for kernel, view in pairs if id(kernel.variable) not in done]


def _find_wrapped(wrapper: Any, kernel: Kernel) -> Kernel:
    """Returns a kernel of a wrapped layer, whose attribute TF-MOT has overwritten with the rounded tensor."""
    names = {weight.name.rpartition("/")[2].partition(":")[0]: weight for weight in wrapper.weights}
    owner = SimpleNamespace(**{kernel.attribute: names[kernel.attribute]})
    return Kernel(kernel.layer, owner, kernel.attribute, kernel.inputs_axis, kernel.outputs_axis)


def _list_wrappers(model: keras.Model) -> list[Any]:
    return [layer for layer in model.layers if isinstance(layer, QuantizeWrapper)]


def _list_places(layer: Any) -> list[Any]:
    """Returns what has a `quantizer` of activations, in a layer."""
    if isinstance(layer, QuantizeLayer):
        return [layer] if layer.quantizer else []
    if not isinstance(layer, QuantizeWrapper):
        return []
    outputs = [_Output(layer)] if layer._output_quantizers else []
    return [*layer._quantize_activations, *outputs]


class _Output:
    """The quantizer of a wrapper's output as an attribute."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    @property
    def quantizer(self) -> Any:
        return self._wrapper._output_quantizers[0]

    @quantizer.setter
    def quantizer(self, value: Any) -> None:
        self._wrapper._output_quantizers = [value]


def _measure(inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the range of a tensor; LiteRT wants 0 in it."""
    inputs = tf.stop_gradient(inputs)
    return tf.minimum(tf.reduce_min(inputs), 0.0), tf.maximum(tf.reduce_max(inputs), 0.0)


def _gather_range(low: tf.Tensor, high: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the range over all replicas."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return low, high
    ranges = context.all_gather(tf.stack([low, high])[None], axis=0)  # (replicas, 2)
    return tf.reduce_min(ranges[:, 0]), tf.reduce_max(ranges[:, 1])
