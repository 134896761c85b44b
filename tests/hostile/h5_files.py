"""Hostile `.h5` files: descriptions that name code or files, and HDF5 that is not what it seems."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.hostile.case import Case, Cases, Place

CASES = Cases("h5")
INPUT = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "dtype": "float32", "name": "x"}}
DENSE = {"class_name": "Dense", "config": {"name": "y", "units": 3}}


def describe(*layers: dict[str, Any]) -> dict[str, Any]:
    """Returns the description of layers one after another."""
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [INPUT, *layers]}}


def write_weights(group: h5py.Group) -> None:
    """Writes the weights of DENSE as Keras 2 does."""
    group.attrs["layer_names"] = [b"x", b"y"]
    group.create_group("x").attrs["weight_names"] = np.zeros(0, "S1")
    dense = group.create_group("y")
    dense.attrs["weight_names"] = [b"y/kernel:0", b"y/bias:0"]
    dense["y/kernel:0"] = np.arange(12, dtype="f4").reshape(4, 3)
    dense["y/bias:0"] = np.ones(3, "f4")


def write(path: Path, config: Any = None, change: Callable[[h5py.File], Any] | None = None) -> Path:
    """Writes a model that is sound but for its description, or a change."""
    with h5py.File(path, "w") as file:
        text = config if isinstance(config, bytes) else json.dumps(describe(DENSE) if config is None else config)
        file.attrs["model_config"] = text
        weights = file.create_group("model_weights")
        for group in (file, weights):
            group.attrs["keras_version"], group.attrs["backend"] = "2.15.0", "tensorflow"
        write_weights(weights)
        if change is not None:
            change(file)
    return path


def make_layer(name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": name, "config": {"name": "evil", **config}}


def make_lambda(place: Place) -> dict[str, Any]:
    """Returns a layer that runs the payload."""
    code = [place.payload.to_marshal(), None, None]
    function = {"function": code, "function_type": "lambda", "module": "builtins", "arguments": {}}
    shape = {"output_shape": None, "output_shape_type": "raw", "output_shape_module": None}
    return make_layer("Lambda", **function, **shape)


LAYERS: dict[str, Callable[[Place], dict[str, Any]]] = {
    "a Lambda": make_lambda,
    "a Lambda in a network in the network": lambda place: {
        "class_name": "Sequential",
        "config": {"name": "inner", "layers": [INPUT, make_lambda(place)]},
    },
    "a Lambda in a wrapper": lambda place: make_layer("TimeDistributed", layer=make_lambda(place)),
    "a Lambda as the cell of an RNN": lambda place: make_layer("RNN", cell=make_lambda(place)),
    "a Lambda that a function of a module makes": lambda place: make_layer(
        "Lambda", function="system", function_type="function", module="os"
    ),
    "an activation that is code": lambda place: make_layer(
        "Dense",
        units=3,
        activation={"class_name": "__lambda__", "config": {"value": [place.payload.to_marshal(), None, None]}},
    ),
    "an activation of the module os": lambda place: make_layer(
        "Dense",
        units=3,
        activation={"class_name": "function", "module": "os", "config": "system", "registered_name": "system"},
    ),
    "an initializer of the module subprocess": lambda place: make_layer(
        "Dense",
        units=3,
        kernel_initializer={
            "module": "subprocess",
            "class_name": "Popen",
            "config": {"args": ["touch", place.payload.path]},
        },
    ),
    "a class of the module os": lambda place: {**make_layer("system"), "module": "os", "registered_name": "os>system"},
    "a function that writes a file": lambda place: make_layer("TFOpLambda", function="io.write_file"),
    "a function that reads a file": lambda place: make_layer("TFOpLambda", function="io.read_file"),
    "a function that calls Python": lambda place: make_layer("TFOpLambda", function="numpy_function"),
    "a function that loads a library": lambda place: make_layer("SlicingOpLambda", function="load_op_library"),
    "a function with a way out of its module": lambda place: make_layer(
        "TFOpLambda", function="math.__builtins__.eval"
    ),
    "a vocabulary in any file": lambda place: make_layer("StringLookup", vocabulary=str(place.secret)),
    "words in any file": lambda place: make_layer("TextVectorization", vocabulary=str(place.secret)),
    "another model by its path": lambda place: make_layer("TFSMLayer", filepath=str(place.outside)),
    "a pickled module of PyTorch": lambda place: make_layer(
        "TorchModuleWrapper", module=pickle.dumps(place.payload).hex()
    ),
    "a layer of somebody's own": lambda place: {**make_layer("Own"), "registered_name": "people>Own"},
    "weights without end": lambda place: make_layer("Dense", units=2**40),
    "a layer that is text": lambda place: "Lambda",  # type: ignore[dict-item,return-value]
}


CASES.extend(
    Case("h5", name, lambda place, make=make: write(place.inside / "model.h5", describe(make(place), DENSE)))
    for name, make in LAYERS.items()
)


@CASES
def a_description_that_nests_without_end(place: Place) -> Path:
    layer: dict[str, Any] = DENSE
    for _ in range(200):
        layer = {"class_name": "Sequential", "config": {"name": "n", "layers": [layer]}}
    return write(place.inside / "model.h5", layer)


@CASES
def a_description_of_brackets(place: Place) -> Path:
    return write(place.inside / "model.h5", b"[" * 60_000)


@CASES
def layers_that_wait_for_each_other(place: Place) -> Path:
    def make(name: str, before: str) -> dict[str, Any]:
        return {**make_layer("Activation", activation="relu"), "name": name, "inbound_nodes": [[[before, 0, 0, {}]]]}

    layers = [{**INPUT, "name": "x", "inbound_nodes": []}, make("a", "b"), make("b", "a")]
    for layer in layers:
        layer["config"] = {**layer["config"], "name": layer["name"]}  # type: ignore[dict-item]
    config = {"name": "net", "layers": layers, "input_layers": [["x", 0, 0]], "output_layers": [["b", 0, 0]]}
    return write(place.inside / "model.h5", {"class_name": "Functional", "config": config})


def _make(place: Place, change: Callable[[h5py.File], Any]) -> Path:
    return write(place.inside / "model.h5", change=change)


@CASES.spoil(_make)
def a_link_to_another_file(file: h5py.File, place: Place) -> None:
    with h5py.File(place.inside / "other.h5", "w") as other:
        other["secret"] = np.ones(3, "f4")
    del file["model_weights/y/y/bias:0"]
    file["model_weights/y/y/bias:0"] = h5py.ExternalLink(str(place.inside / "other.h5"), "/secret")


@CASES.spoil(_make)
def numbers_kept_in_another_file(file: h5py.File, place: Place) -> None:
    del file["model_weights/y/y/bias:0"]
    file.create_dataset("model_weights/y/y/bias:0", (3,), "f4", external=[(str(place.secret), 0, 12)])


@CASES.spoil(_make)
def numbers_put_together_from_other_files(file: h5py.File, place: Place) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(str(place.secret), "x", (3,))
    file.create_virtual_dataset("model_weights/y/more", layout)


@CASES.spoil(_make)
def a_link_that_leads_to_itself(file: h5py.File, place: Place) -> None:
    file["model_weights/loop"] = h5py.SoftLink("/model_weights/loop")


@CASES.spoil(_make)
def a_group_that_holds_itself(file: h5py.File, place: Place) -> None:
    file["model_weights/y/up"] = file["model_weights"]


@CASES.spoil(_make)
def a_filter_that_has_to_be_loaded(file: h5py.File, place: Place) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4,))
    creation.set_filter(32_004, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"more", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), creation)


@CASES.spoil(_make)
def zeros_that_fill_the_memory(file: h5py.File, place: Place) -> None:
    file.create_dataset("more", (2**38,), "f4", chunks=(2**20,), compression="gzip")


@CASES.spoil(_make)
def pickles_in_place_of_numbers(file: h5py.File, place: Place) -> None:
    file.create_dataset("more", data=[np.void(pickle.dumps(place.payload))])


@CASES.spoil(_make)
def texts_in_place_of_numbers(file: h5py.File, place: Place) -> None:
    file.create_dataset("more", data=["a", "b"], dtype=h5py.string_dtype())


@CASES.spoil(_make)
def weights_named_from_the_root(file: h5py.File, place: Place) -> None:
    file["model_weights/y"].attrs["weight_names"] = [b"/model_weights/y/y/kernel:0", b"/model_weights/y/y/bias:0"]


@CASES.spoil(_make)
def weights_of_another_shape(file: h5py.File, place: Place) -> None:
    del file["model_weights/y/y/bias:0"]
    file["model_weights/y/y/bias:0"] = np.ones(30, "f4")


@CASES
def hdf5_behind_a_zip(place: Place) -> Path:
    path = write(place.inside / "plain.h5")
    (place.inside / "model.h5").write_bytes(b"PK\x03\x04".ljust(512, b"\0") + path.read_bytes())
    path.unlink()
    return place.inside / "model.h5"


@CASES
def a_file_that_was_cut(place: Place) -> Path:
    path = write(place.inside / "model.h5")
    path.write_bytes(path.read_bytes()[:900])
    return path
