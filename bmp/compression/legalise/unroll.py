"""Loops over time laid out step by step: LiteRT converts no loop with a free batch."""

from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.draft import Allows, Draft
from bmp.compression.legalise.graph import Neighbours, copy_any, place, rebuild
from bmp.models.rnn import MAX_UNROLLED_STEPS
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def unroll_loops(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Lays out recurrent layers over series of a fixed length, where that is short enough for a graph."""
    around = Neighbours(model)
    found = {
        id(layer): layer for layer in model.layers if _is_loop(layer) and allows(layer) and around.is_called_once(layer)
    }
    if not found:
        return None

    def visit(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(layer) not in found:
            return None
        return place(copy_any(layer, **_unrolled(layer)), *args, weights=layer.get_weights(), **kwargs)

    return Draft(rebuild(model, visit), {layer.name: (layer.name,) for layer in found.values()})


def _is_loop(layer: Any) -> bool:
    import tf_keras as keras

    inner = layer.forward_layer if isinstance(layer, keras.layers.Bidirectional) else layer
    if not isinstance(inner, keras.layers.RNN) or inner.unroll or inner.time_major:
        return False
    first = layer.input_shape[0] if isinstance(layer.input_shape, list) else layer.input_shape  # beside initial states
    return first[1] is not None and first[1] <= MAX_UNROLLED_STEPS


def _unrolled(layer: Any) -> dict[str, Any]:
    """Returns what changes in the configuration."""
    config = layer.get_config()
    inner = {
        key: value | {"config": value["config"] | {"unroll": True}}
        for key, value in config.items()
        if key in ("layer", "backward_layer")
    }
    return inner or {"unroll": True}
