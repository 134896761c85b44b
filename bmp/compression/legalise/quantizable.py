"""What training with quantizers takes of a model: which layers it rounds, and where floats get a range."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.graph import Neighbours, copy_any, place, rebuild

if TYPE_CHECKING:
    import tf_keras as keras

_ACTIVATIONS = frozenset({"linear", "relu", "swish", "gelu", "softmax", "sigmoid", "tanh"})
"""Those that TF-MOT knows where to round, in a layer of weights."""
_ACTIVATION_LAYERS = _ACTIVATIONS | {"relu6"}
_LIMIT_OF_JOINED = 6
"""Inputs that TF-MOT gives one common range."""


def annotate(
    model: "keras.Model", leave: Callable[[Any], bool] = lambda layer: False
) -> tuple["keras.Model", tuple[str, ...]]:
    """Returns a copy for `quantize_apply` of TF-MOT, and what a person should know, in whole sentences.

    Layers that TF-MOT can quantize are annotated. Every other stays float; where it feeds an annotated one, its
    output gets a range of its own, so that the exported layer after it computes in int8 all the same.

    Args:
        model: Functional or sequential, with plain layers.
        leave: Says of a layer that it is to stay float.
    """
    import tensorflow_model_optimization as tfmot

    around = Neighbours(model)
    chosen = {id(layer): layer for layer in model.layers if not leave(layer) and _is_taken(layer, around)}

    def visit(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(layer) in chosen:
            annotated = tfmot.quantization.keras.quantize_annotate_layer(copy_any(layer))
            return place(annotated, *args, weights=layer.get_weights(), **kwargs)
        if not around.is_called_once(layer):  # its copy is shared by all calls
            return None
        outputs = place(copy_any(layer), *args, weights=layer.get_weights(), **kwargs)
        return _make_range(layer, outputs) if _needs_range(layer, outputs, around, chosen) else outputs

    with tfmot.quantization.keras.quantize_scope():
        annotated = rebuild(model, visit)
    return annotated, _describe(model, chosen)


def find_obstacle(layer: Any) -> str | None:
    """Returns why TF-MOT cannot quantize a layer by itself, in a clause, or None; neighbours may still forbid it."""
    import tf_keras as keras

    if isinstance(layer, keras.layers.BatchNormalization):
        return None
    # It is taken apart into two. So is SeparableConv1D, but with a Lambda layer, which Keras will not read back.
    is_taken_apart = type(layer) is keras.layers.SeparableConv2D
    if not is_taken_apart and not _registry().supports(layer):
        return f"TF-MOT has no quantizers for {type(layer).__name__}"
    activation = getattr(getattr(layer, "activation", None), "__name__", None)
    known = _ACTIVATION_LAYERS if isinstance(layer, keras.layers.Activation) else _ACTIVATIONS
    if activation is not None and activation not in known:
        return f"TF-MOT does not know where to round the activation {activation}"
    return None


@functools.cache
def _registry() -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (
        default_8bit_quantize_registry as registry,
    )

    return registry.Default8BitQuantizeRegistry()


def _is_taken(layer: Any, around: Neighbours) -> bool:
    """Returns whether a layer can be annotated where it stands."""
    import tf_keras as keras

    if not around.is_called_once(layer) or find_obstacle(layer) or not _is_float(layer.output):
        return False
    if isinstance(layer, keras.layers.BatchNormalization):
        return _is_folded_by_tfmot(layer, around)
    if isinstance(layer, keras.layers.Concatenate):
        return len(layer.input) <= _LIMIT_OF_JOINED
    return _is_float(layer.input)


def _is_folded_by_tfmot(layer: Any, around: Neighbours) -> bool:
    """Returns whether normalisation follows a linear layer that nothing else reads: TF-MOT rounds after both."""
    import tf_keras as keras

    before = around.find_producer(layer)
    linear = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
    return (
        before is not None
        and type(before) in linear
        and before.activation is keras.activations.linear
        and around.is_called_once(before)
        and around.find_user(before) is layer
    )


def _needs_range(layer: Any, x: Any, around: Neighbours, chosen: dict[int, Any]) -> bool:
    """Returns whether a layer that stays float feeds one that is quantized."""
    return _is_float(x) and any(id(user) in chosen for user in around.list_users(layer))


def _is_float(x: Any) -> bool:
    import tensorflow as tf

    return all(tensor.dtype.is_floating for tensor in tf.nest.flatten(x))


def _make_range(layer: Any, x: Any) -> Any:
    from tensorflow_model_optimization.python.core.quantization.keras import quantize_layer, quantizers

    quantizer = quantizers.MovingAverageQuantizer(num_bits=8, per_axis=False, symmetric=False, narrow_range=False)
    return quantize_layer.QuantizeLayer(quantizer, name=f"{layer.name}_range")(x)


def _describe(model: "keras.Model", chosen: dict[int, Any]) -> tuple[str, ...]:
    """Returns a sentence for each kind of layer with weights that stays float."""
    left: dict[str, list[str]] = {}
    for layer in model.layers:
        if id(layer) not in chosen and layer.weights:
            left.setdefault(type(layer).__name__, []).append(layer.name)
    return tuple(
        f"Trained as float, without rounding: {', '.join(names)} ({kind})." for kind, names in sorted(left.items())
    )
