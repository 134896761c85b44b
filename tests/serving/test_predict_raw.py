"""What a person has, sent to a real server: the answer of the trained model, or one clear error."""

import base64
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import tensorflow as tf
from conftest import Server
from raw_models import MODELS, Published, make_columns, make_png, make_text, make_wav, publish_models

from bmp.transforms import Columns

RANDOM = np.random.default_rng(7)
SAVED_MODELS = ("adverts",)
TOLERANCE = 1e-4
BODIES = {
    # content type: (model, its only feature, what makes one)
    "image/png": ("photos", "photo", make_png),
    "image/jpeg": ("photos", "photo", lambda random: make_png(random, "JPEG")),
    "audio/wav": ("clips", "clip", make_wav),
    "audio/x-wav": ("clips", "clip", make_wav),
    "audio/wave": ("clips", "clip", make_wav),
    "text/plain": ("reviews", "review", lambda random: make_text(random).encode()),
    "text/plain; charset=UTF-8": ("letters", "text", lambda random: make_text(random).encode()),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    return publish_models(tmp_path_factory.mktemp("raw"), list(MODELS), SAVED_MODELS)


@pytest.fixture(scope="module")
def raw_server(published: dict[str, Published], serve: Callable[..., Server]) -> Server:
    """One worker that serves all of them."""
    return serve(published["photos"].version.path.parent.parent, "--workers", "1")


def post(server: Server, body: Any, content_type: str = "application/json", **query: Any) -> requests.Response:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": content_type} if content_type else {}
    return requests.post(f"{server.url}/predict", data=data, headers=headers, params=query, timeout=30)


def to_rows(columns: Columns) -> list[dict[str, Any]]:
    """The same examples as JSON has them."""
    rows = []
    for values in zip(*columns.values(), strict=True):
        cells = ({"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value for value in values)
        cells = (cell.tolist() if isinstance(cell, np.generic | np.ndarray) else cell for cell in cells)
        rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def expect_of_training(model: Published, columns: Columns) -> np.ndarray:
    """What the Keras model answers behind the transforms that training runs, `(N, *shape)`."""
    objects = {name: column.tolist() if column.dtype == object else column for name, column in columns.items()}
    outputs = model.run_as_in_training({name: tf.constant(column) for name, column in objects.items()}).numpy()
    if model.signature.objective != "next_token":
        return outputs
    lengths = [min(len(text.encode()), 16) for text in columns["text"]]
    return outputs[np.arange(len(outputs)), np.array(lengths) - 1]


@pytest.mark.parametrize("name", MODELS)
def test_a_thousand_rows_get_the_answers_of_training(
    raw_server: Server, published: dict[str, Published], name: str
) -> None:
    model = published[name]
    for seed in range(10):
        columns = make_columns(model.preprocessing.fields, 100, seed=seed + 100)
        reply = post(raw_server, {"instances": to_rows(columns), "model": name})
        assert reply.status_code == 200, reply.text
        np.testing.assert_allclose(reply.json()["prediction"], expect_of_training(model, columns), atol=TOLERANCE)


@pytest.mark.parametrize("key", ["x_test", "instances"])
def test_tensors_that_are_transformed_are_sent_as_they_are_in_the_data(
    raw_server: Server, published: dict[str, Published], key: str
) -> None:
    model = published["tumours"]
    columns = make_columns(model.preprocessing.fields, 40, seed=3)
    expected = expect_of_training(model, columns)
    assert np.abs(model.model(columns["features"]).numpy() - expected).max() > 0.01
    for value in (columns["features"].tolist(), {"features": columns["features"].tolist()}):
        reply = post(raw_server, {key: value, "top_k": 1}, model="tumours")
        assert reply.status_code == 200, reply.text
        np.testing.assert_allclose(reply.json()["prediction"], expected, atol=TOLERANCE)
        assert len(reply.json()["top_k"]) == 40
    reply = post(raw_server, {key: [[1, 2, 3]]}, model="tumours")
    assert reply.status_code == 400 and "(B, 5)" in reply.json()["error"]["message"]


@pytest.mark.parametrize("content_type", BODIES)
def test_a_body_gets_the_answer_of_training(
    raw_server: Server, published: dict[str, Published], content_type: str
) -> None:
    name, feature, make = BODIES[content_type]
    for _ in range(20):
        body = make(RANDOM)
        column = np.array([body.decode() if content_type.startswith("text") else body], object)
        reply = post(raw_server, body, content_type, model=name, version=1)
        assert reply.status_code == 200, reply.text
        assert list(reply.json()) == ["prediction"] and reply.headers["Bmp-Model"] == f"{name}/1"
        expected = expect_of_training(published[name], {feature: column})
        np.testing.assert_allclose(reply.json()["prediction"], expected, atol=TOLERANCE)


def test_missing_values_are_those_of_training(raw_server: Server, published: dict[str, Published]) -> None:
    rows: list[dict[str, Any]] = [
        {"fare": 5},
        {"age": None, "fare": 6.5, "sex": None},
        {"fare": 7, "sex": "unheard of"},
    ]
    columns = {
        "age": np.full(3, np.nan, np.float32),
        "fare": np.array([5, 6.5, 7], np.float32),
        "sex": np.array(["", "", "unheard of"], object),
    }
    reply = post(raw_server, {"instances": rows}, model="passengers")
    expected = expect_of_training(published["passengers"], columns)
    np.testing.assert_allclose(reply.json()["prediction"], expected, atol=TOLERANCE)


def test_ready_tensors_stay_possible(raw_server: Server, published: dict[str, Published]) -> None:
    model = published["passengers"]
    inputs = model.preprocessing.run(make_columns(model.preprocessing.fields, 70))["features"]
    expected = model.model(inputs).numpy()
    for value in (inputs.tolist(), {"features": inputs.tolist()}):
        reply = post(raw_server, {"x_test": value, "model": "passengers"})
        np.testing.assert_allclose(reply.json()["prediction"], expected, atol=1e-6)


def test_an_object_of_inputs_stays_tensors(raw_server: Server, published: dict[str, Published]) -> None:
    model = published["adverts"]
    inputs = model.preprocessing.run(make_columns(model.preprocessing.fields, 3))
    body = {"x_test": {name: array.tolist() for name, array in inputs.items()}, "model": "adverts"}
    np.testing.assert_allclose(post(raw_server, body).json()["prediction"], model.model(inputs), atol=1e-6)


def test_a_text_goes_on_from_its_last_token(raw_server: Server, published: dict[str, Published]) -> None:
    # A causal model answers the same whatever the padding: the whole text, and its last 16 bytes alone.
    text = "the quick brown fox jumps over the lazy dog"
    replies = [
        post(raw_server, {"instances": texts, "top_k": 3}, model="letters").json()
        for texts in ([text, "t"], [text[-16:], "t"])
    ]
    assert replies[0] == replies[1]
    prediction = np.array(replies[0]["prediction"])
    assert prediction.shape == (2, 258)
    tokens = published["letters"].preprocessing.run({"text": np.array([text, "t"], object)})["text"]
    outputs = published["letters"].model(tokens).numpy()  # (2, 16, 258)
    np.testing.assert_allclose(prediction, [outputs[0, 15], outputs[1, 0]], atol=TOLERANCE)
    tensors = post(raw_server, {"instances": tokens.tolist(), "top_k": 3}, model="letters").json()
    np.testing.assert_allclose(tensors["prediction"], outputs, atol=TOLERANCE)
    assert tensors["top_k"] == replies[0]["top_k"]  # the padding of ready tokens is seen as well


@pytest.mark.parametrize("name", ["passengers", "reviews", "photos", "clips", "letters"])
@pytest.mark.parametrize("in_query", [True, False])
def test_top_k_names_the_likeliest(
    raw_server: Server, published: dict[str, Published], name: str, in_query: bool
) -> None:
    model = published[name]
    rows = to_rows(make_columns(model.preprocessing.fields, 5))
    query = {"model": name, "top_k": 2} if in_query else {}
    body = {"instances": rows} if in_query else {"instances": rows, "model": name, "top_k": 2}
    content = post(raw_server, body, **query).json()
    assert list(content) == ["prediction", "top_k"]
    for prediction, ranked in zip(content["prediction"], content["top_k"], strict=True):
        shares = [1 - prediction[0], prediction[0]] if name == "passengers" else prediction
        best = sorted(range(len(shares)), key=lambda index: -shares[index])[:2]
        assert [entry["label"] for entry in ranked] == [model.labels[index] for index in best]
        assert [entry["probability"] for entry in ranked] == pytest.approx([shares[index] for index in best])
        assert all(list(entry) == ["label", "probability"] for entry in ranked)


def test_top_k_beside_a_body_and_ready_tensors(raw_server: Server) -> None:
    content = post(raw_server, make_png(RANDOM), "image/png", model="photos", top_k=4).json()
    assert sorted(entry["label"] for entry in content["top_k"][0]) == ["cat", "dog", "emu", "fox"]
    inputs = np.zeros((2, 12, 10, 3)).tolist()
    content = post(raw_server, {"x_test": inputs, "model": "photos", "top_k": 1}).json()
    assert [len(ranked) for ranked in content["top_k"]] == [1, 1]


def make_bomb(size: int = 60_000) -> bytes:
    """A PNG that says it has `size * size` pixels, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PNG = make_png(RANDOM)
WAV = make_wav(RANDOM)
BAD_BODIES: dict[str, tuple[str, str, bytes, int, str, str]] = {
    # name: (model, content type, body, status, code, what the message must say)
    "an empty image": ("photos", "image/png", b"", 400, "invalid_request", "The body is empty"),
    "no image": ("photos", "image/png", b"hello", 400, "invalid_request", "expected a PNG or JPEG file"),
    "a GIF": ("photos", "image/png", b"GIF89a" + bytes(50), 400, "invalid_request", "expected a PNG or JPEG file"),
    "half a PNG": ("photos", "image/png", PNG[: len(PNG) // 2], 400, "invalid_request", "cut short"),
    "a damaged PNG": ("photos", "image/png", PNG[:60] + bytes(9) + PNG[69:], 400, "invalid_request", "damaged"),
    "half a JPEG": ("photos", "image/jpeg", make_png(RANDOM, "JPEG")[:300], 400, "invalid_request", "damaged"),
    "a bomb": ("photos", "image/png", make_bomb(), 400, "invalid_request", "3,600,000,000 pixels"),
    "no sound": ("clips", "audio/wav", PNG, 400, "invalid_request", "expected a WAV file"),
    "half a header": ("clips", "audio/wav", WAV[:30], 400, "invalid_request", "damaged"),
    "silence of no length": ("clips", "audio/wav", WAV[:44], 400, "invalid_request", "WAV file"),
    "no UTF-8": ("reviews", "text/plain", b"caf\xe9", 400, "invalid_request", "byte 3 is 0xe9"),
    "another charset": ("reviews", "text/plain; charset=latin-1", b"cafe", 415, "unsupported_media_type", "latin-1"),
    "an empty text": ("letters", "text/plain", b"", 400, "invalid_request", "The body is empty"),
    "an image for a text": (
        "reviews",
        "image/png",
        PNG,
        415,
        "unsupported_media_type",
        "application/json or text/plain",
    ),
    "a text for an image": (
        "photos",
        "text/plain",
        b"cat",
        415,
        "unsupported_media_type",
        "or image/png or image/jpeg",
    ),
    "a text for a table": (
        "passengers",
        "text/plain",
        b"22",
        415,
        "unsupported_media_type",
        "send it as application/json,",
    ),
    "an image among features": (
        "adverts",
        "image/png",
        PNG,
        415,
        "unsupported_media_type",
        "send it as application/json,",
    ),
    "another image type": ("photos", "image/gif", b"GIF89a", 415, "unsupported_media_type", "image/png"),
    "no content type": ("photos", "", PNG, 415, "unsupported_media_type", "no Content-Type"),
    "an unknown model": ("fotos", "image/png", PNG, 404, "not_found", "Did you mean 'photos'?"),
}


def check_error(reply: requests.Response, status: int, code: str, says: str) -> None:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error["code"] == code and says in error["message"], error
    assert 10 < len(error["message"]) < 500
    for secret in ("Traceback", "site-packages", "/registry", " at 0x", "_io."):
        assert secret not in reply.text


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_gets_one_clear_error(raw_server: Server, name: str) -> None:
    model, content_type, body, status, code, says = BAD_BODIES[name]
    check_error(post(raw_server, body, content_type, model=model), status, code, says)
    assert post(raw_server, PNG, "image/png", model="photos").status_code == 200


ROW = {"fare": 1}
PHOTO = {"b64": base64.b64encode(PNG).decode()}
BAD_ROWS: dict[str, tuple[str, Any, str, str]] = {
    # name: (model, inputs, code, what the message must say)
    "a string for a number": ("passengers", [ROW, {"fare": "1"}], "invalid_input", "instances[1].fare is a string"),
    "an unknown feature": ("passengers", [{"fare": 1, "agee": 2}], "invalid_input", "Did you mean 'age'?"),
    "nothing that fills": ("passengers", [{"age": 1}], "invalid_input", "instances[0].fare is missing"),
    "a list among rows": ("passengers", [ROW, [1, 2]], "invalid_input", "instances[1] is an array"),
    "one row outside a list": ("passengers", {"fare": 1}, "invalid_input", "expected a list"),
    "one text outside a list": ("reviews", "good", "invalid_input", "expected a list"),
    "numbers of a wrong width": ("passengers", [[1, 2]], "invalid_input", "has shape (1, 2)"),
    "a list of nothing": ("passengers", [], "invalid_input", "float32 (B, "),
    "no base64": ("photos", [{"b64": "*"}], "invalid_input", "not valid base64"),
    "base64 of no image": ("photos", [PHOTO, {"b64": "aGk="}], "invalid_request", "example 1"),
    "base64 of nothing": ("clips", [{"b64": ""}], "invalid_request", "expected a WAV file"),
    "an empty text to go on from": ("letters", ["a", ""], "invalid_request", "The text of example 1 is empty"),
    "half a surrogate pair": ("letters", ["\ud800"], "invalid_request", "not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_get_one_clear_error(raw_server: Server, name: str) -> None:
    model, inputs, code, says = BAD_ROWS[name]
    check_error(post(raw_server, {"instances": inputs, "model": model}), 400, code, says)


@pytest.mark.parametrize(
    ("query", "extra", "says"),
    [
        ({"top_k": 0}, {}, "top_k is 0; expected 1 to 2"),
        ({"top_k": 3}, {}, "top_k is 3; expected 1 to 2"),
        ({"top_k": "two"}, {}, "'top_k' is 'two'"),
        ({"topk": 2}, {}, "Did you mean 'top_k'?"),
        ({}, {"top_k": 0}, "top_k is 0"),
        ({}, {"top_k": -1}, "top_k is -1"),
        ({}, {"top_k": "2"}, "'top_k' is a string"),
        ({}, {"top_k": 2.0}, "'top_k' is a number; expected a whole number"),
        ({}, {"top_k": True}, "'top_k' is a boolean"),
        ({"top_k": 1}, {"top_k": 1}, "Both the query and the body say 'top_k'"),
        ({"version": 1}, {"version": 1}, "Both the query and the body say 'version'"),
        ({}, {"model": "adverts", "top_k": 1}, "has no labels"),
    ],
)
def test_bad_options_get_one_clear_error(
    raw_server: Server, query: dict[str, Any], extra: dict[str, Any], says: str
) -> None:
    rows = to_rows(make_columns(MODELS["adverts"][0], 1)) if "model" in extra else [ROW]
    body = {"instances": rows, "model": "passengers", **extra}
    check_error(post(raw_server, body, **query), 400, "invalid_request", says)


def test_more_examples_than_memory_holds_are_refused(raw_server: Server) -> None:
    # 258 probabilities for each of 16 tokens: 16,512 bytes an example.
    check_error(
        post(raw_server, {"instances": ["a"] * 20_000, "model": "letters"}), 400, "invalid_request", "at most 16,256"
    )
    zeros = np.zeros((20_000, 16), int).tolist()
    check_error(post(raw_server, {"x_test": zeros, "model": "letters"}), 400, "invalid_request", "at most 16,256")


def test_many_large_images_are_refused_before_one_is_decoded(raw_server: Server) -> None:
    bomb = {"b64": base64.b64encode(make_bomb(6_000)).decode()}  # 36 million pixels: not too many, alone
    body = {"instances": [bomb] * 3, "model": "photos"}
    check_error(post(raw_server, body), 400, "invalid_request", "108,000,000 pixels; expected at most 100,000,000")


def test_several_models_and_no_name(raw_server: Server) -> None:
    check_error(post(raw_server, PNG, "image/png"), 400, "invalid_request", "say which one")
    check_error(post(raw_server, PNG, "image/gif"), 415, "unsupported_media_type", "or audio/wav")


def test_models_says_what_can_be_sent(raw_server: Server) -> None:
    models = {model["name"]: model for model in raw_server.get("/models").json()["models"]}
    assert set(models) == set(MODELS)
    passengers = models["passengers"]
    assert passengers["features"] == [
        {"name": "age", "kind": "number", "required": False},
        {"name": "fare", "kind": "number", "required": True},
        {"name": "sex", "kind": "category", "required": False},
    ]
    assert passengers["transforms"] == ["fill", "standardise", "one_hot", "join"]
    assert passengers["objective"] == "binary" and passengers["labels"] == ["died", "survived"]
    assert passengers["content_types"] == ["application/json"]
    assert models["photos"]["content_types"] == ["application/json", "image/png", "image/jpeg"]


def test_a_sole_model_needs_no_name(
    published: dict[str, Published], serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(published["photos"].version.path.parent.parent, "--workers", "1", "--model", "photos")
    reply = post(server, PNG, "image/png", top_k=1)
    assert reply.status_code == 200 and len(reply.json()["top_k"][0]) == 1
    inputs = np.zeros((1, 12, 10, 3)).tolist()
    assert len(post(server, {"x_test": inputs}, top_k=1).json()["top_k"][0]) == 1
    check_error(post(server, {"x_test": inputs}, top_k=5), 400, "invalid_request", "expected 1 to 4")
    check_error(post(server, {"x_test": inputs}, model="nobody"), 404, "not_found", "nobody")
    check_error(post(server, PNG, "image/gif"), 415, "unsupported_media_type", "image/jpeg")
