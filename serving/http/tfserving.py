"""TensorFlow Serving's REST interface, for the clients that people have already."""

import re
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, request

from bmp.errors import RequestError
from serving.answer import Answer, Question, ask_json, ask_tensors
from serving.codec.json import decode_rectangle
from serving.codec.query import read_quality
from serving.codec.raw import JSON
from serving.codec.tfserving import (
    INPUT_KEYS,
    decode_examples,
    decode_predict,
    encode_classes,
    encode_outputs,
    encode_values,
)
from serving.http.body import read_body
from serving.http.call import Call, Encode, answer_call
from serving.http.errors import install_error_handlers, write_plain_error
from serving.http.metrics import note_model
from serving.http.reply import Reply, reply_of, to_response
from serving.models.model import LoadedModel
from serving.protocols.tfserving import (
    Target,
    ask_classes,
    ask_values,
    classes_of,
    describe_signatures,
    describe_states,
    find_model,
    find_states,
    values_of,
)
from serving.service import Service

_MODEL = r"(?P<name>[^/:]+)(?:/versions/(?P<number>\d{1,18})|/labels/(?P<alias>[^/:]+))?"
_QUESTION = re.compile(_MODEL + ":(?P<verb>predict|classify|regress)", re.ASCII | re.IGNORECASE)
_PAGE = re.compile(_MODEL + "(?P<verb>/metadata)?", re.ASCII | re.IGNORECASE)
_FORMS = "POST /v1/models/NAME[/versions/NUMBER|/labels/ALIAS]:predict (:classify, :regress), or GET without it"


def build_tfserving_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of everything below `/v1/models`; a label is an alias.

    A body is JSON, whatever its Content-Type says: clients of TensorFlow Serving often send none. It has no word for
    variants: `?quality=…` behind the path chooses one, as at `/predict`. `GET /v1/models`, which it does not have,
    lists the models as KServe does.
    """
    door = Blueprint("tfserving", __name__)
    install_error_handlers(door, write_plain_error)

    @door.get("/v1/models")
    def models() -> Response:
        return _json({"models": service.names()})

    @door.get("/v1/models/<path:text>")
    def describe(text: str) -> Response:
        target, verb = _parse(_PAGE, text)
        if verb:
            return _json(_describe_model(find_model(service, target)))
        return _json(describe_states(find_states(service, target)))

    @door.post("/v1/models/<path:text>")
    def ask(text: str) -> Response:
        target, verb = _parse(_QUESTION, text)
        if verb == "predict":
            return answer_call(partial(read_predict, service, target), max_body_bytes)
        quality = read_quality(request.environ.get("QUERY_STRING", ""))
        model = note_model(find_model(service, target, quality))
        body = _ANSWERS[verb](model, read_body(request.environ, max_body_bytes), max_body_bytes)
        return to_response(reply_of(model, body, quality=quality))

    @door.route("/v1/models/<path:text>", methods=["PUT", "PATCH", "DELETE"])
    def refuse(text: str) -> Response:
        raise _malformed(text)

    return door


def _parse(form: re.Pattern[str], text: str) -> tuple[Target, str]:
    """Returns what a path is for, and the verb at its end."""
    match = form.fullmatch(text)
    if match is None:
        raise _malformed(text)
    return _target(match), (match["verb"] or "").lower()


def _target(match: re.Match[str]) -> Target:
    number = None if match["number"] is None else int(match["number"])
    return Target(match["name"], number, match["alias"])


def _malformed(text: str) -> RequestError:
    asked = f"{request.method} /v1/models/{text[:80]}"
    return RequestError(f"Malformed request: {asked}. Expected {_FORMS}.", expected=_FORMS, received=asked)


def find_predict(text: str) -> Target | None:
    """Returns what a path is for, without its `/v1/models/`, if it is one of `:predict`."""
    match = _QUESTION.fullmatch(text)
    return _target(match) if match and match["verb"].lower() == "predict" else None


def read_predict(service: Service, target: Target, call: Call) -> tuple[Question, Encode]:
    """Reads a call of `:predict`.

    Raises:
        BmpError: It cannot be answered.
    """
    quality = read_quality(call.environ.get("QUERY_STRING", ""))
    model = call.use(find_model(service, target, quality))
    body = call.read_body()
    rectangle = decode_rectangle(body, model.asked, INPUT_KEYS)
    if rectangle is not None:
        return ask_tensors(model, rectangle.arrays), partial(_encode, rectangle.key, quality)
    names = [spec.name for spec in model.signature.inputs]
    message = decode_predict(body, model.features, names, partial(model.check_count, raw=True))
    return ask_json(model, message), partial(_encode, message.key, quality)


def _encode(key: str, quality: str | None, answer: Answer) -> Reply:
    return reply_of(answer.model, encode_outputs(answer.outputs, key), quality=quality)


def _classify(model: LoadedModel, body: bytes, max_bytes: int) -> bytes:
    return encode_classes(classes_of(ask_classes(model, _read_examples(model, body, max_bytes)).answer()))


def _regress(model: LoadedModel, body: bytes, max_bytes: int) -> bytes:
    return encode_values(values_of(ask_values(model, _read_examples(model, body, max_bytes)).answer()))


def _read_examples(model: LoadedModel, body: bytes, max_bytes: int) -> list[dict[str, Any]]:
    return decode_examples(body, max_bytes, partial(model.check_count, raw=model.features is not None))


_ANSWERS = {"classify": _classify, "regress": _regress}


def _describe_model(model: LoadedModel) -> dict[str, Any]:
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": describe_signatures(model)},
    }


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), mimetype=JSON)
