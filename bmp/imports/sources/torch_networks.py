"""NETWORKS: networks of the shelf that take weights of PyTorch; see `torch_modules` for which goes where."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.catalog import Catalog
from bmp.errors import ConfigError
from bmp.imports.original import Options
from bmp.imports.sources.torch_formulas import activate, connect, convolve, pool
from bmp.imports.sources.torch_modules import (
    Module,
    channels_first,
    check_shape,
    list_modules,
    make_signature,
    match_layers,
    weighted,
)
from bmp.models import MODELS
from bmp.models.head import activation_of
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Network:
    """A network of the shelf with imported weights.

    Args:
        model: Of Keras.
        signature: Of the model.
        run: The same by PyTorch's formulas: `(B, *shape)` to `(B, width)`.
    """

    model: "keras.Model"
    signature: Signature
    run: Callable[[np.ndarray], np.ndarray]


def load_mlp(state: Arrays, options: Options) -> Network:
    """Reads a stack of `Linear`.

    Args:
        state: The `state_dict`.
        options: `args`: those of the shelf's `mlp` but `hidden`; the activation is relu where none is named.

    Raises:
        ArtifactError: The layers do not follow on each other.
        ConfigError: The shape of an example does not fit, or the meaning of the output is open.
    """
    modules = list_modules(state)
    for before, after in pairwise(modules):
        check_shape(after, (None, len(before.weight)))
    count = modules[0].weight.shape[-1]
    shape = options.shape or (count,)
    if math.prod(shape) != count:
        raise ConfigError(
            f"The first layer takes {count} numbers, but an example of shape {shape} has {math.prod(shape)}; say "
            "another with --shape.",
            expected=str(count),
            received=str(shape),
        )
    signature = make_signature(shape, len(modules[-1].weight), options.objective)
    hidden = [len(module.weight) for module in modules[:-1]]
    model = MODELS.bind("mlp", {"hidden": hidden, **options.args})(signature)
    layers = match_layers(modules, weighted(model))
    for number, (layer, module) in enumerate(layers):
        weight = _to_pixels(module.weight, shape) if number == 0 else module.weight
        layer.set_weights([weight.T, module.bias])
    order = [module for _, module in layers]
    return Network(model, signature, partial(_run_mlp, order, signature, options.args))


def _run_mlp(modules: Sequence[Module], signature: Signature, args: dict[str, Any], batch: np.ndarray) -> np.ndarray:
    x = channels_first(batch.astype(np.float64) * args.get("scale", 1.0)).reshape(len(batch), -1)
    for module in modules[:-1]:
        x = activate(connect(x, module.weight, module.bias), args.get("activation", "relu"))
    return activate(connect(x, modules[-1].weight, modules[-1].bias), activation_of(signature))


def _to_pixels(weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a dense weight `(out, C * H * W)` for images flattened as `(H, W, C)`."""
    if len(shape) != 3:
        return weight
    height, width, channels = shape
    images = weight.reshape(len(weight), channels, height, width)
    return images.transpose(0, 2, 3, 1).reshape(weight.shape)


_STRETCH, _HEIGHT = 1.5, 1.7159
"""The shelf's LeNet squashes by s(x) = 1.7159 tanh(2 x / 3), so tanh(x) = s(1.5 x) / 1.7159: weights take that in."""


def load_lenet5(state: Arrays, options: Options) -> Network:
    """Reads LeNet-5: convolutions of 6@5x5, 16@5x5, 120@5x5 (or a `Linear` of 400 to 120), a `Linear` of 84, a head.

    Args:
        state: The `state_dict`.
        options: `args`: `activation`, `tanh` or, where none is named, the paper's `scaled_tanh`; and those of the
            shelf's `lenet5`, `pooling` among them, which weights do not tell.

    Raises:
        ArtifactError: The weights are not those of LeNet-5.
        ConfigError: An argument is missing, or cannot be had.
    """
    modules = list_modules(state)
    args = {"connections": "full", "pooling": _find_pooling(modules, options.args), **options.args}
    activation = args.pop("activation", "scaled_tanh")
    if activation not in ("tanh", "scaled_tanh"):
        raise ConfigError(
            f"The shelf's lenet5 computes tanh, not {activation}; export a network with another activation from "
            "PyTorch to a format that holds its graph, such as a SavedModel, and import that.",
            expected="tanh or scaled_tanh",
            received=str(activation),
        )
    heads = [module for module in modules if module.weight.ndim == 2] or modules
    signature = make_signature(options.shape or (32, 32), len(heads[-1].weight), options.objective)
    model = MODELS.bind("lenet5", args)(signature)
    layers = match_layers(modules, weighted(model))
    _check_lenet5({layer.name: module for layer, module in layers})
    for number, (layer, module) in enumerate(layers):
        weight, bias = _to_kernel(layer.name, module.weight), module.bias
        if activation == "tanh":
            is_last = number == len(layers) - 1
            weight = weight * (1 if is_last else _STRETCH) / (1 if number == 0 else _HEIGHT)
            bias = bias * (1 if is_last else _STRETCH)
        layer.set_weights([weight, bias])
    order = {layer.name: module for layer, module in layers}
    return Network(model, signature, partial(_run_lenet5, order, signature, {**args, "activation": activation}))


def _find_pooling(modules: Sequence[Module], args: dict[str, Any]) -> str:
    if "pooling" in args:
        return str(args["pooling"])
    if len(modules) == 7:
        return "trainable"
    raise ConfigError(
        "The weights do not say how the network pools: add --set pooling=average or --set pooling=max.",
        expected="pooling=average or pooling=max",
        received="no pooling",
    )


def _check_lenet5(modules: dict[str, Module]) -> None:
    sizes = {"c1": (6, None, 5, 5), "c3": (16, 6, 5, 5), "c5": (120, 16, 5, 5), "f6": (84, 120)}
    for name, size in sizes.items():
        is_dense = name == "c5" and modules[name].weight.ndim == 2
        check_shape(modules[name], (120, 400) if is_dense else size)


def _to_kernel(layer: str, weight: np.ndarray) -> np.ndarray:
    """Returns a weight as Keras keeps it."""
    if layer.endswith("_coefficient"):
        return weight.reshape(1, 1, -1, 1)
    if layer == "c5" and weight.ndim == 2:  # of maps that were flattened channel by channel
        weight = weight.reshape(120, 16, 5, 5)
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def _run_lenet5(
    modules: dict[str, Module], signature: Signature, args: dict[str, Any], batch: np.ndarray
) -> np.ndarray:
    squash = partial(activate, kind=args["activation"])
    x = channels_first(batch[..., None] if batch.ndim == 3 else batch).astype(np.float64)
    borders = [(0, 0), (0, 0), *(((32 - size) // 2, (33 - size) // 2) for size in x.shape[2:])]
    x = np.pad(x, borders) * args.get("scale", 1.0) + args.get("offset", 0.0)
    for convolution, coefficient in (("c1", "s2_coefficient"), ("c3", "s4_coefficient")):
        x = squash(convolve(x, modules[convolution].weight, modules[convolution].bias))
        x = pool(x, args["pooling"])
        if coefficient in modules:
            factor, bias = modules[coefficient].weight.reshape(-1), modules[coefficient].bias
            x = squash(x * factor[:, None, None] + bias[:, None, None])
    x = x.reshape(len(x), -1)
    *hidden, last = [module for name, module in modules.items() if name[:2] not in ("c1", "s2", "c3", "s4")]
    for module in hidden:
        x = squash(connect(x, module.weight.reshape(len(module.weight), -1), module.bias))
    return activate(connect(x, last.weight, last.bias), activation_of(signature))


NETWORKS: Catalog[Callable[[Arrays, Options], Network]] = Catalog("network", {"lenet5": load_lenet5, "mlp": load_mlp})
