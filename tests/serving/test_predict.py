"""The doors of a real server: right answers, and one verdict with one shape for every bad request."""

import json
import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server

from bmp.artifact.litert import LiteRTRunner
from bmp.run import Run

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def images(quick_run: Run) -> np.ndarray:
    return quick_run.data.test.load().inputs["image"]  # (N, 8, 8)


@pytest.fixture(scope="module")
def expected(quick_run: Run, images: np.ndarray) -> np.ndarray:
    runner = LiteRTRunner(quick_run.version.path / "model.tflite", quick_run.data.signature)
    return runner.run({"image": images})["probabilities"]


@pytest.mark.parametrize("key", ["x_test", "instances"])
@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 200])
def test_answers_what_the_exported_file_answers(
    server: Server, images: np.ndarray, expected: np.ndarray, key: str, size: int
) -> None:
    reply = server.post({key: images[:size].tolist()})
    assert reply.status_code == 200, reply.text
    assert list(reply.json()) == ["prediction"]
    np.testing.assert_allclose(reply.json()["prediction"], expected[:size], atol=1e-6)
    assert reply.headers["Bmp-Model"] == "digits/1"
    assert reply.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "extra", [{"model": "digits"}, {"version": 1}, {"model": "digits", "version": 1}, {"model": None, "version": None}]
)
def test_takes_a_model_and_a_version(
    server: Server, images: np.ndarray, expected: np.ndarray, extra: dict[str, Any]
) -> None:
    reply = server.post({"x_test": images[:3].tolist(), **extra})
    np.testing.assert_allclose(reply.json()["prediction"], expected[:3], atol=1e-6)


def test_takes_inputs_by_name_and_whole_numbers(server: Server, images: np.ndarray, expected: np.ndarray) -> None:
    whole = images[:2].astype(int).tolist()
    assert np.array_equal(whole, images[:2])
    for inputs in (whole, {"image": whole}):
        np.testing.assert_allclose(server.post({"x_test": inputs}).json()["prediction"], expected[:2], atol=1e-6)


IMAGE = [[0.5] * 8 for _ in range(8)]


def with_pixel(text: str) -> bytes:
    """A good body whose pixel [0][2][3] is the given JSON text."""
    body = json.dumps(
        {"x_test": [[[*row] if y != 2 else [*row[:3], "PIXEL", *row[4:]] for y, row in enumerate(IMAGE)]]}
    )
    return body.replace('"PIXEL"', text).encode()


def body(**content: Any) -> bytes:
    return json.dumps(content).encode()


BAD_BODIES = {
    # name: (body, status, code, what the message must say)
    "empty": (b"", 400, "invalid_request", "not valid JSON"),
    "not JSON": (b"x_test=1", 400, "invalid_request", "not valid JSON"),
    "cut short": (body(x_test=[IMAGE])[:-2], 400, "invalid_request", "not valid JSON"),
    "trailing garbage": (body(x_test=[IMAGE]) + b"x", 400, "invalid_request", "not valid JSON"),
    "not UTF-8": (b'{"x_test": "\xff"}', 400, "invalid_request", "not valid JSON"),
    "array": (b"[[1, 2]]", 400, "invalid_request", "is an array"),
    "string": (b'"x_test"', 400, "invalid_request", "is a string"),
    "null": (b"null", 400, "invalid_request", "is null"),
    "number": (b"3", 400, "invalid_request", "is a number"),
    "empty object": (b"{}", 400, "invalid_request", "no inputs"),
    "missing key": (body(model="digits"), 400, "invalid_request", "no inputs"),
    "misspelt key": (body(x_tset=[IMAGE]), 400, "invalid_request", "Did you mean 'x_test'?"),
    "both keys": (body(x_test=[IMAGE], instances=[IMAGE]), 400, "invalid_request", "exactly one"),
    "unknown key": (body(x_test=[IMAGE], verison=1), 400, "invalid_request", "Did you mean 'version'?"),
    "inputs null": (b'{"x_test": null}', 400, "invalid_input", "x_test is null"),
    "inputs number": (b'{"x_test": 1}', 400, "invalid_input", "x_test is a number"),
    "inputs string": (b'{"x_test": "1"}', 400, "invalid_input", "x_test is a string"),
    "inputs boolean": (b'{"x_test": true}', 400, "invalid_input", "x_test is a boolean"),
    "unknown input": (body(x_test={"imaeg": [IMAGE]}), 400, "invalid_input", "Did you mean 'image'?"),
    "no input": (body(x_test={}), 400, "invalid_input", "'image' is missing"),
    "empty list": (body(x_test=[]), 400, "invalid_input", "float32 (B, 8, 8)"),
    "list of empty list": (body(x_test=[[]]), 400, "invalid_input", "float32 (B, 8, 8)"),
    "list of empty rows": (body(x_test=[[[]] * 8]), 400, "invalid_input", "float32 (B, 8, 8)"),
    "rank too low": (body(x_test=IMAGE), 400, "invalid_input", "shape (8, 8)"),
    "rank far too low": (body(x_test=[1, 2]), 400, "invalid_input", "shape (2,)"),
    "rank too high": (body(x_test=[[IMAGE]]), 400, "invalid_input", "shape (1, 1, 8, 8)"),
    "flat": (body(x_test=[[0.5] * 64]), 400, "invalid_input", "shape (1, 64)"),
    "too wide": (body(x_test=[[[*row, 1] for row in IMAGE]]), 400, "invalid_input", "shape (1, 8, 9)"),
    "too narrow": (body(x_test=[[row[1:] for row in IMAGE]]), 400, "invalid_input", "shape (1, 8, 7)"),
    "too high": (body(x_test=[[*IMAGE, IMAGE[0]]]), 400, "invalid_input", "shape (1, 9, 8)"),
    "transposed count": (body(x_test=[[[1] * 4] * 16]), 400, "invalid_input", "shape (1, 16, 4)"),
    "ragged rows": (body(x_test=[[*IMAGE[:7], [0.5] * 7]]), 400, "invalid_input", "x_test[0][7] has 7 elements"),
    "ragged, right total": (
        body(x_test=[[*IMAGE[:6], [0.5] * 7, [0.5] * 9]]),
        400,
        "invalid_input",
        "x_test[0][6] has 7 elements",
    ),
    "ragged images": (body(x_test=[IMAGE, IMAGE[:7]]), 400, "invalid_input", "x_test[1] has 7 elements"),
    "number among lists": (body(x_test=[IMAGE, 1]), 400, "invalid_input", "x_test[1] is a number"),
    "list among numbers": (with_pixel("[1]"), 400, "invalid_input", "x_test[0][2][3] is an array"),
    "object among numbers": (with_pixel("{}"), 400, "invalid_input", "x_test[0][2][3] is an object"),
    "string among numbers": (with_pixel('"1"'), 400, "invalid_input", "x_test[0][2][3] is a string"),
    "the string nan": (with_pixel('"nan"'), 400, "invalid_input", "x_test[0][2][3] is a string"),
    "null among numbers": (with_pixel("null"), 400, "invalid_input", "x_test[0][2][3] is null"),
    "true among numbers": (with_pixel("true"), 400, "invalid_input", "x_test[0][2][3] is a boolean"),
    "false among numbers": (with_pixel("false"), 400, "invalid_input", "x_test[0][2][3] is a boolean"),
    "NaN": (with_pixel("NaN"), 400, "invalid_request", "not valid JSON"),
    "Infinity": (with_pixel("Infinity"), 400, "invalid_request", "not valid JSON"),
    "-Infinity": (with_pixel("-Infinity"), 400, "invalid_request", "not valid JSON"),
    "1e999": (with_pixel("1e999"), 400, "invalid_request", "not valid JSON"),
    "over float32": (with_pixel("1e39"), 400, "invalid_input", "x_test[0][2][3] holds a number that float32"),
    "a huge integer": (with_pixel("1" + "0" * 60), 400, "invalid_input", "x_test[0][2][3] holds a number that float32"),
    "leading zero": (with_pixel("01"), 400, "invalid_request", "not valid JSON"),
    "two numbers": (with_pixel("1 2"), 400, "invalid_request", "not valid JSON"),
    "hexadecimal": (with_pixel("0x1"), 400, "invalid_request", "not valid JSON"),
    "deep arrays": (b"[" * 100_000, 400, "invalid_request", "not valid JSON"),
    "deep balanced arrays": (b"[" * 100_000 + b"]" * 100_000, 400, "invalid_request", "not valid JSON"),
    "deep objects": (b'{"x_test":' * 100_000, 400, "invalid_request", "not valid JSON"),
    "500 deep under the key": (
        b'{"x_test":' + b"[" * 500 + b"]" * 500 + b"}",
        400,
        "invalid_input",
        "more than 32 lists deep",
    ),
    "model of a wrong type": (body(x_test=[IMAGE], model=1), 400, "invalid_request", "'model' is a number"),
    "version of a wrong type": (body(x_test=[IMAGE], version="1"), 400, "invalid_request", "'version' is a string"),
    "version true": (body(x_test=[IMAGE], version=True), 400, "invalid_request", "'version' is a boolean"),
    "version 1.0": (body(x_test=[IMAGE], version=1.0), 400, "invalid_request", "'version' is a number"),
    "unknown model": (body(x_test=[IMAGE], model="digit"), 404, "not_found", "Did you mean 'digits'?"),
    "a path as model": (body(x_test=[IMAGE], model="../digits"), 404, "not_found", "No model is named"),
    "a very long model": (body(x_test=[IMAGE], model="d" * 10_000), 404, "not_found", "No model is named"),
    "unknown version": (body(x_test=[IMAGE], version=2), 404, "not_found", "served at version 1, not 2"),
    "version zero": (body(x_test=[IMAGE], version=0), 404, "not_found", "served at version 1, not 0"),
    "a huge version": (body(x_test=[IMAGE], version=10**30), 400, "invalid_request", "'version'"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body_gets_one_clear_error_and_harms_nobody(server: Server, name: str) -> None:
    data, status, code, says = BAD_BODIES[name]
    with requests.Session() as session:
        reply = session.post(f"{server.url}/predict", data=data, headers=JSON, timeout=10)
        check_error(reply, status, code)
        assert says in reply.json()["error"]["message"]
        good = session.post(f"{server.url}/predict", json={"x_test": [IMAGE]}, timeout=10)
    assert good.status_code == 200 and len(good.json()["prediction"][0]) == 10


def check_error(reply: requests.Response, status: int, code: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["Content-Type"] == "application/json"
    error = reply.json()["error"]
    assert list(error) == ["code", "message", "expected", "received"]
    assert error["code"] == code
    assert 10 < len(error["message"]) < 500
    assert "Traceback" not in reply.text and "/registry" not in reply.text


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_wrong_content_type_is_415(server: Server, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    reply = requests.post(f"{server.url}/predict", data=body(x_test=[IMAGE]), headers=headers, timeout=10)
    check_error(reply, 415, "unsupported_media_type")
    assert reply.json()["error"]["expected"] == "application/json, application/x-npy"


def test_charset_parameter_is_no_other_content_type(server: Server) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    reply = requests.post(f"{server.url}/predict", data=body(x_test=[IMAGE]), headers=headers, timeout=10)
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/predict", "POST"), ("PUT", "/predict", "POST"), ("DELETE", "/models", "GET"), ("POST", "/ready", "GET")],
)
def test_wrong_method_is_405_and_says_the_right_one(server: Server, method: str, path: str, allowed: str) -> None:
    reply = requests.request(method, server.url + path, timeout=10)
    check_error(reply, 405, "method_not_allowed")
    assert allowed in reply.headers["Allow"].split(", ")
    assert allowed in reply.json()["error"]["expected"]


def test_unknown_page_is_404_with_a_guess(server: Server) -> None:
    reply = requests.post(f"{server.url}/predcit", timeout=10)
    check_error(reply, 404, "not_found")
    assert "Did you mean '/predict'?" in reply.json()["error"]["message"]


@pytest.fixture(scope="module")
def small(quick_run: Run, serve: Callable[..., Server]) -> Server:
    """A server with a body limit of 20,000 bytes."""
    registry = quick_run.version.path.parent.parent
    return serve(registry, "--workers", "1", environ={"BMP_MAX_BODY_BYTES": "20000"})


def padded(size: int) -> bytes:
    data = body(x_test=[IMAGE])
    return data + b" " * (size - len(data))


def test_at_the_limit_is_answered(small: Server) -> None:
    reply = requests.post(f"{small.url}/predict", data=padded(20_000), headers=JSON, timeout=10)
    assert reply.status_code == 200


@pytest.mark.parametrize("size", [20_001, 1_000_000])
def test_announced_over_the_limit_is_413(small: Server, size: int) -> None:
    reply = requests.post(f"{small.url}/predict", data=padded(size), headers=JSON, timeout=10)
    check_error(reply, 413, "body_too_large")
    assert "20" in reply.json()["error"]["expected"]


@pytest.mark.parametrize("size", [20_001, 1_000_000])
def test_chunked_over_the_limit_is_413_not_cut(small: Server, size: int) -> None:
    # The first 20,000 bytes alone would be a good request.
    data = padded(size)
    pieces = (data[start : start + 8_000] for start in range(0, size, 8_000))
    reply = requests.post(f"{small.url}/predict", data=pieces, headers=JSON, timeout=10)
    check_error(reply, 413, "body_too_large")


def test_chunked_under_the_limit_is_answered(small: Server) -> None:
    data = padded(15_000)
    pieces = (data[start : start + 1_000] for start in range(0, len(data), 1_000))
    reply = requests.post(f"{small.url}/predict", data=pieces, headers=JSON, timeout=10)
    assert reply.status_code == 200


def test_pipelined_requests_are_answered_in_order(server: Server, images: np.ndarray, expected: np.ndarray) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    requests_ = b""
    for image in images[:5]:
        data = body(x_test=[image.tolist()])
        requests_ += b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        requests_ += b"Content-Length: %d\r\n\r\n" % len(data) + data
    requests_ += b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection, connection.makefile("rb") as stream:
        connection.sendall(requests_)
        replies = stream.read()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in replies.split(b"HTTP/1.1 200 OK")[1:]]
    assert len(bodies) == 6
    answers = [json.loads(part)["prediction"][0] for part in bodies[:5]]
    np.testing.assert_allclose(answers, expected[:5], atol=1e-6)
