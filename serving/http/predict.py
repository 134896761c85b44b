"""bmp's own door: POST /predict."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain

from flask import Blueprint, Response, request

from bmp.errors import RequestError
from bmp.transforms import Field
from serving.answer import Answer, answer_features, answer_json, answer_tensors
from serving.codec.json import Request, decode_rectangle, decode_request, encode_prediction
from serving.codec.npy import NPY, decode_npy
from serving.codec.query import Query, decode_query
from serving.codec.raw import CONTENT_TYPES, JSON, to_column
from serving.codec.tensors import fit_array
from serving.http.body import read_body
from serving.http.errors import HttpError
from serving.model import LoadedModel
from serving.service import Service

_TYPES = (JSON, *chain.from_iterable(CONTENT_TYPES.values()), NPY)
_UTF_8 = ("utf-8", "utf8")


def build_predict_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of `POST /predict`.

    Body: `{"x_test": [[…], …]}` (or `"instances"`), ready tensors or rows of raw features, with optional `"model"`,
    `"version"` or `"alias"`, and `"top_k"`; or one image, sound or text itself, for a model that takes nothing else; or
    a batch as `.npy` file, for a model of one tensor. The query may say `?model=…` and the like as well. Answer:
    `{"prediction": [[…], …]}`, and with `top_k` the likeliest labels of each example; the header `Bmp-Model` says which
    model and version gave it.
    """
    door = Blueprint("predict", __name__)

    @door.post("/predict")
    def predict() -> Response:
        query = decode_query(request.environ.get("QUERY_STRING", ""))
        if request.mimetype != JSON:
            return _respond(_answer_body(service, query, max_body_bytes))
        body = read_body(max_body_bytes)
        sole, rectangle = service.sole_model(), None
        if sole is not None and query.model is None and query.version is None and query.alias is None:
            rectangle = decode_rectangle(body, sole.asked)
        if sole is not None and rectangle is not None:
            return _respond(answer_tensors(sole, rectangle.arrays, query.top_k))
        message = _join(query, decode_request(body))
        return _respond(answer_json(service.get(message.model, message.version, message.alias), message))

    return door


def _answer_body(service: Service, query: Query, max_body_bytes: int) -> Answer:
    """Answers a body that is no JSON.

    Raises:
        HttpError: The model does not take such a body.
    """
    if request.mimetype != NPY:
        model, field = _pick_for_body(service, query)
        return answer_features(model, to_column(read_body(max_body_bytes), field), query.top_k)
    model = service.get(query.model, query.version, query.alias)
    if NPY not in model.content_types:
        raise _unsupported(model.content_types)
    (spec,) = model.asked.inputs
    array = fit_array(decode_npy(read_body(max_body_bytes)), spec, "The array")
    return answer_tensors(model, {spec.name: array}, query.top_k)


def _pick_for_body(service: Service, query: Query) -> tuple[LoadedModel, Field]:
    """Returns the model for a body that is no JSON, and the feature that the body is.

    Raises:
        HttpError: The model does not take such a body.
    """
    if request.mimetype not in _TYPES:
        sole = service.sole_model()
        raise _unsupported(_TYPES if sole is None else sole.content_types)
    model = service.get(query.model, query.version, query.alias)
    field = model.features.sole if model.features is not None else None
    if field is None or request.mimetype not in CONTENT_TYPES.get(field.kind, ()):
        raise _unsupported(model.content_types)
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
    received = request.mimetype[:80] or "no Content-Type"
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


def _respond(answer: Answer) -> Response:
    response = Response(encode_prediction(answer.outputs, answer.top_k), mimetype=JSON)
    response.headers["Bmp-Model"] = f"{answer.model.name}/{answer.model.version}"
    return response
