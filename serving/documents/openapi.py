"""The OpenAPI document of a server, made from the signatures of the models that it serves."""

from collections.abc import Mapping
from typing import Any

from bmp import __version__
from serving.codec.raw import JSON
from serving.documents.examples import Example, has_labels, list_examples
from serving.documents.parts import (
    BMP,
    INFERENCE,
    QUALITY,
    SERVER,
    TFSERVING,
    make_components,
    make_get,
    make_order,
    make_prediction,
    make_query,
    show_example,
)
from serving.documents.protocols import describe_inference, describe_orders, describe_tfserving
from serving.documents.schemas import (
    Schema,
    describe_answer,
    describe_rows,
    list_of,
    object_of,
)
from serving.models.description import Description
from serving.service import Service

_DESCRIPTION = (
    "Every model answers through three protocols: bmp's own, TensorFlow Serving's REST interface, and the Open "
    "Inference Protocol, version 2. /docs shows the same for people, with commands to paste."
)
_TEXT: Schema = {"type": "string"}
_ANY: Schema = {"type": "object"}
_RANKED = list_of(
    list_of(object_of({"label": _TEXT, "probability": {"type": "number"}})),
)


def describe_api(service: Service) -> dict[str, Any]:
    """Returns the document in JSON's types, of all that is served: also of what is not in memory now.

    A path without a version is for the default one; each version that is served has paths of its own as well.
    """
    lineups, named = service.lineups(), service.sole_name() is None
    served = [lineup for lineup in lineups if lineup.default is not None]
    models = [lineup.describe() for lineup in served]
    paths = {**_describe_server(), **(_describe_predict(models, named=named) if models else {})}
    for lineup, model in zip(served, models, strict=True):
        examples = {example.door: example for example in list_examples(model, named=named)}
        paths |= _describe_model(model, "", examples)
        for number, version in sorted(lineup.served.items()):
            shown = examples if number == lineup.default else {}
            paths |= _describe_model(version.description, f"/versions/{number}", shown)
    for lineup in lineups:
        paths |= describe_orders(lineup.name)
    return {
        "openapi": "3.1.0",
        "info": {"title": "bmp", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in (BMP, TFSERVING, INFERENCE, SERVER)],
        "paths": paths,
        "components": make_components(),
    }


# === What models answer ===


def _describe_predict(models: list[Description], *, named: bool) -> dict[str, Any]:
    """Returns bmp's own door, which is one for all models."""
    bodies = [_describe_predict_body(model, named=named) for model in models]
    answers = [_describe_prediction(model) for model in models]
    examples = {model.name: show_example(list_examples(model, named=named)[0], model.name) for model in models}
    content: dict[str, Any] = {JSON: {"schema": _one_of(bodies), "examples": examples}}
    for media_type in dict.fromkeys(kind for model in models for kind in model.content_types):
        content.setdefault(media_type, {"schema": _TEXT if media_type.startswith("text/") else {}})
    parameters = [
        make_query("model", "Which model; needed where several are served.", {"enum": [each.name for each in models]}),
        make_query("version", "Its version; without it the default one.", {"type": "integer", "minimum": 1}),
        make_query("alias", "What names the version, in place of its number.", _TEXT),
        QUALITY,
        make_query("top_k", "How many of the likeliest labels are wanted.", {"type": "integer", "minimum": 1}),
    ]
    answer = {JSON: {"schema": _any_of(answers)}}
    summary = "Ask a model"
    return {
        "/predict": make_prediction(BMP, "predict", summary, content, answer, parameters=parameters, statuses=(415,))
    }


def _describe_predict_body(model: Description, *, named: bool) -> Schema:
    rows = describe_rows(model)
    properties = {
        "x_test": {**rows, "description": "The examples."},
        "instances": {**rows, "description": "The same under another name; expected is one of them."},
        "model": {"const": model.name},
        "version": {"type": "integer", "minimum": 1},
        "alias": _TEXT,
        "quality": QUALITY["schema"],
    }
    if has_labels(model):
        properties["top_k"] = {"type": "integer", "minimum": 1, "maximum": len(model.manifest.labels)}
    body = object_of(properties, ["model"] if named else [])
    return {**body, "oneOf": [{"required": ["x_test"]}, {"required": ["instances"]}]}


def _describe_prediction(model: Description) -> Schema:
    return object_of({"prediction": describe_answer(model), "top_k": _RANKED}, ["prediction"])


def _describe_model(model: Description, version: str, examples: Mapping[str, Example]) -> dict[str, Any]:
    """Returns what is below the path of a model, or of one of its versions.

    Args:
        model: It.
        version: What a path has for it.
        examples: By door; those of a version that is not the default would ask another one.
    """
    identity = f"{model.name}{version.replace('/versions/', '.')}"
    return {
        **describe_tfserving(model, f"/v1/models/{model.name}{version}", identity, examples),
        **describe_inference(model, f"/v2/models/{model.name}{version}", identity, examples),
    }


# === What the server tells of itself ===


def _describe_server() -> dict[str, Any]:
    yes = {"const": True}
    return {
        "/health": make_get(SERVER, "health", "Is the server alive?", object_of({"alive": yes})),
        "/ready": make_get(
            SERVER,
            "ready",
            "Can it answer?",
            object_of({"ready": yes, "models": {"type": "array", "items": _TEXT}}),
            statuses=(503,),
        ),
        "/models": make_get(
            SERVER,
            "models",
            "What is served",
            object_of({"models": {"type": "array", "items": _ANY}, "unloaded": _ANY, "failed": _ANY}),
            statuses=(503,),
        ),
        "/metrics": make_get(SERVER, "metrics", "What Prometheus reads", _TEXT, media_type="text/plain"),
        "/openapi.json": make_get(SERVER, "openapi", "This document", _ANY),
        "/docs": make_get(SERVER, "docs", "The same for people", _TEXT, media_type="text/html"),
        "/v1/models": make_get(
            TFSERVING, "v1.models", "What is served", object_of({"models": {"type": "array", "items": _TEXT}})
        ),
        "/v2": make_get(INFERENCE, "v2", "What the server can do", _ANY),
        "/v2/health/live": make_get(INFERENCE, "v2.live", "Is the server alive?", object_of({"live": yes})),
        "/v2/health/ready": make_get(
            INFERENCE, "v2.ready", "Can it answer?", object_of({"ready": yes}), statuses=(503,)
        ),
        "/v2/repository/index": make_order(
            INFERENCE, "v2.index", "State of all versions", {"type": "array", "items": _ANY}
        ),
        "/v2/models/stats": make_get(
            INFERENCE, "v2.stats", "Statistics of all models", object_of({"model_stats": {"type": "array"}})
        ),
    }


# === Parts ===


def _one_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _any_of(schemas: list[Schema]) -> Schema:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
