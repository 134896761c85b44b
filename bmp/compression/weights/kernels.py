"""The kernels of a model: which layer has one, and along which axes its inputs and outputs lie."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bmp.compression.technique import Support
from bmp.errors import ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    import tf_keras as keras

Level = TypeVar("Level", int, float)

GROUP = 4
"""Inputs of an output that blocks and 2:4 patterns are made of."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """A weight of a layer that techniques work on.

    Args:
        layer: Name of the layer in the model, which is another than the owner inside of wrappers.
        owner: The layer, or cell, that computes with it.
        attribute: Of the owner.
        inputs_axis: Along which the inputs of an output lie; None where there are none, as in an embedding.
        outputs_axis: Along which outputs lie; None where they are not along one.
    """

    layer: str
    owner: Any
    attribute: str
    inputs_axis: int | None
    outputs_axis: int | None

    @property
    def variable(self) -> Any:
        """The variable of TensorFlow."""
        return getattr(self.owner, self.attribute)

    def read(self) -> np.ndarray:
        """Returns its values."""
        values: np.ndarray = self.variable.numpy()
        return values

    def to_rows(self, array: np.ndarray) -> np.ndarray:
        """Returns an array of the shape of the kernel with its inputs as the last axis, a view."""
        assert self.inputs_axis is not None, f"{self.layer} has no inputs"
        return np.moveaxis(array, self.inputs_axis, -1)

    def from_rows(self, rows: np.ndarray) -> np.ndarray:
        """Takes `to_rows` back."""
        assert self.inputs_axis is not None, f"{self.layer} has no inputs"
        return np.moveaxis(rows, -1, self.inputs_axis)

    def has_groups(self) -> bool:
        """Whether its inputs can be taken four at a time, and none is left."""
        return self.inputs_axis is not None and self.variable.shape[self.inputs_axis] % GROUP == 0


def find_kernels(layer: Any, name: str | None = None) -> list[Kernel]:
    """Returns the kernels of a layer of Keras; those of layers and cells that it wraps among them.

    Kernels of depthwise convolutions are none: they are few weights, each of which counts.

    Args:
        layer: Built.
        name: Of the layer in the model; its own, if None.
    """
    import tf_keras as keras

    name = name or layer.name
    inner = _find_inner(layer, keras.layers)
    if inner:
        return [kernel for part in inner for kernel in find_kernels(part, name)]
    for kinds, attributes, inputs_axis, outputs_axis in _list_kinds(keras.layers):
        if isinstance(layer, kinds):
            return [Kernel(name, layer, attribute, inputs_axis, outputs_axis) for attribute in attributes]
    return []


def list_kernels(model: "keras.Model", skip: Collection[str] = ()) -> list[Kernel]:
    """Returns the kernels of all layers of a model but those in `skip`."""
    return [kernel for layer in model.layers if layer.name not in skip for kernel in find_kernels(layer)]


def judge(layer: Any, technique: str, skip: Collection[str]) -> Support:
    """Returns whether a technique that works on any kernel works on a layer."""
    import tf_keras as keras

    if layer.name in skip:
        return Support("no", "it is in skip", "take it out of skip")
    if isinstance(layer, keras.Model):
        return Support("rewrite", "flattened: a model within the model becomes its layers")
    if find_kernels(layer):
        return Support("applies")
    if not any(len(weight.shape) > 1 for weight in layer.weights):
        return Support("nothing", "it has no kernel")
    if "Depthwise" in type(layer).__name__:
        return Support("no", "a depthwise kernel has few weights, and each counts")
    return Support("no", f"{technique} knows no kernel in a layer {type(layer).__name__}", "use layers of Keras")


def say_left(model: "keras.Model", technique: str, skip: Collection[str]) -> list[str]:
    """Returns a sentence for each kind of layer whose weights a technique that works on any kernel leaves alone."""
    left: dict[tuple[str, str], list[str]] = {}
    for layer in model.layers:
        support = judge(layer, technique, skip)
        if support.verdict in ("no", "rewrite") and layer.name not in skip:
            left.setdefault((type(layer).__name__, support.reason), []).append(layer.name)
    return [f"{technique}: left as it is: {', '.join(names)} ({kind}): {why}." for (kind, why), names in left.items()]


def check_names(technique: str, argument: str, names: Iterable[str], model: "keras.Model") -> None:
    """Refuses names in an argument that no layer of the model has.

    Raises:
        UnknownNameError: There is one.
    """
    known = [layer.name for layer in model.layers if type(layer).__name__ != "InputLayer"]
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"{technique}: {argument} names the layer '{name}', which the model '{model.name}' has not; it has "
                f"{', '.join(known)}.{suggest(name, known)}",
                expected=f"one of {', '.join(known)}",
                received=name,
            )


def level_of(
    technique: str, argument: str, levels: Level | Mapping[str, Level], model: "keras.Model"
) -> Callable[[str], Level | None]:
    """Returns what maps the name of a layer to its level, None for a layer that has none.

    Args:
        technique: That asks.
        argument: In which levels are given.
        levels: One for all layers, or one for each layer that is to be worked on.
        model: Whose layers they are.

    Raises:
        UnknownNameError: A name is no layer's.
        ConfigError: A layer that is named has no kernel.
    """
    if not isinstance(levels, Mapping):
        return lambda name: levels
    check_names(technique, argument, levels, model)
    for name in levels:
        if not find_kernels(model.get_layer(name)):
            raise ConfigError(
                f"{technique}: {argument} names the layer '{name}', which has no kernel. Leave it out.",
                expected="a layer with a kernel",
                received=f"{name}, a {type(model.get_layer(name)).__name__}",
            )
    return levels.get


def _find_inner(layer: Any, layers: Any) -> list[Any]:
    """Returns the layers, or cells, within a layer."""
    if isinstance(layer, layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    if isinstance(layer, layers.TimeDistributed):
        return [layer.layer]
    if isinstance(layer, layers.RNN):
        return [layer.cell]
    if isinstance(layer, layers.StackedRNNCells):
        return list(layer.cells)
    if isinstance(layer, layers.MultiHeadAttention):
        return [layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense]
    return []


def _list_kinds(layers: Any) -> list[tuple[tuple[type, ...], tuple[str, ...], int | None, int | None]]:
    """Returns classes of layers, their kernels, and the axes of inputs and outputs; the first that fits counts."""
    return [
        ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), ("kernel",), -1, -2),
        ((layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D), ("kernel",), -2, -1),
        ((layers.SeparableConv1D, layers.SeparableConv2D), ("pointwise_kernel",), -2, -1),
        ((layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell), ("kernel", "recurrent_kernel"), -2, -1),
        ((layers.Embedding,), ("embeddings",), None, None),
        ((layers.EinsumDense,), ("kernel",), None, None),
    ]
