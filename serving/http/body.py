"""The body of a request, whole or not at all."""

from flask import request

from serving.http.errors import HttpError


def read_body(max_bytes: int) -> bytes:
    """Returns the whole body of the current request.

    Raises:
        HttpError: It is longer, whether it said so beforehand or not.
    """
    announced = request.content_length
    if announced is None and not request.environ.get("wsgi.input_terminated"):
        return b""
    # Not request.get_data(): at its limit it would cut a body of unannounced length, and say nothing.
    body = request.environ["wsgi.input"].read(min(announced or max_bytes + 1, max_bytes + 1))
    if len(body) > max_bytes:
        raise HttpError(
            413,
            "body_too_large",
            f"The body is over {max_bytes:,} bytes, the limit of this server; send fewer examples at a time.",
            expected=f"at most {max_bytes} bytes",
            received=f"{announced or 'more'} bytes",
        )
    return body
