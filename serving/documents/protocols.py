"""Paths of the protocols of others: TensorFlow Serving's REST interface, and the Open Inference Protocol."""

from collections.abc import Mapping
from typing import Any

from serving.codec.raw import JSON
from serving.documents.examples import Example, has_labels, is_number
from serving.documents.parts import INFERENCE, QUALITY, TFSERVING, make_get, make_order, make_prediction, show_example
from serving.documents.schemas import (
    Schema,
    describe_answer,
    describe_flat_examples,
    describe_input_tensors,
    describe_output_tensors,
    describe_rows,
    list_of,
    object_of,
)
from serving.models.description import Description

_BINARY = "application/octet-stream"
_TEXT: Schema = {"type": "string"}
_ANY: Schema = {"type": "object"}
_CLASSES = list_of(list_of({"type": "array", "items": {"type": ["string", "number"]}, "minItems": 2, "maxItems": 2}))


def describe_tfserving(model: Description, path: str, identity: str, examples: Mapping[str, Example]) -> dict[str, Any]:
    """Returns the paths of TensorFlow Serving's interface to a model, or to a version of it.

    Args:
        model: It.
        path: What they begin with.
        identity: What the names of the operations begin with.
        examples: By door.
    """
    rows = describe_rows(model)
    instances = object_of({"instances": rows, "signature_name": {"enum": ["", "serving_default"]}}, ["instances"])
    flat = object_of({"examples": describe_flat_examples(model)})
    predictions = object_of({"predictions": describe_answer(model, by_row=True)})
    verbs = [("predict", "tfserving", {**instances, "additionalProperties": True}, predictions)]
    if has_labels(model):
        verbs.append(("classify", "classify", flat, object_of({"results": _CLASSES})))
    if is_number(model):
        verbs.append(("regress", "regress", flat, object_of({"results": list_of({"type": "number"})})))
    paths = {
        path: make_get(TFSERVING, f"{identity}.status", f"State of {model.name}", _ANY, statuses=(404, 503)),
        f"{path}/metadata": make_get(
            TFSERVING, f"{identity}.metadata", f"Signature of {model.name}", _ANY, statuses=(404, 503)
        ),
    }
    for verb, door, body, answer in verbs:
        content = {JSON: {"schema": body, **_show(examples.get(door), model)}}
        paths[f"{path}:{verb}"] = make_prediction(
            TFSERVING,
            f"{identity}.{verb}",
            f"{verb.title()} with {model.name}",
            content,
            {JSON: {"schema": answer}},
            parameters=(QUALITY,),
        )
    return paths


def describe_inference(model: Description, path: str, identity: str, examples: Mapping[str, Example]) -> dict[str, Any]:
    """Returns the paths of the Open Inference Protocol to a model, or to a version of it; see `describe_tfserving`."""
    name, tag = model.name, INFERENCE
    body = object_of(
        {
            "id": _TEXT,
            "inputs": describe_input_tensors(model),
            "outputs": {"type": "array", "items": _describe_wanted(model)},
            "parameters": {"type": "object", "properties": {"quality": QUALITY["schema"]}},
        },
        ["inputs"],
    )
    answer = object_of(
        {
            "model_name": {"const": name},
            "model_version": _TEXT,
            "id": _TEXT,
            "outputs": describe_output_tensors(model),
        },
        ["model_name", "model_version", "outputs"],
    )
    content = {JSON: {"schema": body, **_show(examples.get("inference_v2"), model)}, _BINARY: {"schema": {}}}
    answers = {JSON: {"schema": answer}, _BINARY: {"schema": {}}}
    statistics = object_of({"model_stats": {"type": "array", "items": _ANY}})
    ready = object_of({"name": _TEXT, "ready": {"type": "boolean"}})
    return {
        path: make_get(tag, f"{identity}.v2", f"Metadata of {name}", _ANY, statuses=(404, 503)),
        f"{path}/ready": make_get(tag, f"{identity}.ready", f"Is {name} ready?", ready, statuses=(404, 503)),
        f"{path}/stats": make_get(tag, f"{identity}.stats", f"Statistics of {name}", statistics, statuses=(404, 503)),
        f"{path}/infer": make_prediction(tag, f"{identity}.infer", f"Ask {name}", content, answers, statuses=(415,)),
    }


def describe_orders(name: str) -> dict[str, Any]:
    """Returns how a model is loaded and unloaded by hand, where the operator allows it."""
    path = f"/v2/repository/models/{name}"
    return {
        f"{path}/{verb}": make_order(
            INFERENCE, f"{name}.{verb}", f"{verb.title()} {name}", _ANY, statuses=(400, 403, 404, 503)
        )
        for verb in ("load", "unload")
    }


def _describe_wanted(model: Description) -> Schema:
    """Returns the schema of an output that a request names."""
    parameters: Schema = {"binary_data": {"type": "boolean"}}
    if has_labels(model) and len(model.signature.outputs) == 1:
        parameters["classification"] = {"type": "integer", "minimum": 1, "maximum": len(model.manifest.labels)}
    names = [spec.name for spec in model.signature.outputs]
    return object_of({"name": {"enum": names}, "parameters": object_of(parameters, [])}, ["name"])


def _show(example: Example | None, model: Description) -> dict[str, Any]:
    return {} if example is None else {"examples": {model.name: show_example(example, model.name)}}
