"""Taking channels out of a network: a physically smaller one that does what the old one does without them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bmp.compression.channels.groups import ChannelMap
from bmp.compression.channels.rules import Side, channel_axes, reads_all
from bmp.compression.legalise.graph import rebuild
from bmp.errors import ExportError
from bmp.signature import Arrays
from bmp.training.precision import full_float32

if TYPE_CHECKING:
    import tf_keras as keras

_TOLERANCE = 1e-5


def shrink(model: "keras.Model", channels: ChannelMap, kept: np.ndarray) -> "keras.Model":
    """Returns the network without some channels, in float32, with the weights of those that are kept.

    Args:
        model: Not touched.
        channels: Of the model.
        kept: Whether each unit stays, bool `(units,)`; those that cannot be removed have to.
    """
    import tf_keras as keras

    from bmp.training.precision import computing_in

    def remake(layer: Any) -> Any:
        sizes = _new_sizes(layer, channels, kept)
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"} | sizes)

    with computing_in("float32"):
        small = keras.models.clone_model(model, clone_function=remake)
    for layer in model.layers:
        if layer.weights:
            small.get_layer(layer.name).set_weights(_cut(layer, channels, kept))
    return small


def silence(layer: Any, channels: ChannelMap, kept: np.ndarray) -> list[np.ndarray]:
    """Returns the weights of a layer that no longer listens to the channels that are not kept.

    Done to every layer that reads channels, this has the effect of taking them out, whatever a channel is added to and
    whatever a bias or a normalisation makes of a channel of zeros.
    """
    weights = list(layer.get_weights())
    if reads_all(layer):
        axis = next(axis for axis, side in channel_axes(layer)[0].items() if side == "in")
        shape = [1] * weights[0].ndim
        shape[axis] = -1
        weights[0] = weights[0] * kept[channels.entering[layer.name]].reshape(shape)
    return weights


def check_removal(
    model: "keras.Model", small: "keras.Model", channels: ChannelMap, kept: np.ndarray, inputs: Arrays
) -> float:
    """Checks that a smaller model does what the larger one does when no layer listens to the channels taken out.

    Args:
        model: Before; not touched.
        small: After, with the same weights.
        channels: Of the larger one.
        kept: As `shrink` was given it.
        inputs: To compare on, `(N, *shape)` by name.

    Returns:
        The largest difference of an output, divided by the largest output where that is over 1.

    Raises:
        ExportError: It does not.
    """
    silent = rebuild(model)
    for layer in silent.layers:
        if reads_all(layer):
            layer.set_weights(silence(layer, channels, kept))
    with full_float32():
        wanted, found = (_predict(either, inputs) for either in (silent, small))
    pairs = list(zip(wanted, found, strict=True))
    difference = max(float(np.abs(w - f).max() / max(1.0, np.abs(w).max())) for w, f in pairs)
    if not difference <= _TOLERANCE:
        raise ExportError(
            f"The model '{model.name}' without the removed channels differs by {difference:.2g} from what it does when "
            f"nothing listens to them; at most {_TOLERANCE:g} is rounding. A layer of it passes channels on in another "
            "way than bmp takes it to: leave the layers before it out with skip.",
            expected=f"at most {_TOLERANCE:g}",
            received=f"{difference:.2g}",
        )
    return difference


class Amount(NamedTuple):
    """Weights of kernels, and the multiplications by them that one example takes."""

    weights: int
    macs: int


def count_removed(model: "keras.Model", channels: ChannelMap, units: np.ndarray) -> Amount:
    """Returns what goes when some units, int64 `(n,)`, are taken out."""
    kept = np.ones(channels.size, bool)
    kept[units] = False
    weights = macs = 0
    for layer in model.layers:
        axes = channel_axes(layer)
        if axes and layer.weights:
            kernel = count_kernel(layer)
            stay = np.prod([_mask(channels, layer.name, side, kept).mean() for side in axes[0].values()])
            weights += kernel.weights - round(kernel.weights * stay)
            macs += kernel.macs - round(kernel.macs * stay)
    return Amount(weights, macs)


def count_kernel(layer: Any) -> Amount:
    """Returns the size of the kernel of a layer; where images may be of any size, it is counted for one pixel."""
    weights = int(np.prod(layer.weights[0].shape))
    places = layer.input_shape if type(layer).__name__ == "Conv2DTranspose" else layer.output_shape
    shape = places[0] if isinstance(places, list) else places
    return Amount(weights, weights * int(np.prod([size or 1 for size in shape[1:-1]])))


def _new_sizes(layer: Any, channels: ChannelMap, kept: np.ndarray) -> dict[str, Any]:
    """Returns what changes in the configuration of a layer."""
    import tf_keras as keras

    if layer.name not in channels.leaving:
        return {}
    width = int(kept[channels.leaving[layer.name]].sum())
    if isinstance(layer, keras.layers.Dense):
        return {"units": width}
    if isinstance(layer, keras.layers.Reshape):
        return {"target_shape": (*layer.output_shape[1:-1], width)}
    return {"filters": width} if reads_all(layer) else {}


def _cut(layer: Any, channels: ChannelMap, kept: np.ndarray) -> list[np.ndarray]:
    weights = list(layer.get_weights())
    for number, axes in enumerate(channel_axes(layer)):
        for axis, side in axes.items():
            weights[number] = np.compress(_mask(channels, layer.name, side, kept), weights[number], axis=axis)
    return weights


def _mask(channels: ChannelMap, name: str, side: Side, kept: np.ndarray) -> np.ndarray:
    """Returns which channels on a side of a layer stay, bool `(C,)`; all of a layer that no channel was followed to."""
    mask: np.ndarray = kept[(channels.entering if side == "in" else channels.leaving)[name]]
    return mask


def _predict(model: "keras.Model", inputs: Arrays) -> Sequence[np.ndarray]:
    import tensorflow as tf

    packed = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    return [np.asarray(output) for output in tf.nest.flatten(model(packed, training=False))]
