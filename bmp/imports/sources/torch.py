"""Weights of PyTorch (a `state_dict` in safetensors) for networks of the shelf; PyTorch itself is not needed."""

from pathlib import Path

import numpy as np

from bmp.errors import ArtifactError, ConfigError
from bmp.imports.original import Options, Original
from bmp.imports.sources.torch_networks import NETWORKS
from bmp.signature import Arrays


def check_torch_source(path: Path) -> None:
    """Does nothing: a safetensors file is a table of names, types and offsets, and numbers."""


def read_torch_source(path: Path, options: Options) -> Original:
    """Reads the file into the network of the shelf that `options` names.

    Raises:
        ConfigError: No network is named, or it takes no such arguments.
        ArtifactError: The weights are not those of the network.
    """
    from bmp.imports.sources.keras2 import make_writers

    if options.network is None:
        known = ", ".join(NETWORKS)
        raise ConfigError(
            f"{path} holds weights without a network; say which of the shelf they belong to: --network {known}.",
            expected=known,
            received="no --network",
        )
    network = NETWORKS[options.network](_read_state(path), options)
    name = network.signature.outputs[0].name

    def run(arrays: Arrays) -> Arrays:
        (batch,) = arrays.values()
        return {name: network.run(batch).astype(np.float32)}

    return Original(
        engine="numpy, by the formulas of PyTorch",
        signature=network.signature,
        run=run,
        writers=make_writers(network.model),
        objective=network.signature.objective,
    )


def _read_state(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name, as float32.

    Raises:
        ArtifactError: It is damaged, or holds something else than numbers.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        state = load(path.read_bytes())
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is no safetensors file that can be read: {error}.") from error
    wrong = [name for name, array in state.items() if array.dtype.kind != "f" and array.ndim]
    if wrong or not state:
        raise ArtifactError(f"{path} holds {', '.join(wrong[:3]) or 'nothing'}; expected weights of floating point.")
    return {name: np.asarray(array, np.float32) for name, array in state.items() if array.ndim}
