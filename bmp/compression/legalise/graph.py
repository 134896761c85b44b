"""A functional model built anew, call by call: what every rewrite is made of."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from bmp.training.precision import computing_in

if TYPE_CHECKING:
    import tf_keras as keras

Visit = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""Takes a layer of the old model and the arguments of its call in the new one; returns the new outputs, or None where
the layer is to be copied as it is."""


def rebuild(model: "keras.Model", visit: Visit = lambda layer, args, kwargs: None) -> "keras.Model":
    """Returns a flat model of copies in float32, with other layers where `visit` makes them; weights are copied.

    Args:
        model: Functional or sequential; it is not touched. The calls of functional models in it are laid open.
        visit: Asked at every call of a layer; it places its own layers by `place`.
    """
    import tf_keras as keras

    copies: dict[int, tuple[Any, Any]] = {}
    names: set[str] = set()

    def copy(layer: Any, path: str) -> Any:
        name = layer.name if layer.name not in names else f"{path}{layer.name}"
        names.add(name)
        return copy_any(layer, name=name)

    def call(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any], path: str = "") -> Any:
        outputs = visit(layer, args, kwargs)
        if outputs is not None:
            return outputs
        if isinstance(layer, keras.Model) and layer._is_graph_network:
            inner = partial(call, path=f"{path}{layer.name}_")
            return walk(layer, _pair_inputs(layer, args[0]), inner)
        if id(layer) not in copies:  # a layer called twice stays one layer
            copies[id(layer)] = layer, copy(layer, path)
        return copies[id(layer)][1](*args, **kwargs)

    with computing_in("float32"):
        inputs = {id(old): _copy_input(old) for old in model.inputs}
        outputs = walk(model, inputs, call)
        nested = _map(lambda x: inputs.get(id(x), x), model._nested_inputs)
        copy = keras.Model(nested, outputs, name=model.name)
    for layer, twin in copies.values():
        twin.set_weights(layer.get_weights())
    return copy


def walk(model: "keras.Model", tensors: Mapping[int, Any], call: Callable[..., Any]) -> Any:
    """Goes through the calls of a functional model in order, and returns its outputs, nested as the model's.

    Args:
        model: Functional or sequential.
        tensors: New tensors, by the `id` of each input of the model.
        call: `(layer, args, kwargs)` to the new outputs of the layer.
    """
    import tensorflow as tf

    found = dict(tensors)
    for node in list_calls(model):
        args, kwargs = _map(lambda x: found.get(id(x), x), (node.call_args, node.call_kwargs))
        outputs = call(node.layer, tuple(args), dict(kwargs))
        for old, new in zip(tf.nest.flatten(node.outputs), tf.nest.flatten(outputs), strict=True):
            found[id(old)] = new
    return _map(lambda x: found[id(x)], model._nested_outputs)


def place(layer: Any, *args: Any, weights: Iterable[Any] = (), **kwargs: Any) -> Any:
    """Returns what a new layer makes of its arguments, its weights set."""
    outputs = layer(*args, **kwargs)
    layer.set_weights(list(weights))
    return outputs


def copy_any(layer: Any, /, **changes: Any) -> Any:
    """Returns a layer of the same configuration but for `changes`, in float32, without weights."""
    precision = {} if is_operation(layer) else {"dtype": "float32"}
    return layer.__class__.from_config(layer.get_config() | precision | changes)


def is_operation(layer: Any) -> bool:
    """Returns whether a layer is a plain operation of TensorFlow, which Keras wraps."""
    return type(layer).__module__.endswith(".tf_op_layer")


def list_calls(model: "keras.Model") -> list[Any]:
    """Returns the calls of layers (nodes, in Keras' word), each after those it depends on."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]


class Neighbours:
    """Who feeds whom in a functional model."""

    def __init__(self, model: "keras.Model") -> None:
        import tensorflow as tf

        self._calls: dict[int, list[Any]] = {}
        self._users: dict[int, list[Any]] = {}
        for node in list_calls(model):
            self._calls.setdefault(id(node.layer), []).append(node)
            for parent in node.parent_nodes:
                self._users.setdefault(id(parent.layer), []).append(node.layer)
        for tensor in tf.nest.flatten(model.outputs):
            self._users.setdefault(id(tensor._keras_history.layer), []).append(None)

    def is_called_once(self, layer: Any) -> bool:
        """Returns whether a layer stands in one place only."""
        return len(self._calls.get(id(layer), ())) == 1

    def find_producer(self, layer: Any) -> Any | None:
        """Returns the layer that makes the only input of a layer that is called once; None where there are more."""
        calls = self._calls.get(id(layer), ())
        parents = list(calls[0].parent_nodes) if len(calls) == 1 else []
        return parents[0].layer if len(parents) == 1 else None

    def find_user(self, layer: Any) -> Any | None:
        """Returns the only layer that takes what a layer makes; None if there are more, or it is an output."""
        users = self._users.get(id(layer), ())
        return users[0] if len(users) == 1 else None

    def list_users(self, layer: Any) -> list[Any]:
        """Returns who takes what a layer makes, None standing for the caller of the model."""
        return list(self._users.get(id(layer), ()))


def _pair_inputs(model: Any, given: Any) -> dict[int, Any]:
    """Returns the tensors that a model is called on, by the `id` of its own inputs."""
    import tensorflow as tf

    if isinstance(given, dict):
        return {id(x): given[x._keras_history.layer.name] for x in model.inputs}
    return {id(old): new for old, new in zip(model.inputs, tf.nest.flatten(given), strict=True)}


def _copy_input(tensor: Any) -> Any:
    import tf_keras as keras

    layer = tensor._keras_history.layer
    return keras.Input(batch_shape=tuple(tensor.shape), name=layer.name, dtype=tensor.dtype)


def _map(change: Callable[[Any], Any], nested: Any) -> Any:
    import tensorflow as tf

    return tf.nest.map_structure(change, nested)
