"""Hostile files of weights: safetensors, skops and pickles, by whatever name they come."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.hostile.case import Case, Cases, Place

TORCH, SKLEARN, PICKLES = Cases("torch"), Cases("sklearn"), Cases("pickle")

# === safetensors ===


def write_safetensors(path: Path, header: Any, numbers: bytes = bytes(64), length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + numbers)
    return path


HEADERS: dict[str, Any] = {
    "a header without an end": {"length": 2**63 - 1},
    "a header that is longer than the file": {"length": 10_000},
    "a header of brackets": {"header": b'{"a":' + b"[" * 90_000},
    "a header that is no JSON": {"header": b'{"a'},
    "numbers beyond the file": {"header": {"fc.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 2**40]}}},
    "numbers that end before they begin": {
        "header": {"fc.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [64, 0]}}
    },
    "numbers that lie twice in one place": {
        "header": {
            name: {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} for name in ("fc.weight", "fc2.weight")
        }
    },
    "a size that fills the memory": {
        "header": {"fc.weight": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 64]}}
    },
    "a size below zero": {"header": {"fc.weight": {"dtype": "F32", "shape": [-4, -4], "data_offsets": [0, 64]}}},
    "a type that there is not": {
        "header": {"fc.weight": {"dtype": "PICKLE", "shape": [4, 4], "data_offsets": [0, 64]}}
    },
    "weights of no network": {"header": {"../../evil": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}},
}


_SOUND = {"fc.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]}}
TORCH.extend(
    Case(
        "torch",
        name,
        lambda place, given=given: write_safetensors(place.inside / "model.safetensors", **{"header": _SOUND, **given}),
    )
    for name, given in HEADERS.items()
)

# === skops ===


def write_skops(path: Path, schema: Any, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", schema if isinstance(schema, str) else json.dumps(schema))
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def _node(module: str, kind: str, loader: str, **more: Any) -> dict[str, Any]:
    return {
        "__class__": kind,
        "__module__": module,
        "__loader__": loader,
        "__id__": 1,
        "protocol": 2,
        "_skops_version": "0.14",
        **more,
    }


def _text(value: str) -> dict[str, Any]:
    return _node("builtins", "str", "JsonNode", content=json.dumps(value), is_json=True)


SCHEMAS: dict[str, Callable[[Place], Any]] = {
    "an object of the module os": lambda place: _node("os", "system", "ObjectNode", content=_text("touch")),
    "a function of the builtins": lambda place: _node("builtins", "eval", "FunctionNode", content="eval"),
    "a type of the module subprocess": lambda place: _node("subprocess", "Popen", "TypeNode"),
    "a call that is kept for later": lambda place: _node(
        "functools",
        "partial",
        "PartialNode",
        content={
            "func": _node("os", "system", "FunctionNode", content="system"),
            "args": _text(f"touch {place.canary}"),
            "kwds": _text(""),
            "namespace": _text(""),
        },
    ),
    "a method that is kept for later": lambda place: _node(
        "operator", "methodcaller", "OperatorFuncNode", attrs=_text("system")
    ),
    "an object that is rebuilt by reduce": lambda place: _node("builtins", "open", "ReduceNode", content={}, reduce={}),
    "a loader that there is not": lambda place: _node(
        "sklearn.linear_model", "Ridge", "PickleNode", content=pickle.dumps(place.payload).hex()
    ),
    "a schema of brackets": lambda place: "[" * 50_000,
    "a schema that is a number": lambda place: "7",
}


SKLEARN.extend(
    Case("sklearn", name, lambda place, make=make: write_skops(place.inside / "model.skops", make(place)))
    for name, make in SCHEMAS.items()
)


@SKLEARN
def pickled_arrays_in_an_archive(place: Place) -> Path:
    content = io.BytesIO()
    np.save(content, np.array([place.payload], object))
    schema = _node("numpy", "ndarray", "NdArrayNode", type="numpy", file="1.npy")
    return write_skops(place.inside / "model.skops", schema, **{"1__npy": content.getvalue()})


@SKLEARN
def a_member_that_climbs(place: Place) -> Path:
    path = write_skops(place.inside / "model.skops", _text("x"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside/canary", "x")
    return path


@SKLEARN
def zeros_that_fill_the_memory(place: Place) -> Path:
    return write_skops(place.inside / "model.skops", _text("x"), **{"1__npy": bytes(2**28)})


# === Pickles ===


@PICKLES
def a_plain_pickle(place: Place) -> Path:
    return _write(place, "model.pkl", pickle.dumps(place.payload))


@PICKLES
def a_pickle_of_protocol_0(place: Place) -> Path:
    return _write(place, "model.pickle", pickle.dumps(place.payload, protocol=0))


@PICKLES
def a_pickle_of_joblib(place: Place) -> Path:
    return _write(place, "model.joblib", pickle.dumps(place.payload))


@PICKLES
def a_checkpoint_of_PyTorch(place: Place) -> Path:
    with zipfile.ZipFile(place.inside / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(place.payload))
        archive.writestr("model/version", "3")
    return place.inside / "model.pt"


@PICKLES
def an_old_checkpoint_of_PyTorch(place: Place) -> Path:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C)
    return _write(place, "model.pth", magic + pickle.dumps(1001) + pickle.dumps(place.payload))


@PICKLES
def a_pickle_named_safetensors(place: Place) -> Path:
    return _write(place, "model.safetensors", pickle.dumps(place.payload))


@PICKLES
def a_pickle_named_skops(place: Place) -> Path:
    return _write(place, "model.skops", pickle.dumps(place.payload))


@PICKLES
def a_pickle_named_keras(place: Place) -> Path:
    return _write(place, "model.keras", pickle.dumps(place.payload))


@PICKLES
def a_pickle_named_h5(place: Place) -> Path:
    return _write(place, "model.h5", pickle.dumps(place.payload))


@PICKLES
def a_checkpoint_of_PyTorch_named_skops(place: Place) -> Path:
    with zipfile.ZipFile(place.inside / "model.skops", "w") as archive:
        archive.writestr("schema.json", "{}")
        archive.writestr("data.pkl", pickle.dumps(place.payload))
    return place.inside / "model.skops"


@PICKLES
def a_program(place: Place) -> Path:
    return _write(place, "model.py", f"open({str(place.canary)!r}, 'w')\n".encode())


@PICKLES
def a_directory_of_programs(place: Place) -> Path:
    (place.inside / "model").mkdir()
    (place.inside / "model" / "__init__.py").write_text(f"open({str(place.canary)!r}, 'w')\n")
    return place.inside / "model"


def _write(place: Place, name: str, content: bytes) -> Path:
    (place.inside / name).write_bytes(content)
    return place.inside / name
