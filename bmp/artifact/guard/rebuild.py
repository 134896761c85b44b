"""A Keras model rebuilt from its file: the description as data, layers from a closed table, weights as arrays.

Keras' own `load_model` imports what a description asks for, and `safe_mode` does not keep it from that in `.h5` files.
Nothing here gives a file's words to anything that looks names up in Python.
"""

import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.artifact.guard.builder import build_network, translate_errors
from bmp.artifact.guard.config import to_plain
from bmp.artifact.guard.hdf5 import MAGIC, open_h5, read_model_config, read_text
from bmp.artifact.guard.keras_zip import CONFIG, METADATA, WEIGHTS, open_keras
from bmp.artifact.guard.limits import Limits, check_file
from bmp.errors import ArtifactError, UnsafeError

if TYPE_CHECKING:
    import tf_keras as keras

_NOT_WEIGHTS = ("optimizer", "_optimizer", "metrics", "compiled_metrics", "compiled_loss", "loss_tracker")
"""Parts of the file of weights that only training needs."""


def rebuild_model(path: Path, limits: Limits = Limits(), *, own: Collection[str] = ()) -> "keras.Model":  # noqa: B008
    """Reads a model from an `.h5` file, or from a `.keras` file that Keras 2 wrote; nothing in it can run code.

    Args:
        path: To the file; what it is, its first bytes say.
        limits: On sizes and counts.
        own: Registered names of layers of the user's that are allowed as well; this process must have imported them.

    Returns:
        The model, not compiled.

    Raises:
        ArtifactError: It is damaged, of another Keras, or weights and description do not fit.
        UnsafeError: It is refused because of what reading it could do.
    """
    check_file(path, limits, "a Keras model")
    with path.open("rb") as content:
        is_h5 = content.read(len(MAGIC)) == MAGIC
    return _rebuild_h5(path, limits, own) if is_h5 else _rebuild_keras(path, limits, own)


def read_keras_version(path: Path, limits: Limits = Limits()) -> str:  # noqa: B008 - immutable
    """Returns which Keras wrote a file, such as `2.21.0`.

    Raises:
        ArtifactError: The file is damaged or does not say.
        UnsafeError: It is refused because of what reading it could do.
    """
    check_file(path, limits, "a Keras model")
    with path.open("rb") as content:
        if content.read(len(MAGIC)) == MAGIC:
            content.seek(0)
            with open_h5(content, path.name, limits) as file:
                version = read_text(file, "keras_version")
        else:
            with open_keras(path, limits) as archive:
                metadata = archive.read_json(METADATA)
            version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    if not isinstance(version, str):
        raise ArtifactError(f"{path.name} does not say which Keras wrote it; save it again with Keras 2.")
    return version


def _check_version(version: str | None, name: str) -> None:
    if version is None or not version.startswith("2."):
        wrote = f"Keras {version[:20]}" if version else "a Keras that does not say its version"
        raise ArtifactError(
            f"{name} was written by {wrote}; here models of Keras 2 (tf_keras) are rebuilt. bmp import converts those "
            "of Keras 3.",
            expected="Keras 2",
            received=wrote,
        )


# --- .h5: weights by name of the layer, in the order that Keras keeps ---


def _rebuild_h5(path: Path, limits: Limits, own: Collection[str]) -> "keras.Model":
    with path.open("rb") as content, open_h5(content, path.name, limits) as file:
        config = read_model_config(file, path.name, limits)
        if "model_weights" not in file:
            raise ArtifactError(f"{path.name} holds a description of a network, but no weights.")
        weights = file["model_weights"]
        _check_version(read_text(weights, "keras_version"), path.name)
        arrays = {name: _read_group(weights[name]) for name in _read_names(weights, "layer_names")}
        top = _read_group(weights["top_level_model_weights"]) if "top_level_model_weights" in weights else []
    model = build_network(to_plain(config, limits, own=own), path.name, _count_bytes([*arrays.values(), top]))
    with translate_errors(path.name):
        _assign_by_layer(model, arrays, top)
    return model


def _read_names(group: Any, attribute: str) -> list[str]:
    """Returns a list of names; Keras cuts a long one into `attribute0`, `attribute1` and so on."""
    if attribute in group.attrs:
        found = list(group.attrs[attribute])
    else:
        found = []
        while f"{attribute}{len(found)}" in group.attrs:
            found.append(group.attrs[f"{attribute}{len(found)}"])
        found = [name for part in found for name in part]
    names = [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in found]
    if len(set(names)) < len(names) or any(name.startswith("/") for name in names):
        raise UnsafeError(f"The list '{attribute}' of the file names the same array again and again, or one elsewhere.")
    return names


def _read_group(group: Any) -> list[np.ndarray]:
    return [np.asarray(group[name]) for name in _read_names(group, "weight_names")]


def _assign_by_layer(model: "keras.Model", arrays: Mapping[str, list[np.ndarray]], top: list[np.ndarray]) -> None:
    layers = {layer.name: layer.trainable_weights + layer.non_trainable_weights for layer in model.layers}
    strays = sorted(name for name, held in arrays.items() if held and name not in layers)
    if strays:
        raise ArtifactError(f"The file holds weights of the layer '{strays[0]}', which the network does not have.")
    for name, weights in layers.items():
        _assign(f"The layer '{name}'", weights, arrays.get(name, []))
    _assign("The network itself", model._trainable_weights + model._non_trainable_weights, top)
    for layer in model._flatten_layers():
        layer.finalize_state()


def _assign(what: str, weights: list[Any], arrays: list[np.ndarray]) -> None:
    if len(weights) != len(arrays):
        raise ArtifactError(
            f"{what} has {len(weights)} weights, and the file holds {len(arrays)} for it.",
            expected=f"{len(weights)} weights",
            received=f"{len(arrays)} weights",
        )
    for weight, array in zip(weights, arrays, strict=True):
        if tuple(weight.shape) != array.shape:
            raise ArtifactError(
                f"{what} has the weight '{weight.name}' of shape {tuple(weight.shape)}, and the file holds one of "
                f"{array.shape}.",
                expected=str(tuple(weight.shape)),
                received=str(array.shape),
            )
        weight.assign(array)


# --- .keras: weights by the path of attributes that leads to the layer ---


def _rebuild_keras(path: Path, limits: Limits, own: Collection[str]) -> "keras.Model":
    with open_keras(path, limits) as archive:
        metadata = archive.read_json(METADATA)
        _check_version(metadata.get("keras_version") if isinstance(metadata, dict) else None, path.name)
        config = archive.read_json(CONFIG)
        with open_h5(io.BytesIO(archive.read(WEIGHTS)), f"{WEIGHTS} in {path.name}", limits) as file:
            store = _Store(file)
    model = build_network(
        to_plain(config, limits, own=own), path.name, _count_bytes(map(dict.values, store.held.values()))
    )
    with translate_errors(path.name):
        _assign_by_path(model, store)
    return model


class _Store:
    """Arrays of a file of weights by the path of their group, given to Keras as it asks for them."""

    def __init__(self, file: Any) -> None:
        import h5py

        self.held: dict[str, dict[str, np.ndarray]] = {}
        self.asked: set[str] = set()

        def collect(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                group, _, number = name.rpartition("/")
                self.held.setdefault(group, {})[number] = np.asarray(item)

        file.visititems(collect)

    def get(self, path: str) -> dict[str, np.ndarray]:
        """Returns the arrays of one layer, `{"0": ..., "1": ...}`; none where the file has none."""
        group = f"{path}/vars" if path else "vars"
        self.asked.add(group)
        return self.held.get(group, {})


def _assign_by_path(model: "keras.Model", store: _Store) -> None:
    from tf_keras.src.saving import saving_lib

    saving_lib._load_state(model, store, None, inner_path="", visited_trackables=set())
    strays = sorted(set(store.held) - store.asked)
    strays = [group for group in strays if group.partition("/")[0] not in _NOT_WEIGHTS]
    if strays:
        raise ArtifactError(f"The file holds weights in '{strays[0]}', where the network has none.")


def _count_bytes(groups: Any) -> int:
    return sum(array.nbytes for group in groups for array in group)
