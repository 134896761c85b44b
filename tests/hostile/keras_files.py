"""Hostile `.keras` files of Keras 2 and 3: descriptions that name code, and archives that are not what they seem."""

import io
import json
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hostile import h5_files
from tests.hostile.case import Case, Cases, Place

CASES = Cases("keras")
Members = dict[str, Any]


def write_weights(change: Callable[[h5py.File], Any] | None = None) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = np.arange(12, dtype="f4").reshape(4, 3)
        file["layers/dense/vars/1"] = np.ones(3, "f4")
        file.create_group("vars")
        if change is not None:
            change(file)
    return content.getvalue()


def describe(layer: dict[str, Any], shape: str = "batch_shape") -> dict[str, Any]:
    """Returns the description of a network with one layer, as Keras 3 writes it; Keras 2 calls the shape otherwise."""
    first = {"class_name": "InputLayer", "config": {shape: [None, 4], "dtype": "float32", "name": "x"}}
    layers = [{"module": "keras.layers", "registered_name": None, **each} for each in (first, layer)]
    config = {"name": "net", "layers": layers}
    return {"module": "keras", "class_name": "Sequential", "config": config, "registered_name": "Sequential"}


def make_members(config: Any = None, version: str = "2.15.0") -> Members:
    """Returns a model that is sound but for its description."""
    described = describe(h5_files.DENSE, "batch_input_shape") if config is None else config
    text = described if isinstance(described, bytes) else json.dumps(described)
    metadata = json.dumps({"keras_version": version})
    return {"metadata.json": metadata, "config.json": text, "model.weights.h5": write_weights()}


def write(path: Path, members: Members) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.filterwarnings("ignore", message="Duplicate name")
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def _make(place: Place, change: Callable[[Members], Any]) -> Path:
    members = make_members()
    change(members)
    return write(place.inside / "model.keras", members)


# === Descriptions ===


def make_function(module: str, name: str) -> dict[str, Any]:
    return {"module": module, "class_name": "function", "config": name, "registered_name": "function"}


LAYERS_3: dict[str, Callable[[Place], dict[str, Any]]] = {
    "a Lambda of Keras 3": lambda place: h5_files.make_layer(
        "Lambda",
        function={
            "class_name": "__lambda__",
            "config": {"code": place.payload.to_marshal(), "defaults": None, "closure": None},
        },
    ),
    "a Lambda that fetches a file": lambda place: h5_files.make_layer(
        "Lambda", function=make_function("keras.utils", "get_file")
    ),
    "a Lambda that lifts the safe mode": lambda place: h5_files.make_layer(
        "Lambda", function=make_function("keras.config", "enable_unsafe_deserialization")
    ),
    "an activation that opens a file": lambda place: h5_files.make_layer(
        "Dense", units=3, activation=make_function("builtins", "open")
    ),
    "a class of the module subprocess": lambda place: {
        "class_name": "Popen",
        "module": "subprocess",
        "config": {"args": ["touch", place.payload.path]},
    },
    "a module of PyTorch in Keras 3": lambda place: h5_files.make_layer(
        "TorchModuleWrapper", module={"class_name": "__bytes__", "config": {"value": pickle.dumps(place.payload).hex()}}
    ),
    "a vocabulary in any file in Keras 3": lambda place: h5_files.make_layer(
        "StringLookup", vocabulary=str(place.secret)
    ),
    "a model by its path in Keras 3": lambda place: h5_files.make_layer("TFSMLayer", filepath=str(place.outside)),
    "a class of numpy in Keras 3": lambda place: h5_files.make_layer(
        "Dense",
        units=3,
        kernel_initializer={
            "module": "numpy",
            "class_name": "load",
            "config": {"file": str(place.secret), "allow_pickle": True},
        },
    ),
}


CASES.extend(
    Case(
        "keras",
        name,
        lambda place, make=make: write(place.inside / "model.keras", make_members(describe(make(place)), "3.6.0")),
    )
    for name, make in LAYERS_3.items()
)


@CASES
def a_Lambda_of_Keras_2(place: Place) -> Path:
    return write(place.inside / "model.keras", make_members(describe(h5_files.make_lambda(place), "batch_input_shape")))


@CASES
def a_Keras_that_there_is_not(place: Place) -> Path:
    return write(place.inside / "model.keras", make_members(version="9.0"))


@CASES
def a_description_of_brackets(place: Place) -> Path:
    return write(place.inside / "model.keras", make_members(b"[" * 100_000))


# === Archives ===


@CASES.spoil(_make)
def a_member_that_climbs(members: Members, place: Place) -> None:
    members["../outside/canary"] = "x"


@CASES.spoil(_make)
def a_member_with_a_path_of_its_own(members: Members, place: Place) -> None:
    members[str(place.canary)] = "x"


@CASES.spoil(_make)
def a_member_that_is_a_vocabulary(members: Members, place: Place) -> None:
    members["assets/layers/string_lookup/vocabulary.txt"] = "a\nb"


@CASES.spoil(_make)
def a_program_among_the_members(members: Members, place: Place) -> None:
    members["layers.py"] = f"open({str(place.canary)!r}, 'w')"


@CASES.spoil(_make)
def pickled_weights(members: Members, place: Place) -> None:
    content = io.BytesIO()
    np.savez(content, weights=np.array([place.payload], object))
    members["model.weights.npz"] = content.getvalue()


@CASES.spoil(_make)
def weights_that_lead_elsewhere(members: Members, place: Place) -> None:
    def link(file: h5py.File) -> None:
        file["layers/dense/vars/2"] = h5py.ExternalLink(str(place.secret), "/")

    members["model.weights.h5"] = write_weights(link)


@CASES.spoil(_make)
def zeros_that_fill_the_memory(members: Members, place: Place) -> None:
    members["model.weights.h5"] = bytes(2**28)


@CASES.spoil(_make)
def thousands_of_members(members: Members, place: Place) -> None:
    members.update({f"_{number}": "" for number in range(5_000)})


@CASES
def two_members_of_one_name(place: Place) -> Path:
    path = write(place.inside / "model.keras", make_members())
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.filterwarnings("ignore", message="Duplicate name")
        archive.writestr("config.json", json.dumps(describe(h5_files.make_lambda(place), "batch_input_shape")))
    return path


@CASES
def a_member_that_is_a_link(place: Place) -> Path:
    members = make_members()
    link = zipfile.ZipInfo("config.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(place.inside / "model.keras", "w") as archive:
        archive.writestr(link, str(place.secret))
        for name in ("metadata.json", "model.weights.h5"):
            archive.writestr(name, members[name])
    return place.inside / "model.keras"


@CASES
def members_that_overlap(place: Place) -> Path:
    path = write(place.inside / "model.keras", make_members())
    content = bytearray(path.read_bytes())
    entries = [at for at in range(len(content)) if content[at : at + 4] == b"PK\x01\x02"]
    content[entries[1] + 42 : entries[1] + 46] = content[entries[0] + 42 : entries[0] + 46]  # where it begins
    path.write_bytes(content)
    return path


@CASES
def a_member_that_is_locked(place: Place) -> Path:
    path = write(place.inside / "model.keras", make_members())
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, content.find(b"PK\x01\x02") + 8, 1)
    path.write_bytes(content)
    return path


@CASES
def hdf5_named_keras(place: Place) -> Path:
    return h5_files.write(place.inside / "model.keras", h5_files.describe(h5_files.make_lambda(place)))
