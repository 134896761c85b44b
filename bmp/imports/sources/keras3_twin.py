"""The Keras 2 twin of a Keras 3 network: the same layers in the same order, with the same weights."""

import inspect
import operator
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.errors import ExportError
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras

_OPERATORS = {"Add": operator.add, "Subtract": operator.sub, "Multiply": operator.mul}
"""Functions of Keras 3 that are layers of Keras 2 by the same name."""


def make_twin(model: Any, signature: Signature) -> "tf_keras.Model":
    """Returns a network of Keras 2 layers with the same weights; its outputs are a list, or the only one.

    Raises:
        ExportError: A layer, or an argument of it, has no form in Keras 2.
    """
    import tf_keras

    inputs = [tf_keras.Input(tuple(tensor.shape[1:]), name=tensor.name, dtype=tensor.dtype) for tensor in model.inputs]
    pairs: list[tuple[Any, Any]] = []
    outputs = _rebuild(model, inputs, pairs)
    twin = tf_keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name=model.name)
    for layer, copy in pairs:
        _copy_weights(layer, copy)
    return twin


def _rebuild(model: Any, inputs: list[Any], pairs: list[tuple[Any, Any]]) -> list[Any]:
    """Calls Keras 2 layers in the order of a Keras 3 graph, on tensors of Keras 2; returns the outputs."""
    import keras

    @cache  # a layer that is used twice is one layer
    def find(operation: Any) -> Callable[..., Any]:
        copy: Any
        if isinstance(operation, keras.Model):
            copy = _copy_model(operation, pairs)
        elif isinstance(operation, keras.layers.Layer):
            copy = _copy_layer(operation)
            pairs.append((operation, copy))
        else:
            copy = _copy_operator(operation)

        def call(*args: Any, **kwargs: Any) -> Any:
            given = {key: value for key, value in kwargs.items() if value is not None}
            try:
                return copy(*args, **given)
            except (TypeError, ValueError, AttributeError) as error:
                text = " ".join(str(error).split())[:200]
                raise ExportError(f"its layer '{operation.name}' cannot be called in Keras 2: {text}") from error

        return call

    outputs = model._run_through_graph(inputs, operation_fn=find)
    flat: list[Any] = keras.tree.flatten(outputs)
    return flat


def _copy_model(model: Any, pairs: list[tuple[Any, Any]]) -> Any:
    """Returns the twin of a network inside a network."""
    import tf_keras

    inputs = [tf_keras.Input(tuple(tensor.shape[1:]), dtype=tensor.dtype) for tensor in model.inputs]
    graph = getattr(model, "_functional", None) or model  # a sequential network holds one
    outputs = _rebuild(graph, inputs, pairs)
    return tf_keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0], name=model.name)


def _copy_operator(operation: Any) -> Callable[..., Any]:
    """Returns what `x + y` and the like, written between tensors, is in Keras 2.

    Raises:
        ExportError: It is another function.
    """
    import tf_keras

    name = type(operation).__name__
    if name not in _OPERATORS:
        raise ExportError(f"it has no function '{name}', which '{operation.name}' is")

    def call(first: Any, second: Any) -> Any:
        if all(tf_keras.backend.is_keras_tensor(x) for x in (first, second)):
            return getattr(tf_keras.layers, name)(name=operation.name)([first, second])
        return _OPERATORS[name](first, second)

    return call


def _copy_layer(layer: Any) -> Any:
    """Returns the Keras 2 layer of the same class and arguments.

    Raises:
        ExportError: There is none.
    """
    import keras
    import tf_keras

    name = type(layer).__name__
    kind = getattr(tf_keras.layers, name, None)
    if (
        not isinstance(layer, keras.layers.Layer)
        or kind is None
        or getattr(keras.layers, name, None) is not type(layer)
    ):
        raise ExportError(f"it has no layer '{name}', which '{layer.name}' is")
    config = _simplify(layer.get_config())
    known = _list_arguments(kind)
    defaults = {key: value.default for key, value in inspect.signature(type(layer).__init__).parameters.items()}
    for key in [key for key in config if key not in known]:
        value = config.pop(key)
        if value not in (None, False, defaults.get(key)):
            raise ExportError(f"its layer {name} takes no '{key}', which is {value!r} in '{layer.name}'")
    try:
        return kind(**config)
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())[:200]
        raise ExportError(f"its layer {name} does not take the arguments of '{layer.name}': {text}") from error


def _list_arguments(kind: type) -> set[str]:
    """Returns the names that a Keras 2 layer takes, its base classes' among them."""
    names = {"name", "trainable", "dtype", "zero_output_for_mask"}  # the last is among the **kwargs of recurrent ones
    for base in kind.__mro__:
        own = vars(base).get("__init__")
        names |= set(inspect.signature(own).parameters) if own is not None and base is not object else set()
    return names - {"self", "args", "kwargs"}


def _simplify(value: Any) -> Any:
    """Returns an argument as Keras 2 takes it: of a policy its name, of an object its class and arguments."""
    import keras

    if isinstance(value, list):
        return [_simplify(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    if "class_name" in value and "config" in value:
        if value.get("module") == "builtins":
            return value["config"]
        if value.get("module") == "keras.layers":  # inside another: forward, or repeated in time
            return _copy_layer(keras.layers.deserialize(value))
        config = {key: item for key, item in value["config"].items() if item is not None}  # defaults in both
        return {"class_name": value["class_name"], "config": _simplify(config)}
    return {key: _simplify(item) for key, item in value.items()}


def _copy_weights(layer: Any, copy: Any) -> None:
    """Gives the copy the weights of a layer.

    Raises:
        ExportError: They are not of the same shapes.
    """
    given, wanted = layer.get_weights(), copy.get_weights()
    shapes, expected = ([np.shape(weight) for weight in weights] for weights in (given, wanted))
    if shapes != expected:
        raise ExportError(f"its layer {type(copy).__name__} has weights of other shapes than '{layer.name}'")
    copy.set_weights(given)


def name_outputs(twin: "tf_keras.Model", signature: Signature) -> "tf_keras.Model":
    """Returns a network whose outputs go by name where there are several."""
    import tf_keras

    if len(signature.outputs) == 1:
        return twin
    named = {spec.name: tensor for spec, tensor in zip(signature.outputs, twin.outputs, strict=True)}
    return tf_keras.Model(twin.inputs, named, name=twin.name)
