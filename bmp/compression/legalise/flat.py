"""One flat graph of layers: subclassed models traced, models in models laid open."""

from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.draft import Allows, Draft
from bmp.compression.legalise.graph import list_calls, rebuild
from bmp.errors import ExportError
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def trace(model: "keras.Model", signature: Signature) -> Draft | None:
    """Returns a functional model that does what the `call` of a subclassed one does; None for a functional one.

    Raises:
        ExportError: The code of `call` cannot be followed, or it uses variables that belong to no layer.
    """
    import tf_keras as keras

    if model._is_graph_network and not _find_subclassed(model):
        return None
    names = [layer.name for layer in (_find_subclassed(model) if model._is_graph_network else model.layers)]
    traced = model if model._is_graph_network else _follow(model, signature)
    while inner := _find_subclassed(traced):
        traced = rebuild(traced, lambda layer, args, kwargs: _call(layer, args, kwargs) if layer in inner else None)
    if len(traced.weights) != len(model.weights):
        raise ExportError(
            f"The model '{model.name}' has weights of its own, beside those of its layers, and only layers can be "
            "rewritten. Put them into a layer: call add_weight in its build.",
            expected=f"{len(model.weights)} weights",
            received=f"{len(traced.weights)} weights",
        )
    copy = rebuild(traced)  # the layers of the model given stay its own
    assert isinstance(copy, keras.Model)
    return Draft(copy, {name: (name,) for name in names})


def flatten(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Returns a model in which the layers of models inside stand by themselves; None if there are none."""
    import tf_keras as keras

    inside = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if not inside:
        return None
    return Draft(rebuild(model), {layer.name: tuple(inner.name for inner in layer.layers) for layer in inside})


def _follow(model: "keras.Model", signature: Signature) -> "keras.Model":
    """Calls a subclassed model on symbolic inputs, so that Keras writes down which layers it calls."""
    import tf_keras as keras

    inputs = {spec.name: keras.Input(spec.shape, name=spec.name, dtype=spec.dtype) for spec in signature.inputs}
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    return keras.Model(given, _call(model, (given,), {}), name=model.name)


def _call(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return model.call(*args, **kwargs)
    except Exception as error:  # whatever code of the user's own raises
        raise ExportError(
            f"The call of the model '{model.name}' cannot be followed layer by layer: "
            f"{' '.join(str(error).split())[:200]} Write it as a functional model, or without decisions about the "
            "values of tensors.",
            expected="calls of layers and operations of TensorFlow",
            received=type(error).__name__,
        ) from error


def _find_subclassed(model: "keras.Model") -> list[Any]:
    import tf_keras as keras

    layers = [node.layer for node in list_calls(model)]
    return [layer for layer in layers if isinstance(layer, keras.Model) and not layer._is_graph_network]
