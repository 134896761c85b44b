"""The modules of a PyTorch `state_dict`, and which layer of a network of the shelf each of them is.

A module that is called like a layer of the network goes there; the others go to the layers that are left, in the order
of their names, `fc2` before `fc10`. Every shape has to fit. PyTorch keeps `(out, in)` of a dense layer and
`(out, in, height, width)` of a convolution, and flattens images channel by channel; Keras keeps `(in, out)` and
`(height, width, in, out)`, and flattens them pixel by pixel.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.errors import ArtifactError, ConfigError
from bmp.objectives import OBJECTIVES
from bmp.signature import Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

_OUTPUTS = {"binary": "probability", "regression": "values"}


@dataclass(frozen=True)
class Module:
    """One module of PyTorch.

    Args:
        name: Of the module.
        weight: As PyTorch keeps it.
        bias: `(out,)`; zeros where it has none.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray


def list_modules(state: Arrays) -> list[Module]:
    """Returns the modules of a `state_dict` in the order of their names.

    Raises:
        ArtifactError: A name is neither a weight nor a bias.
    """
    modules = []
    for key in sorted(state, key=_natural):
        name, _, part = key.rpartition(".")
        if (
            part not in ("weight", "bias")
            or f"{name}.weight" not in state
            or state[f"{name}.weight"].ndim not in (1, 2, 4)
        ):
            raise ArtifactError(
                f"The state_dict holds '{key}' {state[key].shape}, which no layer of this network has; expected "
                "weights and biases of Linear and Conv2d.",
                expected="NAME.weight and NAME.bias",
                received=key,
            )
        if part == "weight":
            bias = state.get(f"{name}.bias", np.zeros(len(state[key]), np.float32))
            modules.append(Module(name, state[key], bias))
    return modules


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def weighted(model: "keras.Model") -> list[Any]:
    """Returns the layers that have weights, in order."""
    return [layer for layer in model.layers if layer.weights]


def match_layers(modules: Sequence[Module], layers: Sequence[Any]) -> list[tuple[Any, Module]]:
    """Returns each layer with its module."""
    if len(modules) != len(layers):
        raise ArtifactError(
            f"The state_dict holds {len(modules)} modules ({_say(module.name for module in modules)}); the network has "
            f"{len(layers)} layers with weights ({_say(layer.name for layer in layers)}).",
            expected=str(len(layers)),
            received=str(len(modules)),
        )
    named = {module.name: module for module in modules}
    found = {layer.name: named.pop(name) for layer in layers if (name := _own_name(layer.name)) in named}
    rest = iter(named.values())
    return [(layer, found.get(layer.name) or next(rest)) for layer in layers]


def _own_name(layer: str) -> str:
    return layer.removesuffix("_coefficient")


def check_shape(module: Module, wanted: tuple[int | None, ...]) -> None:
    """Checks the shape of a weight, of which None may be any size.

    Raises:
        ArtifactError: It is another.
    """
    found = module.weight.shape
    fits = len(found) == len(wanted) and all(size in (None, have) for size, have in zip(wanted, found, strict=True))
    if not fits:
        shown = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ArtifactError(
            f"'{module.name}.weight' is {found}; expected ({shown}) at its place in the network. Modules are taken in "
            "the order of their names: rename them before they are saved, if that is not theirs.",
            expected=f"({shown})",
            received=str(found),
        )


def make_signature(shape: tuple[int, ...], width: int, objective: str | None) -> Signature:
    """Returns the signature of a network that answers with `width` numbers.

    Raises:
        ConfigError: What they mean is open.
    """
    if objective is None and width == 1:
        raise ConfigError(
            "The network answers with one number, and weights do not say what it means: add --objective binary or "
            "--objective regression.",
            expected="binary or regression",
            received="no --objective",
        )
    objective = objective or "multiclass"
    activation = OBJECTIVES[objective].activation
    name = _OUTPUTS.get(objective, "probabilities" if activation != "linear" else "values")
    return Signature((TensorSpec("x", "float32", shape),), (TensorSpec(name, "float32", (width,)),), objective)


def channels_first(batch: np.ndarray) -> np.ndarray:
    """Returns images `(B, H, W, C)` as PyTorch takes them, `(B, C, H, W)`; anything else as it is."""
    return batch.transpose(0, 3, 1, 2) if batch.ndim == 4 else batch


def _say(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
