"""One JSON shape for every error, whoever raised it: `{"error": {"code", "message", "expected", "received"}}`.

Doors of a protocol whose clients expect `{"error": "message"}` get that instead, with the same status.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
from serving.codec.raw import JSON
from serving.http.metrics import note_outcome
from serving.http.reply import Reply, to_response
from serving.models.control import ControlError

_log = logging.getLogger(__name__)
_STATUS: dict[type[BmpError], int] = {
    RequestError: 400,
    SignatureError: 400,
    InferenceError: 400,  # a model is served only once it has answered its own samples: what is wrong are the inputs
    ControlError: 403,
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


class Problem(NamedTuple):
    """What is wrong with a request, or with us.

    Args:
        status: Of HTTP.
        code: Stable name of the kind of error, for programs.
        message: What happened, what was expected, how to fix it.
        expected: What would have been right, in short.
        received: What came instead, in short.
    """

    status: int
    code: str
    message: str
    expected: str | None = None
    received: str | None = None


Write = Callable[[Problem], Reply]
"""Writes a problem in one shape: `write_error` or `write_plain_error`."""


def write_error(problem: Problem) -> Reply:
    """Returns an error in the shape of bmp."""
    _, code, message, expected, received = problem
    return _make_reply(problem, {"code": code, "message": message, "expected": expected, "received": received})


def write_plain_error(problem: Problem) -> Reply:
    """Returns an error in the shape of TensorFlow Serving and of the Open Inference Protocol: the sentence alone."""
    return _make_reply(problem, problem.message)


def _make_reply(problem: Problem, error: object) -> Reply:
    retry = (("Retry-After", "1"),) if problem.status == 503 else ()
    return Reply(problem.status, orjson.dumps({"error": error}), (("Content-Type", JSON), *retry))


def explain(error: Exception, asked: str) -> Problem:
    """Returns what an error means for whoever asked; the log is told of those that are not the client's.

    Args:
        error: Whatever came up.
        asked: Method and path, for the log.
    """
    if not isinstance(error, BmpError):
        _log.error("%s failed", asked, exc_info=error)
        return Problem(500, "internal_error", "The server failed to answer; the reason is in its log.")
    if isinstance(error, HttpError):
        status = error.status
    else:
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500 or isinstance(error, InferenceError):
        _log.error("%s: %s", asked, error)
    return Problem(status, error.code, error.message, error.expected, error.received)


def install_error_handlers(target: Flask | Blueprint, write: Write = write_error) -> None:
    """Makes every error of the app, or of one door, answer in one shape."""
    target.register_error_handler(Exception, partial(_handle, write))
    target.register_error_handler(HTTPException, partial(_handle_http_error, write))


def _handle(write: Write, error: Exception) -> Response:
    return _respond(write, explain(error, f"{request.method} {request.path}"))


def _handle_http_error(write: Write, error: HTTPException) -> Response:
    code = re.sub(r"\W+", "_", error.name).lower()
    if isinstance(error, NotFound):
        known = sorted({rule.rule for rule in current_app.url_map.iter_rules() if not rule.arguments})
        asked = request.path[:80]
        message = f"There is nothing at {asked}. There is {', '.join(known)}.{suggest(asked, known)}"
        return _respond(write, Problem(404, code, message, ", ".join(known), asked))
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        message = f"{request.path[:80]} does not take {request.method[:20]}; it takes {allowed}."
        response = _respond(write, Problem(405, code, message, allowed, request.method[:20]))
        response.headers["Allow"] = allowed
        return response
    return _respond(write, Problem(error.code or 500, code, error.description or error.name))


def _respond(write: Write, problem: Problem) -> Response:
    note_outcome(problem.code)
    return to_response(write(problem))
