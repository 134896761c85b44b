"""One request to a model over HTTP. The same doors read it and write its answer, whoever took it: Flask, or our worker.

A door of predictions is a function that reads a call: it returns what is to be run, and how the answer is written.
"""

from collections.abc import Callable
from typing import Any

from flask import Response, request
from werkzeug.http import parse_options_header

from serving.answer import Answer, Question
from serving.codec.raw import JSON
from serving.http.body import read_body
from serving.http.metrics import note_model
from serving.http.reply import Reply, to_response
from serving.models.model import LoadedModel

Encode = Callable[[Answer], Reply]


class Call:
    """A request to a model.

    Args:
        environ: Of the request, as WSGI has it.
        max_body_bytes: What its body may have.

    Attributes:
        model: Which one, as soon as that is known.
    """

    __slots__ = ("environ", "max_body_bytes", "model")

    def __init__(self, environ: dict[str, Any], max_body_bytes: int) -> None:
        self.environ = environ
        self.max_body_bytes = max_body_bytes
        self.model: LoadedModel | None = None

    def use(self, model: LoadedModel) -> LoadedModel:
        """Says which model the call is for, as soon as that is known, and returns it."""
        self.model = model
        return model

    def read_body(self) -> bytes:
        """Returns the body.

        Raises:
            HttpError: It is too long.
        """
        return read_body(self.environ, self.max_body_bytes)

    def read_media_type(self) -> tuple[str, dict[str, str]]:
        """Returns what the body is said to be, and the parameters of that."""
        text = self.environ.get("CONTENT_TYPE", "")
        if text == JSON:
            return JSON, {}
        media_type, parameters = parse_options_header(text)
        return media_type.lower(), parameters


def answer_call(read: Callable[[Call], tuple[Question, Encode]], max_body_bytes: int) -> Response:
    """Answers the current request of Flask here and now."""
    call = Call(request.environ, max_body_bytes)
    try:
        question, encode = read(call)
        return to_response(encode(question.answer()))
    finally:
        if call.model is not None:
            note_model(call.model)
