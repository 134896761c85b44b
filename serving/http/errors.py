"""One JSON shape for every error, whoever raised it: `{"error": {"code", "message", "expected", "received"}}`.

Doors of a protocol whose clients expect `{"error": "message"}` get that instead, with the same status.
"""

import logging
import re
from functools import partial
from typing import Protocol

import orjson
from flask import Blueprint, Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from bmp.errors import (
    BmpError,
    DeadlineError,
    InferenceError,
    NotFoundError,
    NotReadyError,
    OverloadError,
    RequestError,
    SignatureError,
    suggest,
)

_log = logging.getLogger(__name__)
_STATUS: dict[type[BmpError], int] = {
    RequestError: 400,
    SignatureError: 400,
    InferenceError: 400,  # a model is served only once it has answered its own samples: what is wrong are the inputs
    NotFoundError: 404,
    NotReadyError: 503,
    OverloadError: 503,
    DeadlineError: 504,
}


class HttpError(BmpError):
    """A request that HTTP has a status of its own for.

    Args:
        status: Of the answer.
        code: Stable name of the kind of error.
        message: What happened, what was expected, how to fix it.
        expected: What would have been right, in short.
        received: What came instead, in short.
    """

    def __init__(self, status: int, code: str, message: str, *, expected: str, received: str) -> None:
        super().__init__(message, expected=expected, received=received)
        self.status = status
        self.code = code


class Respond(Protocol):
    """Writes an error in one shape: `to_response` or `to_plain_response`."""

    def __call__(  # noqa: D102
        self, status: int, code: str, message: str, *, expected: str | None = None, received: str | None = None
    ) -> Response: ...


def to_response(
    status: int, code: str, message: str, *, expected: str | None = None, received: str | None = None
) -> Response:
    """Returns an error in the shape of bmp."""
    error = {"code": code, "message": message, "expected": expected, "received": received}
    return _make_response(status, error)


def to_plain_response(
    status: int, code: str, message: str, *, expected: str | None = None, received: str | None = None
) -> Response:
    """Returns an error in the shape of TensorFlow Serving and of the Open Inference Protocol: the sentence alone."""
    return _make_response(status, message)


def _make_response(status: int, error: object) -> Response:
    response = Response(orjson.dumps({"error": error}), status, mimetype="application/json")
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


def install_error_handlers(target: Flask | Blueprint, respond: Respond = to_response) -> None:
    """Makes every error of the app, or of one door, answer in one shape."""
    target.register_error_handler(BmpError, partial(_handle_bmp_error, respond))
    target.register_error_handler(HTTPException, partial(_handle_http_error, respond))
    target.register_error_handler(Exception, partial(_handle_bug, respond))


def _handle_bmp_error(respond: Respond, error: BmpError) -> Response:
    if isinstance(error, HttpError):
        status = error.status
    else:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500 or isinstance(error, InferenceError):
        _log.error("%s %s: %s", request.method, request.path, error)
    return respond(status, error.code, error.message, expected=error.expected, received=error.received)


def _handle_http_error(respond: Respond, error: HTTPException) -> Response:
    code = re.sub(r"\W+", "_", error.name).lower()
    if isinstance(error, NotFound):
        known = sorted({rule.rule for rule in current_app.url_map.iter_rules() if not rule.arguments})
        asked = request.path[:80]
        message = f"There is nothing at {asked}. There is {', '.join(known)}.{suggest(asked, known)}"
        return respond(404, code, message, expected=", ".join(known), received=asked)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        message = f"{request.path[:80]} does not take {request.method[:20]}; it takes {allowed}."
        response = respond(405, code, message, expected=allowed, received=request.method[:20])
        response.headers["Allow"] = allowed
        return response
    return respond(error.code or 500, code, error.description or error.name)


def _handle_bug(respond: Respond, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return respond(500, "internal_error", "The server failed to answer; the reason is in its log.")
