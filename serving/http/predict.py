"""bmp's own door: POST /predict."""

from flask import Blueprint, Response, request

from serving.codec.json import decode_rectangle, decode_request, encode_prediction
from serving.http.errors import HttpError
from serving.service import LoadedModel, Service

_JSON = "application/json"


def build_predict_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of `POST /predict`.

    Body: `{"x_test": [[…], …]}` (or `"instances"`), optional `"model"` and `"version"`. Answer:
    `{"prediction": [[…], …]}`; the header `Bmp-Model` says which model and version gave it.
    """
    door = Blueprint("predict", __name__)

    @door.post("/predict")
    def predict() -> Response:
        _check_content_type()
        body = read_body(max_body_bytes)
        model, arrays = service.sole_model(), None
        if model is not None:
            arrays = decode_rectangle(body, model.signature)
        if model is None or arrays is None:
            message = decode_request(body)
            model = service.get(message.model, message.version)
            arrays = message.to_arrays(model.signature)
        return _answer(model, encode_prediction(model.predict(arrays)))

    return door


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


def _check_content_type() -> None:
    if request.mimetype != _JSON:
        received = request.mimetype[:80] or "no Content-Type"
        raise HttpError(
            415,
            "unsupported_media_type",
            f"The body came as {received}; send it as {_JSON}, with a Content-Type header that says so.",
            expected=_JSON,
            received=received,
        )


def _answer(model: LoadedModel, body: bytes) -> Response:
    response = Response(body, mimetype=_JSON)
    response.headers["Bmp-Model"] = f"{model.name}/{model.version}"
    return response
