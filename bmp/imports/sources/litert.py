"""`.tflite` files: served as they are; a signature is written into those that have none.

A file whose number of examples is fixed at one is run once for each.
"""

import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bmp.artifact.litert import SIGNATURE_KEY, read_codes
from bmp.errors import ArtifactError
from bmp.imports.original import Options, Original
from bmp.imports.sources.keras2 import to_spec
from bmp.signature import Arrays, Signature, TensorSpec

_NO_GRAPH = "A .tflite file cannot be turned back into what {} holds."


def check_litert_source(path: Path) -> None:
    """Checks that every offset in the file stays inside it, and that it calls no operation from outside."""
    from bmp.artifact.guard import check_litert

    check_litert(path)


def read_litert_source(path: Path, options: Options) -> Original:
    """Reads the file.

    Raises:
        ArtifactError: It has tensors that cannot be served, or several signatures to choose from.
    """
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()
    try:
        interpreter = Interpreter(model_content=content)
    except ValueError as error:
        raise ArtifactError(f"{path} is no LiteRT model that can be run: {error}") from error
    key = _pick_signature(interpreter.get_signature_list(), path)
    inputs, outputs = _name_tensors(interpreter, key)
    signature = Signature(
        tuple(_to_spec("input", name, detail, path) for name, detail in inputs.items()),
        tuple(_to_spec("output", name, detail, path) for name, detail in outputs.items()),
        "regression",
    )
    indices = [{name: int(detail["index"]) for name, detail in details.items()} for details in (inputs, outputs)]
    served = content if key == SIGNATURE_KEY else _sign(content, key, *indices)
    return Original(
        engine=f"ai-edge-litert {version('ai-edge-litert')}",
        signature=signature,
        run=lambda arrays: _run(interpreter, signature, inputs, outputs, arrays),
        writers={"litert": lambda _, target: _write(target, served)},
        left_out={form: _NO_GRAPH.format(form) for form in ("saved_model", "h5")},
    )


def _write(target: Path, content: bytes) -> None:
    target.write_bytes(content)


def _pick_signature(signatures: Mapping[str, Any], path: Path) -> str | None:
    """Returns the key of the signature to serve; None where the file has none."""
    if not signatures:
        return None
    if SIGNATURE_KEY in signatures:
        return SIGNATURE_KEY
    if len(signatures) > 1:
        found = ", ".join(signatures)
        raise ArtifactError(
            f"{path} has the signatures {found}, and none is called '{SIGNATURE_KEY}'; convert it with that one alone.",
            expected=SIGNATURE_KEY,
            received=found,
        )
    return next(iter(signatures))


def _name_tensors(interpreter: Any, key: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the tensors that go in and come out, by the names of the signature, or those that they have."""
    if key is not None:
        runner = interpreter.get_signature_runner(key)
        return dict(runner.get_input_details()), dict(runner.get_output_details())
    return _by_own_name(interpreter.get_input_details()), _by_own_name(interpreter.get_output_details())


def _by_own_name(details: list[Any]) -> dict[str, Any]:
    """Returns tensors by their names, without what converters put around them: `serving_default_x:0` is `x`."""
    named: dict[str, Any] = {}
    for number, detail in enumerate(details):
        name = re.sub(r"^serving_default_|:\d+$", "", detail["name"]) or f"tensor_{number}"
        named[name if name not in named else f"{name}_{number}"] = detail
    return named


def _to_spec(kind: str, name: str, detail: Mapping[str, Any], path: Path) -> TensorSpec:
    """Returns the specification of a tensor; codes of int8 with a scale are the floats that they stand for."""
    shape = [None if size < 0 else int(size) for size in detail["shape_signature"]]
    if shape and shape[0] == 1:
        shape[0] = None  # run one by one
    is_code = detail["dtype"] is np.int8 and detail["quantization"][0] > 0
    return to_spec(kind, name, np.dtype(np.float32 if is_code else detail["dtype"]), shape, path)


def _run(
    interpreter: Any,
    signature: Signature,
    inputs: Mapping[str, Mapping[str, Any]],
    outputs: Mapping[str, Mapping[str, Any]],
    arrays: Arrays,
) -> Arrays:
    """Runs the file itself, one example at a time."""
    into, out = read_codes(inputs, signature.inputs), read_codes(outputs, signature.outputs)
    coded = {name: into[name].encode(array) if name in into else array for name, array in arrays.items()}
    for name, detail in inputs.items():
        interpreter.resize_tensor_input(detail["index"], (1, *coded[name].shape[1:]))
    interpreter.allocate_tensors()
    answers: dict[str, list[np.ndarray]] = {name: [] for name in outputs}
    for row in range(len(next(iter(coded.values())))):
        for name, detail in inputs.items():
            interpreter.set_tensor(detail["index"], coded[name][row : row + 1])
        interpreter.invoke()
        for name, detail in outputs.items():
            answers[name].append(interpreter.get_tensor(detail["index"]))
    joined = {name: np.concatenate(rows) for name, rows in answers.items()}
    return {name: out[name].decode(array) if name in out else array for name, array in joined.items()}


def _sign(content: bytes, key: str | None, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
    """Returns the file with the signature that bmp serves: its own under that name, or one for its main graph."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    if key is not None:
        for signature in model.signatureDefs:
            signature.signatureKey = SIGNATURE_KEY
    else:
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE_KEY, 0
        signature.inputs, signature.outputs = (_map(schema, tensors) for tensors in (inputs, outputs))
        model.signatureDefs = [signature]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _map(schema: Any, tensors: dict[str, int]) -> list[Any]:
    entries = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        entries.append(entry)
    return entries
