"""What OpenAPI operations are put together from: parameters, bodies, responses."""

from collections.abc import Mapping, Sequence
from typing import Any

from serving.codec.raw import JSON
from serving.documents.examples import Example, example_path
from serving.documents.schemas import Schema, object_of
from serving.models.quality import QUALITIES

BMP, TFSERVING, INFERENCE, SERVER = "bmp", "TensorFlow Serving", "Open Inference Protocol", "server"
"""Groups of operations; each but the first and the last has errors of its own shape."""

_MAX_EXAMPLE_BYTES = 20_000
"""A longer example is linked to, so that the document stays short."""
_STATUSES = {
    400: "The request cannot be understood, or does not fit the model.",
    403: "This is not allowed here.",
    404: "There is no such model, version or alias, or it is not served.",
    413: "The body is too long.",
    415: "The body is of a type that the model does not take.",
    500: "A bug of the server; its log says more.",
    503: "The model is not ready, or there is too much to do; try again later.",
    504: "The time that the request allowed was over before it could run.",
}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}
_TEXT: Schema = {"type": ["string", "null"]}
_ERROR = object_of({"code": {"type": "string"}, "message": {"type": "string"}, "expected": _TEXT, "received": _TEXT})
_PREDICTION_STATUSES = (400, 404, 413, 503, 504)

TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "description": "Seconds in which an answer is of use; what cannot be run by then is dropped, with status 504.",
    "schema": {"type": "string", "pattern": r"^[0-9]{1,6}\.[0-9]{1,6}$"},
    "example": "10.0",
}

QUALITY = {
    "name": "quality",
    "in": "query",
    "description": "Which variant of the version answers; without it the recommended one. One that is not in memory is "
    "loaded first: the answer is 503 until then.",
    "schema": {"enum": list(QUALITIES)},
}


def make_components() -> dict[str, Any]:
    """Returns what operations refer to: the errors, in the shape of bmp and in that of the other protocols."""
    responses = {}
    for prefix, schema in (("Error", "Error"), ("PlainError", "PlainError")):
        for status, description in _STATUSES.items():
            responses[f"{prefix}{status}"] = {
                "description": description,
                "content": {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
                **({"headers": _RETRY} if status == 503 else {}),
            }
    schemas = {"Error": object_of({"error": _ERROR}), "PlainError": object_of({"error": {"type": "string"}})}
    return {"schemas": schemas, "responses": responses}


def make_get(
    tag: str, identity: str, summary: str, answer: Schema, *, statuses: Sequence[int] = (), media_type: str = JSON
) -> dict[str, Any]:
    """Returns the path item of a question without a body.

    Args:
        tag: Its group.
        identity: A name that no other operation has.
        summary: What it is for, in a few words.
        answer: Schema of a good answer.
        statuses: Of errors.
        media_type: Of a good answer.
    """
    good = {"description": "The answer.", "content": {media_type: {"schema": answer}}}
    responses = {"200": good, **_errors(tag, statuses)}
    return {"get": {"tags": [tag], "operationId": identity, "summary": summary, "responses": responses}}


def make_order(
    tag: str, identity: str, summary: str, answer: Schema, *, statuses: Sequence[int] = ()
) -> dict[str, Any]:
    """Returns the path item of what is posted without a body; see `make_get`."""
    (operation,) = make_get(tag, identity, summary, answer, statuses=statuses).values()
    return {"post": operation}


def make_prediction(
    tag: str,
    identity: str,
    summary: str,
    content: Mapping[str, Any],
    answer: Mapping[str, Any],
    *,
    parameters: Sequence[Mapping[str, Any]] = (),
    statuses: Sequence[int] = (),
) -> dict[str, Any]:
    """Returns the path item of a question to a model.

    Args:
        tag: Its group.
        identity: A name that no other operation has.
        summary: What it is for, in a few words.
        content: The body, by media type.
        answer: Likewise.
        parameters: Beside the time that it may take.
        statuses: Of errors, beside those that every prediction may have.
    """
    header = {"Bmp-Model": {"description": "Which model and version answered.", "schema": {"type": "string"}}}
    good = {"description": "What the model says.", "content": answer, "headers": header}
    operation = {
        "tags": [tag],
        "operationId": identity,
        "summary": summary,
        "parameters": [*parameters, TIMEOUT],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": good, **_errors(tag, sorted({*_PREDICTION_STATUSES, *statuses}))},
    }
    return {"post": operation}


def make_query(name: str, description: str, schema: Schema) -> dict[str, Any]:
    """Returns a parameter behind the question mark."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _errors(tag: str, statuses: Sequence[int]) -> dict[str, Any]:
    prefix = "PlainError" if tag in (TFSERVING, INFERENCE) else "Error"
    return {str(status): {"$ref": f"#/components/responses/{prefix}{status}"} for status in statuses}


def show_example(example: Example, name: str) -> dict[str, Any]:
    """Returns an example of a model as OpenAPI has it: itself, or where it is."""
    if len(example.dump()) > _MAX_EXAMPLE_BYTES:
        return {"externalValue": example_path(name, example.door)}
    return {"value": example.body}
