"""What is answered over HTTP, before it is known who sends it: Flask, or our worker itself."""

from typing import NamedTuple

from flask import Response

from serving.codec.raw import JSON
from serving.models.model import LoadedModel


class Reply(NamedTuple):
    """An answer.

    Args:
        status: Of HTTP.
        body: All of it.
        headers: Without Content-Length. The few that a server sends are the same again and again.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


def reply_of(
    model: LoadedModel, body: bytes, media_type: str = JSON, *more: tuple[str, str], quality: str | None = None
) -> Reply:
    """Returns what a model answers; whoever asked for a quality is told which variant has it."""
    said = f"{model.name}/{model.version}"
    if quality is not None:
        said += f"/{model.variant.name}"
    return Reply(200, body, (("Content-Type", media_type), *more, ("Bmp-Model", said)))


def to_response(reply: Reply) -> Response:
    """Returns it as Flask has it."""
    return Response(reply.body, reply.status, list(reply.headers))
