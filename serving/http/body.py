"""The body of a request, whole or not at all."""

from collections.abc import Mapping
from typing import Any

from werkzeug.sansio.utils import get_content_length

from serving.http.errors import HttpError


def read_body(environ: Mapping[str, Any], max_bytes: int) -> bytes:
    """Returns the whole body of a request.

    Args:
        environ: Of the request, as WSGI has it.
        max_bytes: That it may have.

    Raises:
        HttpError: It is longer, whether it said so beforehand or not.
    """
    announced = get_content_length(environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING"))
    if announced is None and not environ.get("wsgi.input_terminated"):
        return b""
    # Not request.get_data(): at its limit it would cut a body of unannounced length, and say nothing.
    body: bytes = environ["wsgi.input"].read(min(announced or max_bytes + 1, max_bytes + 1))
    return check_length(body, max_bytes, announced)


def check_length(body: bytes, max_bytes: int, announced: int | None = None) -> bytes:
    """Returns a body.

    Args:
        body: All of it, or as much as shows that it is too long.
        max_bytes: That it may have.
        announced: How long it said to be, if it did.

    Raises:
        HttpError: It is longer.
    """
    if len(body) > max_bytes:
        raise HttpError(
            413,
            "body_too_large",
            f"The body is over {max_bytes:,} bytes, the limit of this server; send fewer examples at a time.",
            expected=f"at most {max_bytes} bytes",
            received=f"{announced or 'more'} bytes",
        )
    return body
