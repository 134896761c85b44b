"""bmp's own door: POST /predict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain

from flask import Blueprint, Response

from bmp.errors import RequestError
from serving.answer import Answer, Question, ask_features, ask_json, ask_tensors
from serving.codec.json import Request, decode_rectangle, decode_request, encode_prediction
from serving.codec.npy import NPY, decode_npy
from serving.codec.query import Query, decode_query
from serving.codec.raw import CONTENT_TYPES, JSON, to_column
from serving.codec.tensors import fit_array
from serving.http.call import Call, Encode, answer_call
from serving.http.errors import HttpError
from serving.http.reply import Reply, reply_of
from serving.service import Service

_TYPES = (JSON, *chain.from_iterable(CONTENT_TYPES.values()), NPY)
_UTF_8 = ("utf-8", "utf8")


def build_predict_door(service: Service, max_body_bytes: int) -> Blueprint:
    """Returns the blueprint of `POST /predict`.

    Body: `{"x_test": [[…], …]}` (or `"instances"`), ready tensors or rows of raw features, with optional `"model"`,
    `"version"` or `"alias"`, `"quality"`, and `"top_k"`; or one image, sound or text itself, for a model that takes
    nothing else; or a batch as `.npy` file, for a model of one tensor. The query may say `?model=…` and the like as
    well. Answer: `{"prediction": [[…], …]}`, and with `top_k` the likeliest labels of each example; the header
    `Bmp-Model` says which model and version gave it, and where a quality was asked for, which variant.
    """
    door = Blueprint("predict", __name__)

    @door.post("/predict")
    def predict() -> Response:
        return answer_call(partial(read_predict, service), max_body_bytes)

    return door


def read_predict(service: Service, call: Call) -> tuple[Question, Encode]:
    """Reads a call of `POST /predict`.

    Raises:
        BmpError: It cannot be answered.
    """
    query = decode_query(call.environ.get("QUERY_STRING", ""))
    media_type, parameters = call.read_media_type()
    if media_type == NPY:
        return _read_npy(service, query, call), _encoder(query.quality)
    if media_type != JSON:
        return _read_file(service, query, call, media_type, parameters), _encoder(query.quality)
    body, sole = call.read_body(), None if query.says_model else service.sole_model()
    if sole is not None:
        rectangle = decode_rectangle(body, call.use(sole).asked)
        if rectangle is not None:
            return ask_tensors(sole, rectangle.arrays, query.top_k), _encode
    message = _join(query, decode_request(body))
    model = call.use(service.get(message.model, message.version, message.alias, message.quality))
    return ask_json(model, message), _encoder(message.quality)


def _read_npy(service: Service, query: Query, call: Call) -> Question:
    """Reads a body that is an array.

    Raises:
        HttpError: The model does not take one.
    """
    model = call.use(service.get(query.model, query.version, query.alias, query.quality))
    if NPY not in model.content_types:
        raise _unsupported(NPY, model.content_types)
    (spec,) = model.asked.inputs
    array = fit_array(decode_npy(call.read_body()), spec, "The array")
    return ask_tensors(model, {spec.name: array}, query.top_k)


def _read_file(service: Service, query: Query, call: Call, media_type: str, parameters: Mapping[str, str]) -> Question:
    """Reads a body that is an image, a sound or a text.

    Raises:
        HttpError: The model does not take one.
    """
    if media_type not in _TYPES:
        sole = service.sole_model()
        raise _unsupported(media_type, _TYPES if sole is None else sole.content_types)
    model = call.use(service.get(query.model, query.version, query.alias, query.quality))
    field = model.features.sole if model.features is not None else None
    if field is None or media_type not in CONTENT_TYPES.get(field.kind, ()):
        raise _unsupported(media_type, model.content_types)
    charset = parameters.get("charset", "utf-8")
    if field.kind == "text" and charset.lower() not in _UTF_8:
        raise HttpError(
            415,
            "unsupported_media_type",
            f"The text came as {charset[:80]}; send it as UTF-8.",
            expected="charset=utf-8",
            received=f"charset={charset[:80]}",
        )
    return ask_features(model, to_column(call.read_body(), field), query.top_k)


def _unsupported(media_type: str, accepted: Sequence[str]) -> HttpError:
    received = media_type[:80] or "no Content-Type"
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


def _encoder(quality: str | None) -> Encode:
    return _encode if quality is None else partial(_encode, quality=quality)


def _encode(answer: Answer, quality: str | None = None) -> Reply:
    return reply_of(answer.model, encode_prediction(answer.outputs, answer.top_k), quality=quality)
