"""Keras' MultiHeadAttention as dense layers with attention between them, so that its kernels are dense kernels."""

from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.compression.legalise.draft import Allows, Draft
from bmp.compression.legalise.graph import Neighbours, place, rebuild
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def split_attention(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Turns each MultiHeadAttention into four Dense layers and one layer of attention without weights."""
    around = Neighbours(model)
    found = {
        id(layer): layer
        for layer in model.layers
        if _is_plain_attention(layer) and allows(layer) and around.is_called_once(layer)
    }
    if not found:
        return None
    split: dict[str, tuple[str, ...]] = {}

    def visit(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = _read_call(args, kwargs) if id(layer) in found else None
        if given is None:
            return None
        split[layer.name] = tuple(f"{layer.name}_{part}" for part in ("query", "key", "value", "output"))
        return _split(layer, **given)

    draft = rebuild(model, visit)
    return Draft(draft, split) if split else None


def _is_plain_attention(layer: Any) -> bool:
    """Returns whether a layer attends along one axis, and gives one number a unit."""
    import tf_keras as keras

    return (
        type(layer) is keras.layers.MultiHeadAttention
        and len(layer._query_shape) == 3
        and layer._output_dense.kernel.shape.rank == 3
    )


def _read_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the arguments of a call by name; None for one that asks for more than the answer."""
    names = ("query", "value", "key", "attention_mask", "return_attention_scores", "training", "use_causal_mask")
    given = dict(zip(names, args, strict=False)) | kwargs
    mask = given.get("attention_mask")
    if given.get("return_attention_scores") or (mask is not None and len(getattr(mask, "shape", ())) != 3):
        return None
    key = given.get("key")
    return {
        "query": given["query"],
        "key": given["value"] if key is None else key,
        "value": given["value"],
        "mask": mask,
        "causal": bool(given.get("use_causal_mask")),
    }


def _split(layer: Any, query: Any, key: Any, value: Any, mask: Any, causal: bool) -> Any:
    """Returns what the layer returns, `(B, T, D)`."""
    from bmp.models.layers import Attention

    config = layer.get_config()
    parts = [
        _add_dense(layer, part, x, dense)
        for part, x, dense in (
            ("query", query, layer._query_dense),
            ("key", key, layer._key_dense),
            ("value", value, layer._value_dense),
        )
    ]
    attention = Attention(config["num_heads"], causal, config["dropout"], name=layer.name)
    context = attention(parts if mask is None else [*parts, mask])  # (B, T, heads * V)
    return _add_dense(layer, "output", context, layer._output_dense, inputs=2)


def _add_dense(layer: Any, part: str, x: Any, dense: Any, inputs: int = 1) -> Any:
    """Returns what a part of attention makes of `x`, its kernel as a matrix.

    Args:
        layer: The attention.
        part: Of its name.
        x: `(B, T, D)`.
        dense: The layer inside attention.
        inputs: Axes of its kernel that are inputs: `(D, heads, size)`, or `(heads, size, D)` of the last one.
    """
    import tf_keras as keras

    kernel = dense.kernel.numpy()
    kernel = kernel.reshape(int(np.prod(kernel.shape[:inputs])), -1)
    weights = [kernel] if dense.bias is None else [kernel, dense.bias.numpy().ravel()]
    layer = keras.layers.Dense(kernel.shape[1], use_bias=len(weights) > 1, name=f"{layer.name}_{part}")
    return place(layer, x, weights=weights)
