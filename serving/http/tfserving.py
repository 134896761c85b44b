"""TensorFlow Serving's REST interface, for the clients that people have already."""

import re
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from flask import Blueprint, Response, request

from bmp.errors import NotFoundError, RequestError
from serving.answer import answer_json, answer_tensors, inputs_of, outputs_of
from serving.codec.json import Request, decode_rectangle
from serving.codec.raw import JSON
from serving.codec.tfserving import (
    INPUT_KEYS,
    SIGNATURE_NAME,
    decode_examples,
    decode_predict,
    describe_signature,
    encode_classes,
    encode_outputs,
    encode_values,
    fold_examples,
)
from serving.http.body import read_body
from serving.http.errors import install_error_handlers, to_plain_response
from serving.model import LoadedModel
from serving.service import Service
from serving.versions import VersionState

_MODEL = r"(?P<name>[^/:]+)(?:/versions/(?P<number>\d{1,18})|/labels/(?P<alias>[^/:]+))?"
_QUESTION = re.compile(_MODEL + ":(?P<verb>predict|classify|regress)", re.ASCII | re.IGNORECASE)
_PAGE = re.compile(_MODEL + "(?P<verb>/metadata)?", re.ASCII | re.IGNORECASE)
_FORMS = "POST /v1/models/NAME[/versions/NUMBER|/labels/ALIAS]:predict (:classify, :regress), or GET without it"


class _Target(NamedTuple):
    """What stands behind `/v1/models/`."""

    name: str
    number: int | None
    alias: str | None
    verb: str


def build_tfserving_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of everything below `/v1/models`; a label is an alias.

    A body is JSON, whatever its Content-Type says: clients of TensorFlow Serving often send none. `GET /v1/models`,
    which it does not have, lists the models as KServe does.
    """
    door = Blueprint("tfserving", __name__)
    install_error_handlers(door, to_plain_response)

    @door.get("/v1/models")
    def models() -> Response:
        return _json({"models": [model.name for model in service.models()]})

    @door.get("/v1/models/<path:text>")
    def describe(text: str) -> Response:
        target = _parse(_PAGE, text)
        if target.verb:
            return _json(_describe_model(_find_model(service, target)))
        return _json(_describe_states(_find_states(service, target)))

    @door.post("/v1/models/<path:text>")
    def ask(text: str) -> Response:
        target = _parse(_QUESTION, text)
        return _ANSWERS[target.verb](_find_model(service, target), read_body(max_body_bytes), max_body_bytes)

    @door.route("/v1/models/<path:text>", methods=["PUT", "PATCH", "DELETE"])
    def refuse(text: str) -> Response:
        raise _malformed(text)

    return door


def _parse(form: re.Pattern[str], text: str) -> _Target:
    match = form.fullmatch(text)
    if match is None:
        raise _malformed(text)
    number = None if match["number"] is None else int(match["number"])
    return _Target(match["name"], number, match["alias"], (match["verb"] or "").lower())


def _malformed(text: str) -> RequestError:
    asked = f"{request.method} /v1/models/{text[:80]}"
    return RequestError(f"Malformed request: {asked}. Expected {_FORMS}.", expected=_FORMS, received=asked)


def _predict(model: LoadedModel, body: bytes, max_bytes: int) -> Response:
    rectangle = decode_rectangle(body, model.asked, INPUT_KEYS)
    if rectangle is not None:
        return _respond(model, encode_outputs(answer_tensors(model, rectangle.arrays).outputs, rectangle.key))
    message = decode_predict(body, model.features, [spec.name for spec in model.signature.inputs])
    return _respond(model, encode_outputs(answer_json(model, message).outputs, message.key))


def _classify(model: LoadedModel, body: bytes, max_bytes: int) -> Response:
    if model.signature.objective == "regression" or not model.manifest.labels:
        raise _wrong_verb(model, "classify", "a model with labels")
    examples = replace(_read_examples(model, body, max_bytes), top_k=len(model.manifest.labels))
    ranked = answer_json(model, examples).top_k
    assert ranked is not None, "labels were asked for"
    return _respond(model, encode_classes(ranked))


def _regress(model: LoadedModel, body: bytes, max_bytes: int) -> Response:
    shapes = [spec.shape for spec in model.signature.outputs]
    if model.signature.objective != "regression" or shapes not in ([()], [(1,)]):
        raise _wrong_verb(model, "regress", "a model that answers one number for each example")
    (values,) = answer_json(model, _read_examples(model, body, max_bytes)).outputs.values()
    return _respond(model, encode_values(values.reshape(-1)))


_ANSWERS = {"predict": _predict, "classify": _classify, "regress": _regress}


def _read_examples(model: LoadedModel, body: bytes, max_bytes: int) -> Request:
    return fold_examples(decode_examples(body, max_bytes), {item.name: item.shape for item in inputs_of(model)})


def _wrong_verb(model: LoadedModel, verb: str, wanted: str) -> RequestError:
    received = f"a {model.signature.objective} model"
    return RequestError(
        f"Model '{model.name}' cannot {verb}, which takes {wanted}; ask it with :predict.",
        expected=wanted,
        received=received,
    )


def _find_model(service: Service, target: _Target) -> LoadedModel:
    """Returns the model; an error begins as TensorFlow Serving's does, for programs that look for its words."""
    name, number, alias, _ = target
    try:
        return service.get(name, number, alias)
    except NotFoundError as error:
        if alias is not None:
            missing = f"Unrecognized servable version label: {alias[:80]}"
        else:
            asked = f"Latest({name[:80]})" if number is None else f"Specific({name[:80]}, {number})"
            missing = f"Servable not found for request: {asked}"
        raise NotFoundError(f"{missing}. {error.message}", expected=error.expected, received=error.received) from error


def _find_states(service: Service, target: _Target) -> list[VersionState]:
    """Returns the state of every version, or of the one that is asked for; the newest first."""
    name, number, alias, _ = target
    try:
        states = service.versions(name)
    except NotFoundError as error:
        missing = f"Could not find any versions of model {name[:80]}. {error.message}"
        raise NotFoundError(missing, expected=error.expected, received=error.received) from error
    found = [state for state in states if number in (None, state.number) and (alias is None or alias in state.aliases)]
    if not found:
        asked = f"version {number}" if alias is None else f"version label {alias[:80]}"
        known = ", ".join(" ".join([str(state.number), *state.aliases]) for state in states)
        raise NotFoundError(
            f"Could not find {asked} of model {name[:80]}. There is {known}.", expected=known, received=asked
        )
    return sorted(found, key=lambda state: -state.number)


def _describe_states(states: list[VersionState]) -> dict[str, Any]:
    return {
        "model_version_status": [
            {
                "version": str(state.number),
                "state": state.state,
                "status": {
                    "error_code": "OK" if state.error is None else "UNKNOWN",
                    "error_message": state.error or "",
                },
            }
            for state in states
        ]
    }


def _describe_model(model: LoadedModel) -> dict[str, Any]:
    signature = describe_signature(inputs_of(model), outputs_of(model))
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE_NAME: signature}}},
    }


def _respond(model: LoadedModel, body: bytes) -> Response:
    return Response(body, mimetype=JSON, headers={"Bmp-Model": f"{model.name}/{model.version}"})


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), mimetype=JSON)
