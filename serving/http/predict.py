"""bmp's own door: POST /predict."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain

from flask import Blueprint, Response, request

from bmp.errors import RequestError
from bmp.signature import Arrays
from bmp.transforms import Columns, Field
from bmp.transforms.labels import Ranked
from serving.codec.json import Request, decode_rectangle, decode_request, encode_prediction
from serving.codec.query import Query, decode_query
from serving.codec.raw import CONTENT_TYPES, JSON, content_types, to_column
from serving.codec.rows import holds_rows, to_columns
from serving.http.errors import HttpError
from serving.model import LoadedModel
from serving.service import Service

_RAW_TYPES = tuple(chain.from_iterable(CONTENT_TYPES.values()))
_UTF_8 = ("utf-8", "utf8")


def build_predict_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of `POST /predict`.

    Body: `{"x_test": [[…], …]}` (or `"instances"`), ready tensors or rows of raw features, with optional `"model"`,
    `"version"` and `"top_k"`; or one image, sound or text itself, for a model that takes nothing else. The query may
    say `?model=…&version=…&top_k=…` as well. Answer: `{"prediction": [[…], …]}`, and with `top_k` the likeliest labels
    of each example; the header `Bmp-Model` says which model and version gave it.
    """
    door = Blueprint("predict", __name__)

    @door.post("/predict")
    def predict() -> Response:
        query = decode_query(request.environ.get("QUERY_STRING", ""))
        if request.mimetype != JSON:
            model, field = _pick_for_body(service, query)
            return _answer_raw(model, to_column(read_body(max_body_bytes), field), query.top_k)
        body = read_body(max_body_bytes)
        sole, arrays = service.sole_model(), None
        if sole is not None and query.model is None and query.version is None:
            arrays = decode_rectangle(body, sole.asked)
        if sole is not None and arrays is not None:
            return _answer_tensors(sole, arrays, query.top_k)
        message = _join(query, decode_request(body))
        model = service.get(message.model, message.version)
        columns = _read_rows(message, model)
        if columns is not None:
            return _answer_raw(model, columns, message.top_k)
        return _answer_tensors(model, message.to_arrays(model.asked), message.top_k)

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


def _pick_for_body(service: Service, query: Query) -> tuple[LoadedModel, Field]:
    """Returns the model for a body that is no JSON, and the feature that the body is.

    Raises:
        HttpError: The model does not take such a body.
    """
    if request.mimetype not in _RAW_TYPES:
        sole = service.sole_model()
        raise _unsupported(_RAW_TYPES if sole is None else content_types(sole.features))
    model = service.get(query.model, query.version)
    field = model.features.sole if model.features is not None else None
    if field is None or request.mimetype not in CONTENT_TYPES.get(field.kind, ()):
        raise _unsupported(content_types(model.features))
    charset = request.mimetype_params.get("charset", "utf-8")
    if field.kind == "text" and charset.lower() not in _UTF_8:
        raise HttpError(
            415,
            "unsupported_media_type",
            f"The text came as {charset[:80]}; send it as UTF-8.",
            expected="charset=utf-8",
            received=f"charset={charset[:80]}",
        )
    return model, field


def _unsupported(accepted: Sequence[str]) -> HttpError:
    accepted, received = [JSON, *accepted], request.mimetype[:80] or "no Content-Type"
    return HttpError(
        415,
        "unsupported_media_type",
        f"The body came as {received}; send it as {' or '.join(accepted)}, with a Content-Type header that says so.",
        expected=", ".join(accepted),
        received=received,
    )


def _join(query: Query, message: Request) -> Request:
    """Returns the message with what the query adds to it.

    Raises:
        RequestError: Both say the same thing.
    """
    said = {name: value for name, value in asdict(query).items() if value is not None}
    for name in said:
        if getattr(message, name) is not None:
            raise RequestError(
                f"Both the query and the body say '{name}'; say it once.", expected=f"one {name}", received="two"
            )
    return replace(message, **said) if said else message


def _read_rows(message: Request, model: LoadedModel) -> Columns | None:
    """Returns the raw features of a message, or None where it holds ready tensors."""
    features, names = model.features, [spec.name for spec in model.signature.inputs]
    if features is None or not holds_rows(message.inputs, features, names, message.key):
        return None
    return to_columns(message.inputs, features, message.key)


def _answer_tensors(model: LoadedModel, inputs: Arrays, top_k: int | None) -> Response:
    if model.takes_raw_tensors:
        return _answer_raw(model, inputs, top_k)
    model.check_top_k(top_k)
    outputs = model.predict(inputs)
    return _answer(model, outputs, None if top_k is None else model.rank_labels(outputs, top_k, inputs))


def _answer_raw(model: LoadedModel, columns: Columns, top_k: int | None) -> Response:
    model.check_top_k(top_k)
    outputs = model.predict_raw(columns)
    return _answer(model, outputs, None if top_k is None else model.rank_labels(outputs, top_k))


def _answer(model: LoadedModel, outputs: Arrays, labels: list[Ranked] | None) -> Response:
    response = Response(encode_prediction(outputs, labels), mimetype=JSON)
    response.headers["Bmp-Model"] = f"{model.name}/{model.version}"
    return response
