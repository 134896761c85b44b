"""The Open Inference Protocol, version 2, as Triton, KServe and MLServer speak it, with tensors in JSON or as bytes."""

import re
from functools import partial
from typing import Any

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from bmp.errors import RequestError
from serving.answer import Answer, Question
from serving.codec.inference_v2 import HEADER_LENGTH, InferRequest, decode_infer, encode_infer, read_header_length
from serving.codec.inference_v2_heads import decode_usual
from serving.codec.json import kind_of, parse_object
from serving.codec.raw import JSON
from serving.http.call import Call, Encode, answer_call
from serving.http.errors import HttpError, install_error_handlers, write_plain_error
from serving.http.reply import Reply, reply_of
from serving.metrics.statistics import describe_statistics, find_versions
from serving.protocols.inference import ask, describe_model, describe_server, find_model, pick_outputs, read_whole_body
from serving.protocols.repository import list_versions
from serving.service import Service

_HEADER_LENGTH_KEY = f"HTTP_{HEADER_LENGTH.upper().replace('-', '_')}"
_INFER = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/infer")
_QUALITY = b'"quality"'
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def build_inference_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of everything below `/v2`.

    A version in a path is a number, or an alias of the registry. A body is JSON, or JSON with bytes behind it, whatever
    its Content-Type says: clients of this protocol often send none.
    """
    door = Blueprint("inference_v2", __name__)
    install_error_handlers(door, write_plain_error)

    @door.get("/v2/", strict_slashes=False)
    def server() -> Response:
        return _json(describe_server())

    @door.get("/v2/health/live")
    def live() -> Response:
        return _json({"live": True})

    @door.get("/v2/health/ready")
    def ready() -> Response:
        service.check_ready()
        return _json({"ready": True})

    @door.get("/v2/models/<name>")
    @door.get("/v2/models/<name>/versions/<version>")
    def metadata(name: str, version: str | None = None) -> Response:
        return _json(describe_model(service, find_model(service, name, version)))

    @door.get("/v2/models/<name>/ready")
    @door.get("/v2/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        return _json({"name": find_model(service, name, version, wake=False).name, "ready": True})

    @door.get("/v2/models/stats")
    @door.get("/v2/models/<name>/stats")
    @door.get("/v2/models/<name>/versions/<version>/stats")
    def statistics(name: str | None = None, version: str | None = None) -> Response:
        versions = find_versions(service, name)
        if name is not None and version is not None:
            versions = [(name, find_model(service, name, version, wake=False).version)]
        return _json({"model_stats": describe_statistics(versions)})

    @door.post("/v2/models/<name>/infer")
    @door.post("/v2/models/<name>/versions/<version>/infer")
    def infer(name: str, version: str | None = None) -> Response:
        return answer_call(partial(read_infer, service, name, version), max_body_bytes)

    @door.post("/v2/repository/index")
    def index() -> Response:
        return _json(list_versions(service, _wants_ready(_read(Call(request.environ, max_body_bytes)))))

    @door.post("/v2/repository/models/<name>/load")
    def load(name: str) -> Response:
        service.order_load(name)
        return _json({})

    @door.post("/v2/repository/models/<name>/unload")
    def unload(name: str) -> Response:
        service.order_unload(name)
        return _json({})

    @door.route("/v2/", methods=_METHODS[1:], defaults={"target": ""}, strict_slashes=False)
    @door.route("/v2/<path:target>", methods=_METHODS)
    def nothing(target: str) -> Response:
        """Answers for what has no route, in the shape of this protocol."""
        adapter = current_app.create_url_adapter(request)
        assert adapter is not None, "there is a request"
        ours = f"{door.name}.{nothing.__name__}"
        allowed = [method for method in ("GET", "POST") if adapter.match(method=method)[0] != ours]
        raise MethodNotAllowed(allowed) if allowed else NotFound()

    return door


def find_infer(path: str) -> tuple[str, str | None] | None:
    """Returns the name and the version that a path of `…/infer` says, if it is one."""
    match = _INFER.fullmatch(path)
    return None if match is None else (match["name"], match["version"])


def read_infer(service: Service, name: str, version: str | None, call: Call) -> tuple[Question, Encode]:
    """Reads a call of `…/infer`.

    Raises:
        BmpError: It cannot be answered.
    """
    body = _read(call)
    header_length = read_header_length(call.environ.get(_HEADER_LENGTH_KEY), body)
    if _may_say_quality(body, header_length):  # the model is not known before its parameters are
        message = _decode(body, header_length)
        model = call.use(find_model(service, name, version, message.quality))
    else:
        model = call.use(find_model(service, name, version))
        message = _decode(body, header_length) if header_length or not body else read_whole_body(model, body)
    return ask(model, message), partial(_encode, InferRequest((), *message[1:]))  # what waits holds the numbers once


def _decode(body: bytes, header_length: int) -> InferRequest:
    return decode_usual(body, header_length) or decode_infer(body, header_length)


def _may_say_quality(body: bytes, length: int) -> bool:
    """Tells whether the word is in the JSON of a body; one character is looked for much faster than all of them."""
    return body.find(b"q", 0, length) >= 0 and body.find(_QUALITY, 0, length) >= 0


def _read(call: Call) -> bytes:
    """Returns the body.

    Raises:
        HttpError: It is too long, or compressed.
    """
    coding = call.environ.get("HTTP_CONTENT_ENCODING", "identity")
    if coding.lower() != "identity":
        raise HttpError(
            415,
            "unsupported_media_type",
            f"The body came compressed ({coding[:80]}); send it as it is.",
            expected="no Content-Encoding",
            received=coding[:80],
        )
    return call.read_body()


def _encode(message: InferRequest, answer: Answer) -> Reply:
    model = answer.model
    body, json_length = encode_infer(model.name, model.version, pick_outputs(answer, message), message.id)
    if json_length is None:
        return reply_of(model, body, quality=message.quality)
    kind, length = "application/octet-stream", (HEADER_LENGTH, str(json_length))
    return reply_of(model, body, kind, length, quality=message.quality)


def _wants_ready(body: bytes) -> bool:
    """Reads `{"ready": true}`, the request for what is ready alone; an empty body asks for everything."""
    ready = parse_object(body, '{"ready": true}').get("ready", False) if body else False
    if type(ready) is not bool:
        raise RequestError(
            f"'ready' is {kind_of(ready)}; expected true or false.", expected="true or false", received=kind_of(ready)
        )
    return ready


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), mimetype=JSON)
