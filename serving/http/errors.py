"""One JSON shape for every error, whoever raised it: `{"error": {"code", "message", "expected", "received"}}`."""

import logging
import re

import orjson
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from bmp.errors import BmpError, NotFoundError, NotReadyError, RequestError, SignatureError, suggest

_log = logging.getLogger(__name__)
_STATUS: dict[type[BmpError], int] = {
    RequestError: 400,
    SignatureError: 400,
    NotFoundError: 404,
    NotReadyError: 503,
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


def to_response(
    status: int, code: str, message: str, *, expected: str | None = None, received: str | None = None
) -> Response:
    """Returns an error as clients get it from every route."""
    error = {"code": code, "message": message, "expected": expected, "received": received}
    response = Response(orjson.dumps({"error": error}), status, mimetype="application/json")
    if status == 503:
        response.headers["Retry-After"] = "1"
    return response


def install_error_handlers(app: Flask) -> None:
    """Makes every error of the app answer in the one shape."""
    app.register_error_handler(BmpError, _handle_bmp_error)
    app.register_error_handler(HTTPException, _handle_http_error)
    app.register_error_handler(Exception, _handle_bug)


def _handle_bmp_error(error: BmpError) -> Response:
    if isinstance(error, HttpError):
        status = error.status
    else:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        _log.error("%s %s: %s", request.method, request.path, error)
    return to_response(status, error.code, error.message, expected=error.expected, received=error.received)


def _handle_http_error(error: HTTPException) -> Response:
    code = re.sub(r"\W+", "_", error.name).lower()
    if isinstance(error, NotFound):
        known = sorted({rule.rule for rule in current_app.url_map.iter_rules()})
        asked = request.path[:80]
        message = f"There is nothing at {asked}. There is {', '.join(known)}.{suggest(asked, known)}"
        return to_response(404, code, message, expected=", ".join(known), received=asked)
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        message = f"{request.path[:80]} does not take {request.method[:20]}; it takes {allowed}."
        response = to_response(405, code, message, expected=allowed, received=request.method[:20])
        response.headers["Allow"] = allowed
        return response
    return to_response(error.code or 500, code, error.description or error.name)


def _handle_bug(error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    return to_response(500, "internal_error", "The server failed to answer; the reason is in its log.")
