"""Batch normalisation, and scales of inputs, folded into the linear layer before or after them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.draft import Allows, Draft
from bmp.compression.legalise.graph import Neighbours, copy_any, place, rebuild
from bmp.compression.legalise.linear import (
    Affine,
    absorb_after,
    absorb_before,
    absorbs_before,
    is_linear,
    read_affine,
)
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras


def fold_norms(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Folds each batch normalisation into the linear layer before it, or else into the one after it."""
    import tf_keras as keras

    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return _fold(model, filter(allows, norms))


def fold_scales(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Folds Rescaling and Normalization into the linear layer after them.

    The kernel is then as small as the inputs are large: right for a finished model, wrong for one that is to be
    trained on, whose optimizer takes steps of one size.
    """
    import tf_keras as keras

    kinds = (keras.layers.Rescaling, keras.layers.Normalization)
    return _fold(model, (layer for layer in model.layers if isinstance(layer, kinds) and allows(layer)))


def norms_to_convolutions(model: "keras.Model", signature: Signature, allows: Allows) -> Draft | None:
    """Turns batch normalisations of images that fit into no neighbour into depthwise convolutions of 1x1."""
    import tf_keras as keras

    around = Neighbours(model)
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and allows(layer) and around.is_called_once(layer):
            affine = read_affine(layer)
            if affine is not None and len(layer.output_shape) == 4:
                found[id(layer)] = layer, affine
    if not found:
        return None

    def visit(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(layer) not in found:
            return None
        affine = found[id(layer)][1]
        weights = [affine.scale.reshape(1, 1, -1, 1), affine.shift]
        return place(keras.layers.DepthwiseConv2D(1, name=layer.name), args[0], weights=weights)

    return Draft(rebuild(model, visit), {layer.name: (layer.name,) for layer, _ in found.values()})


def _fold(model: "keras.Model", layers: Iterable[Any]) -> Draft | None:
    """Folds what layers do to each channel into a neighbour, where one can take it and has taken nothing else yet."""
    around = Neighbours(model)
    takers: dict[int, tuple[Any, list[Any]]] = {}  # the layer that takes something, and its new weights
    folded: dict[int, tuple[Any, Any]] = {}  # the layer that goes, and where to
    for layer in layers:
        taken = _find_taker(layer, around)
        if taken is not None and id(taken[0]) not in takers:
            takers[id(taken[0])] = taken
            folded[id(layer)] = layer, taken[0]
    if not folded:
        return None

    def visit(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if id(layer) in folded:
            return _leave_out(layer, args[0])
        if id(layer) not in takers:
            return None
        return place(copy_any(layer, use_bias=True), args[0], weights=takers[id(layer)][1])

    draft = rebuild(model, visit)
    return Draft(draft, {layer.name: (taker.name,) for layer, taker in folded.values()})


def _find_taker(layer: Any, around: Neighbours) -> tuple[Any, list[Any]] | None:
    """Returns the linear layer that can take over what a layer does, with the weights it needs for that."""
    affine = read_affine(layer) if around.is_called_once(layer) else None
    if affine is None or affine.changes_nothing:
        return None
    before = around.find_producer(layer)
    if is_linear(before) and around.is_called_once(before) and around.find_user(before) is layer:
        return before, absorb_after(before, affine)
    return _look_ahead(layer, affine, around)


def _look_ahead(layer: Any, affine: Affine, around: Neighbours) -> tuple[Any, list[Any]] | None:
    """Looks for a linear layer behind layers that give the same whether channels are scaled before or after."""
    user = around.find_user(layer)
    while user is not None and around.is_called_once(user):
        if absorbs_before(user, affine):
            return user, absorb_before(user, affine)
        if not _lets_through(user, affine):
            return None
        if len(affine.scale) != user.output_shape[-1]:  # flattened
            affine = affine.tiled(user.output_shape[-1] // len(affine.scale))
        user = around.find_user(user)
    return None


def _lets_through(layer: Any, affine: Affine) -> bool:
    import tf_keras as keras

    layers = keras.layers
    means = (layers.AveragePooling1D, layers.AveragePooling2D, layers.GlobalAveragePooling1D)
    if type(layer) in (*means, layers.GlobalAveragePooling2D, layers.Dropout):
        return True
    if type(layer) is layers.Flatten:
        return layer.output_shape[-1] is not None
    largest = (layers.MaxPooling1D, layers.MaxPooling2D, layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D)
    return type(layer) in largest and bool((affine.scale > 0).all())


def _leave_out(layer: Any, x: Any) -> Any:
    """Returns what stands in place of a layer that was folded: its input, as floats."""
    import tf_keras as keras

    return x if x.dtype.is_floating else keras.layers.Rescaling(1.0, name=layer.name)(x)
