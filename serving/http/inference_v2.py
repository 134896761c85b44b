"""The Open Inference Protocol, version 2, as Triton, KServe and MLServer speak it, with tensors in JSON or as bytes."""

import re
from typing import Any

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import MethodNotAllowed, NotFound

from bmp import __version__
from bmp.errors import BmpError, NotReadyError, RequestError
from serving.codec.inference_v2 import HEADER_LENGTH, decode_infer, encode_infer, read_header_length
from serving.codec.json import kind_of, parse_object
from serving.codec.raw import JSON
from serving.http.body import read_body
from serving.http.errors import HttpError, install_error_handlers, to_plain_response
from serving.inference import describe_model, infer, read_whole_body
from serving.model import LoadedModel
from serving.service import Service, VersionState

_EXTENSIONS = ("binary_tensor_data", "classification", "model_repository")
_STATES = {
    "START": "LOADING",
    "LOADING": "LOADING",
    "AVAILABLE": "READY",
    "UNLOADING": "UNLOADING",
    "END": "UNAVAILABLE",
}
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def build_inference_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of everything below `/v2`.

    A version in a path is a number, or an alias of the registry. A body is JSON, or JSON with bytes behind it, whatever
    its Content-Type says: clients of this protocol often send none.
    """
    door = Blueprint("inference_v2", __name__)
    install_error_handlers(door, to_plain_response)

    @door.get("/v2/", strict_slashes=False)
    def server() -> Response:
        return _json({"name": "bmp", "version": __version__, "extensions": _EXTENSIONS})

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
        model = _find(service, name, version)
        described = describe_model(model)
        available = [str(state.number) for state in service.versions(model.name) if state.state == "AVAILABLE"]
        return _json({"name": described.pop("name"), "versions": available, **described})

    @door.get("/v2/models/<name>/ready")
    @door.get("/v2/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str | None = None) -> Response:
        return _json({"name": _find(service, name, version).name, "ready": True})

    @door.post("/v2/models/<name>/infer")
    @door.post("/v2/models/<name>/versions/<version>/infer")
    def ask(name: str, version: str | None = None) -> Response:
        return _answer(_find(service, name, version), _read(max_body_bytes))

    @door.post("/v2/repository/index")
    def index() -> Response:
        return _json(_list_versions(service, _wants_ready(_read(max_body_bytes))))

    @door.post("/v2/repository/models/<name>/load")
    @door.post("/v2/repository/models/<name>/unload")
    def refuse_to_load(name: str) -> Response:
        raise HttpError(
            403,
            "forbidden",
            "This server loads and unloads by itself, as the registry says: publish a version or move an alias "
            f"(bmp models promote {name[:80]} NUMBER).",
            expected="a change of the registry",
            received="load or unload",
        )

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


def _find(service: Service, name: str, version: str | None) -> LoadedModel:
    if version is None:
        return service.get(name)
    if _NUMBER.fullmatch(version):
        return service.get(name, int(version))
    return service.get(name, alias=version)


def _read(max_bytes: int) -> bytes:
    """Returns the body of the current request.

    Raises:
        HttpError: It is too long, or compressed.
    """
    coding = request.headers.get("Content-Encoding", "identity")
    if coding.lower() != "identity":
        raise HttpError(
            415,
            "unsupported_media_type",
            f"The body came compressed ({coding[:80]}); send it as it is.",
            expected="no Content-Encoding",
            received=coding[:80],
        )
    return read_body(max_bytes)


def _answer(model: LoadedModel, body: bytes) -> Response:
    header_length = read_header_length(request.headers.get(HEADER_LENGTH), body)
    message = decode_infer(body, header_length) if header_length or not body else read_whole_body(model, body)
    body, json_length = encode_infer(model.name, model.version, infer(model, message), message.id)
    response = Response(body, mimetype=JSON if json_length is None else "application/octet-stream")
    if json_length is not None:
        response.headers[HEADER_LENGTH] = str(json_length)
    response.headers["Bmp-Model"] = f"{model.name}/{model.version}"
    return response


def _wants_ready(body: bytes) -> bool:
    """Reads `{"ready": true}`, the request for what is ready alone; an empty body asks for everything."""
    ready = parse_object(body, '{"ready": true}').get("ready", False) if body else False
    if type(ready) is not bool:
        raise RequestError(
            f"'ready' is {kind_of(ready)}; expected true or false.", expected="true or false", received=kind_of(ready)
        )
    return ready


def _list_versions(service: Service, only_ready: bool) -> list[dict[str, str]]:
    failures, rows = service.failures(), []
    for name in sorted({model.name for model in service.models()} | failures.keys()):
        try:
            rows += [_describe_version(name, version) for version in service.versions(name)]
        except BmpError:  # the registry does not even say which versions there are
            rows.append({"name": name, "state": "UNAVAILABLE", "reason": failures.get(name, NotReadyError.code)})
    return [row for row in rows if row["state"] == "READY" or not only_ready]


def _describe_version(name: str, version: VersionState) -> dict[str, str]:
    return {
        "name": name,
        "version": str(version.number),
        "state": _STATES[version.state],
        "reason": version.error or "",
    }


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), mimetype=JSON)
