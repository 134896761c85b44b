"""One contract for every door: the same question gets the same numbers, or the same refusal, whichever way it came in.

A door is an entry of DOORS: how it puts a question, and how it reads the answer. Everything else here holds for all.
"""

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import grpc_doors
import numpy as np
import pytest
from conftest import run_server
from door_models import Models, make_inputs, publish_door_models
from flask.testing import FlaskClient
from grpc_doors import CONTENT_TYPE, GrpcReply
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_models import MODELS, make_columns
from werkzeug.test import EnvironBuilder, TestResponse

from bmp.signature import Arrays
from serving.app import ServingApp, create_app
from serving.codec.inference_v2 import HEADER_LENGTH
from serving.codec.tensors import MAX_RANK, datatype_of, join_elements
from serving.service import Service
from serving.settings import Settings

MAX_BODY_BYTES = 200_000
Reply = TestResponse | GrpcReply


# === Doors ===


@dataclass(frozen=True)
class Question:
    """What is asked, whatever the door.

    Args:
        model: Its name.
        inputs: What stands for each input or raw feature, an element for each example; in a bad question anything.
        version: Its number, if any.
        alias: What names the version, if anything does.
    """

    model: str
    inputs: Mapping[str, Any]
    version: int | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Wire:
    """A question as it travels."""

    path: str
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Door:
    """A way in.

    Args:
        put: Writes a question.
        read: The outputs in an answer, `(B, *shape)` by name, or in order where there are no names.
        error: The message in a refusal.
    """

    put: Callable[[Question], Wire]
    read: Callable[[Reply], dict[str, Any]]
    error: Callable[[Reply], str]


def dump(content: Any) -> bytes:
    """JSON, with NaN and Infinity as tokens and `@…@` as the bare text inside."""
    return re.sub(rb'"@([^"]*)@"', rb"\1", json.dumps(content).encode())


def to_rows(columns: Mapping[str, Any]) -> Any:
    """One object for each example; what is no list of examples stays what it is."""
    broken = [column for column in columns.values() if not isinstance(column, list)]
    if broken:
        return broken[0]
    absent = object()
    return [
        {name: value for name, value in zip(columns, row, strict=True) if value is not absent}
        for row in zip_longest(*columns.values(), fillvalue=absent)
    ]


def is_raw(question: Question) -> bool:
    return question.model in ("passengers", "reviews")


def drop_names(question: Question) -> Any:
    """What stands for the only input, where that is the model's; None where a name is needed."""
    (name, values), *more = question.inputs.items() or [("", None)]
    return values if not more and name in ("x", "grid", "review", "features") else None


def dump_predict(question: Question, **inputs: Any) -> Wire:
    addressee = {"model": question.model, "version": question.version, "alias": question.alias}
    return Wire("/predict", dump({**addressee, **inputs}))


def put_predict(question: Question) -> Wire:
    return dump_predict(question, x_test=to_rows(question.inputs) if is_raw(question) else question.inputs)


def put_predict_without_names(question: Question) -> Wire:
    values = drop_names(question)
    return put_predict(question) if values is None else dump_predict(question, instances=values)


def v1_path(question: Question, verb: str = "predict") -> str:
    version = "" if question.version is None else f"/versions/{question.version}"
    if question.alias is not None:
        version = f"/labels/{question.alias}"
    return f"/v1/models/{quote(question.model, safe='')}{version}:{verb}"


def put_rows(question: Question) -> Wire:
    return Wire(v1_path(question), dump({"instances": to_rows(question.inputs)}))


def put_rows_without_names(question: Question) -> Wire:
    values = drop_names(question)
    wire = put_rows(question) if values is None else Wire(v1_path(question), dump({"instances": values}))
    return replace(wire, content_type="application/x-www-form-urlencoded")


def put_columns(question: Question) -> Wire:
    return Wire(v1_path(question), dump({"inputs": question.inputs}))


def put_columns_without_names(question: Question) -> Wire:
    values = drop_names(question)
    return put_columns(question) if values is None else Wire(v1_path(question), dump({"inputs": values}))


def read_named(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {"": content}


def read_rows(content: list[Any]) -> dict[str, Any]:
    if not isinstance(content[0], dict):
        return {"": content}
    return {name: [row[name] for row in content] for name in content[0]}


def plain_error(reply: Reply) -> str:
    assert list(reply.json) == ["error"]
    return reply.json["error"]


DTYPES = {"b": np.int32, "sex": object, "review": object}  # of inputs that are not float32


def shape_of(value: Any) -> list[int]:
    """What the first element of each level suggests."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape or [1]


def describe_tensor(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "shape": shape_of(value), "datatype": datatype_of(np.dtype(DTYPES.get(name, "f4")).name)}


def v2_wire(question: Question, tensors: list[dict[str, Any]], behind: bytes = b"", **parameters: bool) -> Wire:
    version = question.alias if question.version is None else question.version
    path = f"/v2/models/{quote(question.model, safe='')}" + ("" if version is None else f"/versions/{version}")
    head = dump({"inputs": tensors, "parameters": parameters})
    headers = {HEADER_LENGTH: str(len(head))} if behind else {}
    return Wire(f"{path}/infer", head + behind, headers=headers)


def put_v2(question: Question) -> Wire:
    tensors = [{**describe_tensor(name, value), "data": value} for name, value in question.inputs.items()]
    return v2_wire(question, tensors)


def put_v2_flat(question: Question) -> Wire:
    """The numbers in one list, where they have a shape."""
    tensors = [
        {**describe_tensor(name, value), "data": np.ravel(value).tolist() if fits_bytes(name, value) else value}
        for name, value in question.inputs.items()
    ]
    return v2_wire(question, tensors)


def put_v2_binary(question: Question) -> Wire:
    """As bytes, where these can hold what is wrong with the values."""
    if not question.inputs or not all(fits_bytes(name, value) for name, value in question.inputs.items()):
        return put_v2(question)
    tensors, behind = [], b""
    for name, value in question.inputs.items():
        array = np.array(value, DTYPES.get(name, np.float32))
        data = join_elements(v.encode() for v in array.ravel()) if array.dtype == object else array.tobytes()
        tensors.append({**describe_tensor(name, value), "parameters": {"binary_data_size": len(data)}})
        behind += data
    return v2_wire(question, tensors, behind, binary_data_output=True)


def fits_bytes(name: str, value: Any) -> bool:
    """Tells whether a value is an array of what its input takes."""
    is_text, leaves, shape = DTYPES.get(name) is object, [value], shape_of(value)
    for size in shape:
        if len(shape) > MAX_RANK or not all(type(leaf) is list and len(leaf) == size for leaf in leaves):
            return False
        leaves = [inner for leaf in leaves for inner in leaf]
    kinds = set(map(type, leaves))
    if is_text or not kinds:
        return kinds == {str}
    return kinds <= ({int} if name == "b" else {int, float}) and not any(abs(leaf) > 2**31 - 1 for leaf in leaves)


def read_v2(reply: Reply) -> dict[str, Any]:
    length = reply.headers.get(HEADER_LENGTH, type=int)
    head, behind = json.loads(reply.data[:length]), reply.data[length:] if length else b""
    outputs = {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        data, behind = (np.frombuffer(behind[:size], "f4"), behind[size:]) if size else (output["data"], behind)
        outputs[output["name"]] = np.reshape(data, output["shape"]).tolist()
    return outputs


def put_grpc(question: Question, *, lists: bool) -> Wire:
    """For TensorFlow Serving's service, where its tensors can hold what is wrong with the values."""
    arrays = to_arrays(question)
    if arrays is None:
        return put_columns(question)
    body = grpc_doors.make_predict(question.model, question.version, question.alias, arrays, lists=lists)
    return Wire(grpc_doors.PREDICT, body, CONTENT_TYPE)


def put_grpc_v2(question: Question, *, raw: bool) -> Wire:
    """For the Open Inference Protocol's service, where its tensors can hold what is wrong with the values."""
    arrays = to_arrays(question)
    if arrays is None:
        return put_v2(question)
    version = question.alias if question.version is None else str(question.version)
    return Wire(grpc_doors.INFER, grpc_doors.make_infer(question.model, version or "", arrays, raw=raw), CONTENT_TYPE)


def to_arrays(question: Question) -> dict[str, np.ndarray] | None:
    """The inputs, strings as bytes; None where they are no arrays of what their input takes."""
    if not question.inputs or not all(fits_bytes(name, value) for name, value in question.inputs.items()):
        return None
    arrays = {name: np.array(value, DTYPES.get(name, np.float32)) for name, value in question.inputs.items()}
    encode = np.vectorize(lambda text: text.encode(), otypes=[object])
    return {name: encode(array) if array.dtype == object else array for name, array in arrays.items()}


def read_either(read: Callable[[GrpcReply], dict[str, Any]], otherwise: Door) -> Door:
    """How a door of gRPC answers, but for questions that had to go to another one."""

    def is_grpc(reply: Reply) -> bool:
        return isinstance(reply, GrpcReply)

    return Door(
        otherwise.put,
        lambda reply: read(reply) if is_grpc(reply) else otherwise.read(reply),
        lambda reply: reply.text if is_grpc(reply) else otherwise.error(reply),
    )


PREDICT = Door(
    put_predict,
    lambda reply: read_named(reply.json["prediction"]),
    lambda reply: reply.json["error"]["message"],
)
ROWS = Door(put_rows, lambda reply: read_rows(reply.json["predictions"]), plain_error)
COLUMNS = Door(put_columns, lambda reply: read_named(reply.json["outputs"]), plain_error)
V2 = Door(put_v2, read_v2, plain_error)
GRPC = read_either(grpc_doors.read_predict, COLUMNS)
GRPC_V2 = read_either(grpc_doors.read_infer, V2)

DOORS = {
    "predict": PREDICT,
    "predict, no names": replace(PREDICT, put=put_predict_without_names),
    "v1 rows": ROWS,
    "v1 rows, no names": replace(ROWS, put=put_rows_without_names),
    "v1 columns": COLUMNS,
    "v1 columns, no names": replace(COLUMNS, put=put_columns_without_names),
    "v2": V2,
    "v2 flat": replace(V2, put=put_v2_flat),
    "v2 binary": replace(V2, put=put_v2_binary),
    "grpc": replace(GRPC, put=partial(put_grpc, lists=False)),
    "grpc lists": replace(GRPC, put=partial(put_grpc, lists=True)),
    "grpc v2": replace(GRPC_V2, put=partial(put_grpc_v2, raw=True)),
    "grpc v2 contents": replace(GRPC_V2, put=partial(put_grpc_v2, raw=False)),
}
every_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


# === The server ===


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return publish_door_models(tmp_path_factory.mktemp("doors"))


@pytest.fixture(scope="module")
def app(models: Models) -> ServingApp:
    app = create_app(Settings(registry=models.registry.root, max_body_bytes=MAX_BODY_BYTES))
    deadline = time.monotonic() + 60
    while not app.is_started():
        assert time.monotonic() < deadline, "the models did not load"
        time.sleep(0.02)
    assert app.service.failures() == {}
    return app


@pytest.fixture(scope="module")
def client(app: ServingApp) -> FlaskClient:
    return app.test_client()


_open = ExitStack()
_channels: dict[ServingApp, grpc.Channel] = {}


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    with _open:
        yield
    _channels.clear()


def send(client: FlaskClient, wire: Wire) -> Reply:
    if wire.content_type == CONTENT_TYPE:
        app = client.application
        if app not in _channels:
            _channels[app] = _open.enter_context(grpc_doors.connect(app.service, MAX_BODY_BYTES))
        return grpc_doors.send(_channels[app], wire.path, wire.body)
    reply = client.post(wire.path, data=wire.body, content_type=wire.content_type, headers=dict(wire.headers))
    check_fast_path(client.application, wire, reply)
    return reply


def check_fast_path(app: ServingApp, wire: Wire, reply: TestResponse) -> None:
    """Our worker answers a request itself, unless it leaves that to Flask: then byte for byte the same."""
    builder = EnvironBuilder(
        wire.path, method="POST", data=wire.body, content_type=wire.content_type, headers=dict(wire.headers)
    )
    route = app.fast_path.find(builder.get_environ())
    builder.close()
    assert route is not None, "these paths are hot"
    prediction = route.begin(wire.body)
    if prediction.reply is None:
        assert app.fast_path.run() == [prediction]
    status, body, headers = prediction.reply
    assert (status, body) == (reply.status_code, reply.data)
    assert {**dict(headers), "Content-Length": str(len(body))} == dict(reply.headers)


def check_answer(door: Door, reply: Reply, expected: Arrays, by: str) -> None:
    assert reply.status_code == 200, reply.text
    outputs = door.read(reply)
    assert len(outputs) == len(expected)
    assert set(outputs) in ({""}, set(expected))
    for name, array in outputs.items():
        wanted = expected[name] if name else next(iter(expected.values()))
        assert np.shape(array) == wanted.shape
        np.testing.assert_allclose(np.array(array, wanted.dtype), wanted, rtol=1e-5, atol=1e-6)
    assert reply.headers["Bmp-Model"] == by


def check_refusal(door: Door, reply: Reply, status: int) -> str:
    assert reply.status_code == status, reply.text
    assert reply.mimetype == (CONTENT_TYPE if isinstance(reply, GrpcReply) else "application/json")
    message = door.error(reply)
    assert 10 < len(message) < 700
    assert "Traceback" not in message and "/registry" not in message
    return message


# === Good questions ===


@every_door
@pytest.mark.parametrize(("model", "version"), [("flags", 1), ("flags", 2), ("prices", 1), ("pairs", 1)])
@pytest.mark.parametrize("count", [1, 3, 64, 65, 200])
def test_tensors(
    client: FlaskClient, app: ServingApp, models: Models, door: Door, model: str, version: int, count: int
) -> None:
    inputs = make_inputs(model, count, seed=count)
    question = Question(model, {name: array.tolist() for name, array in inputs.items()}, version)
    expected = models.answer(model, version, inputs)
    check_answer(door, send(client, door.put(question)), expected, f"{model}/{version}")


@every_door
def test_default_version_is_the_one_in_production(client: FlaskClient, models: Models, door: Door) -> None:
    inputs = make_inputs("flags", 2)
    reply = send(client, door.put(Question("flags", {"x": inputs["x"].tolist()})))
    check_answer(door, reply, models.answer("flags", 1, inputs), "flags/1")


@every_door
def test_an_alias_names_a_version(client: FlaskClient, models: Models, door: Door) -> None:
    inputs = make_inputs("flags", 2)
    for alias, version in (("production", 1), ("canary", 2)):
        reply = send(client, door.put(Question("flags", {"x": inputs["x"].tolist()}, alias=alias)))
        check_answer(door, reply, models.answer("flags", version, inputs), f"flags/{version}")


@every_door
@pytest.mark.parametrize(
    "values",
    [[[1, 2, 3]], [[0, -0.0, 1e-320]], [[1.5, 2, -3]], [[1e30, 1e-30, 2**70]], [[0.1, 0.2, 0.30000000000000004]]],
    ids=str,
)
def test_numbers_are_read_as_float32_reads_them(
    client: FlaskClient, models: Models, door: Door, values: list[list[float]]
) -> None:
    expected = models.answer("flags", 1, {"x": np.array(values, np.float32)})
    check_answer(door, send(client, door.put(Question("flags", {"x": values}))), expected, "flags/1")


@every_door
@pytest.mark.parametrize("model", ["passengers", "reviews", "tumours"])
@pytest.mark.parametrize("count", [1, 5])
def test_raw_features(client: FlaskClient, app: ServingApp, door: Door, model: str, count: int) -> None:
    columns = make_columns(MODELS[model][0], count, seed=count)
    expected = app.service.get(model).predict_raw(columns)
    question = Question(model, {name: column.tolist() for name, column in columns.items()})
    check_answer(door, send(client, door.put(question)), expected, f"{model}/1")


# === Bad questions ===

GOOD = Question("flags", {"x": [[0.5, 1, -2]]})
PAIR = Question("pairs", {"a": [[1, 2, 3]], "b": [[1, 2]]})
ROW = Question("passengers", {"age": [22], "fare": [7.25], "sex": ["a"]})


def with_x(value: Any) -> Question:
    return replace(GOOD, inputs={"x": value})


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


BAD = {
    "empty batch": with_x([]),
    "empty example": with_x([[]]),
    "too narrow": with_x([[1, 2]]),
    "too wide": with_x([[1, 2, 3, 4]]),
    "rank too low": with_x([1, 2, 3]),
    "rank too high": with_x([[[1, 2, 3]]]),
    "ragged": with_x([[1, 2, 3], [1, 2]]),
    "ragged, right total": with_x([[1, 2], [3, 4, 5, 6]]),
    "number among lists": with_x([[1, 2, 3], 4]),
    "list among numbers": with_x([[1, 2, [3]]]),
    "object among numbers": with_x([[1, 2, {}]]),
    "string among numbers": with_x([[1, 2, "3"]]),
    "the string nan": with_x([[1, 2, "nan"]]),
    "null among numbers": with_x([[1, 2, None]]),
    "true among numbers": with_x([[1, 2, True]]),
    "base64 among numbers": with_x([[1, 2, {"b64": "AAAA"}]]),
    "NaN": with_x([[1, 2, float("nan")]]),
    "Infinity": with_x([[1, 2, float("inf")]]),
    "-Infinity": with_x([[1, 2, -float("inf")]]),
    "1e999": with_x([[1, 2, "@1e999@"]]),
    "leading zero": with_x([[1, 2, "@01@"]]),
    "over float32": with_x([[1, 2, 1e39]]),
    "over what the model can compute with": with_x([[3e38, -3e38, 3e38]]),
    "a huge integer": with_x([[1, 2, 10**60]]),
    "a million-digit integer": with_x([[1, 2, "@" + "9" * 100_000 + "@"]]),
    "null": with_x(None),
    "a number": with_x(1),
    "a string": with_x("1"),
    "an object": with_x({}),
    "500 deep": with_x(deep(500)),
    "no input": replace(GOOD, inputs={}),
    "another input": replace(GOOD, inputs={"y": [[1, 2, 3]]}),
    "an input too many": replace(GOOD, inputs={"x": [[1, 2, 3]], "y": [[1, 2, 3]]}),
    "missing input": replace(PAIR, inputs={"a": [[1, 2, 3]]}),
    "inputs disagree": replace(PAIR, inputs={"a": [[1, 2, 3]], "b": [[1, 2], [3, 4]]}),
    "float for an integer": replace(PAIR, inputs={**PAIR.inputs, "b": [[1.5, 2]]}),
    "boolean for an integer": replace(PAIR, inputs={**PAIR.inputs, "b": [[True, 2]]}),
    "over int32": replace(PAIR, inputs={**PAIR.inputs, "b": [[2**31, 2]]}),
    "over int64": replace(PAIR, inputs={**PAIR.inputs, "b": [[2**80, 2]]}),
    "string for a feature": replace(ROW, inputs={**ROW.inputs, "fare": ["7.25"]}),
    "number for a category": replace(ROW, inputs={**ROW.inputs, "sex": [1]}),
    "missing feature": replace(ROW, inputs={"age": [22], "sex": ["a"]}),
    "null for a feature": replace(ROW, inputs={**ROW.inputs, "fare": [None]}),
    "unknown feature": replace(ROW, inputs={**ROW.inputs, "cabin": ["B5"]}),
    "number for a text": Question("reviews", {"review": [1]}),
    "not base64": Question("reviews", {"review": [{"b64": "?"}]}),
    "not UTF-8 in base64": Question("reviews", {"review": [{"b64": "/w=="}]}),
    "too many examples": with_x([[1, 2, 3]] * 40_000),
    "unknown model": replace(GOOD, model="flag"),
    "a long model": replace(GOOD, model="f" * 2_000),
    "upper case model": replace(GOOD, model="FLAGS"),
    "unknown version": replace(GOOD, version=7),
    "version zero": replace(GOOD, version=0),
    "unknown alias": replace(GOOD, alias="canari"),
}
STATUS = {
    "too many examples": 413,
    **dict.fromkeys(("unknown model", "a long model", "upper case model"), 404),
    **dict.fromkeys(("unknown version", "version zero", "unknown alias"), 404),
}


@every_door
@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_gets_the_same_refusal_and_harms_nobody(client: FlaskClient, door: Door, name: str) -> None:
    check_refusal(door, send(client, door.put(BAD[name])), STATUS.get(name, 400))
    assert send(client, door.put(GOOD)).status_code == 200


BROKEN: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "empty": (lambda body: b"", 400),
    "cut short": (lambda body: body[:-2], 400),
    "trailing garbage": (lambda body: body + b"x", 400),
    "twice": (lambda body: body * 2, 400),
    "not UTF-8": (lambda body: body[:-1] + b',"\xff":1}', 400),
    "a byte order mark": (lambda body: b"\xef\xbb\xbf" + body, 400),
    "in an array": (lambda body: b"[" + body + b"]", 400),
    "a string": (lambda body: b'"x_test"', 400),
    "null": (lambda body: b"null", 400),
    "a number": (lambda body: b"3", 400),
    "an empty object": (lambda body: b"{}", 400),
    "no JSON": (lambda body: b"x_test=1", 400),
    "NUL bytes": (lambda body: b"\0" * 50, 400),
    "deep arrays": (lambda body: b"[" * 100_000, 400),
    "deep balanced arrays": (lambda body: b"[" * 90_000 + b"]" * 90_000, 400),
    "deep objects": (lambda body: b'{"inputs":' * 15_000, 400),
    "over the limit": (lambda body: body + b" " * MAX_BODY_BYTES, 413),
}


@every_door
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_body_gets_the_same_refusal(client: FlaskClient, door: Door, name: str) -> None:
    wire, (breaks, status) = door.put(GOOD), BROKEN[name]
    if name == "twice" and wire.path == grpc_doors.PREDICT:
        status = 200  # two messages are one: the later one counts
    reply = send(client, replace(wire, body=breaks(wire.body)))
    assert reply.status_code == status
    if status != 200:
        check_refusal(door, reply, status)


@every_door
def test_a_body_at_the_limit_is_answered(client: FlaskClient, door: Door) -> None:
    wire = door.put(GOOD)
    if wire.headers:  # bytes come behind the JSON, which may be as long as it likes
        size = int(wire.headers[HEADER_LENGTH])
        head = wire.body[:size].ljust(MAX_BODY_BYTES - len(wire.body) + size)
        wire = replace(wire, body=head + wire.body[size:], headers={HEADER_LENGTH: str(len(head))})
    is_grpc = wire.content_type == CONTENT_TYPE
    body = grpc_doors.pad(wire.body, MAX_BODY_BYTES) if is_grpc else wire.body.ljust(MAX_BODY_BYTES)
    assert len(body) == MAX_BODY_BYTES
    assert send(client, replace(wire, body=body)).status_code == 200


@every_door
@pytest.mark.parametrize(
    "name", ["string among numbers", "over float32", "missing feature", "unknown model", "unknown alias"]
)
def test_a_refusal_says_what_is_wrong(client: FlaskClient, door: Door, name: str) -> None:
    says = {
        "string among numbers": "is a string; expected a number for float32 (B, 3)",
        "over float32": "a number that float32 cannot represent",
        "missing feature": "fare is missing",
        "unknown model": "Did you mean 'flags'?",
        "unknown alias": "Did you mean 'canary'?",
    }
    reply = send(client, door.put(BAD[name]))
    assert says[name] in check_refusal(door, reply, STATUS.get(name, 400))


@every_door
def test_while_models_load_it_is_503(models: Models, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Service, "start", lambda self: None)
    reply = send(create_app(Settings(registry=models.registry.root)).test_client(), door.put(GOOD))
    check_refusal(door, reply, 503)
    assert reply.headers["Retry-After"] == "1"


@every_door
def test_a_bug_is_a_500_without_details(
    models: Models, door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Service, "start", lambda self: None)
    monkeypatch.setattr(Service, "get", lambda self, *_, **__: 1 / 0)
    reply = send(create_app(Settings(registry=models.registry.root)).test_client(), door.put(GOOD))
    assert "division" not in check_refusal(door, reply, 500)
    assert "ZeroDivisionError" in caplog.text


# === Through a real server ===


def test_over_the_wire_it_is_the_same(client: FlaskClient, models: Models, tmp_path: Path) -> None:
    """Our worker, which answers predictions by itself, against Flask: byte for byte, over one connection."""
    environ = {"BMP_MAX_BODY_BYTES": str(MAX_BODY_BYTES), "BMP_WORKERS": "1"}
    wires = [door.put(question) for door in DOORS.values() for question in (GOOD, PAIR, ROW, *BAD.values())]
    wires = [wire for wire in wires if wire.content_type != CONTENT_TYPE and len(wire.body) <= MAX_BODY_BYTES]
    with run_server(models.registry.root, tmp_path / "log.txt", environ=environ) as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
        connection.connect()
        local = connection.sock.getsockname()
        for wire in wires:
            headers = {"Content-Type": wire.content_type, **wire.headers}
            connection.request("POST", wire.path, wire.body, headers)
            reply, expected = connection.getresponse(), send(client, wire)
            assert (reply.status, reply.read()) == (expected.status_code, expected.data), wire
            assert {*expected.headers.items()} <= {*reply.headers.items()}, wire
        assert connection.sock.getsockname() == local, "the connection stayed"
        connection.close()


# === Whatever comes ===

numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(width=32),
    st.sampled_from([0, -0.0, 1e-320, 3.4028235e38, 3.4028236e38, 1e39, 2**53 + 1, 2**64 - 1]),
)
examples = st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3)
anything = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "b64", "y"]), inner, max_size=2),
    max_leaves=8,
)
same_client = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)


@same_client
@given(value=st.lists(examples | st.lists(numbers, max_size=4), max_size=4) | st.lists(anything, max_size=3) | anything)
@example(value=[[1, 2, 3], {"x": [1, 2, 3]}])
@example(value=[{"x": [1, 2, 3]}])
@example(value={"x": [[1, 2, 3]]})
def test_any_value_gets_one_verdict_and_one_answer(client: FlaskClient, value: Any) -> None:
    replies = {name: send(client, door.put(with_x(value))) for name, door in DOORS.items()}
    named = {name: reply for name, reply in replies.items() if "no names" not in name}  # bare, a value may be names
    assert {reply.status_code for reply in replies.values()} <= {200, 400}, {n: r.text for n, r in replies.items()}
    assert len({reply.status_code for reply in named.values()}) == 1, {n: r.text for n, r in named.items()}
    answers = [DOORS[name].read(reply) for name, reply in named.items() if reply.status_code == 200]
    for answer in answers[1:]:
        np.testing.assert_array_equal(*(np.array([*each.values()], np.float32) for each in (answer, answers[0])))


@same_client
@given(data=st.data(), model=st.sampled_from([GOOD, PAIR, ROW]))
def test_any_bytes_get_an_answer_or_a_refusal(client: FlaskClient, data: st.DataObject, model: Question) -> None:
    door = DOORS[data.draw(st.sampled_from(sorted(DOORS)))]
    wire = door.put(model)
    start = data.draw(st.integers(0, len(wire.body)))
    end = data.draw(st.integers(start, len(wire.body)))
    body = wire.body[:start] + data.draw(st.binary(max_size=8)) + wire.body[end:]
    reply = send(client, replace(wire, body=body))
    if reply.status_code != 200:
        check_refusal(door, reply, 404 if reply.status_code == 404 else 400)  # the name of the model may have been hit
