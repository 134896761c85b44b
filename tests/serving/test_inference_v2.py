"""The Open Inference Protocol, spoken by Triton's client to a real server."""

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from conftest import Server
from door_models import Models, make_inputs, publish_door_models
from raw_models import Published, make_columns, publish_models
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from bmp import __version__
from bmp.signature import Arrays
from bmp.transforms import Columns
from serving.codec.inference_v2 import HEADER_LENGTH
from serving.codec.tensors import datatype_of

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("v2")


@pytest.fixture(scope="module")
def models(root: Path) -> Models:
    return publish_door_models(root)


@pytest.fixture(scope="module")
def raw(models: Models, root: Path) -> dict[str, Published]:
    """Models of raw features, of each kind."""
    return models.raw | publish_models(root, ["photos", "letters", "adverts"])


@pytest.fixture(scope="module")
def v2_server(models: Models, raw: dict[str, Published], serve: Callable[..., Server]) -> Server:
    return serve(models.registry.root, "--workers", "2")


@pytest.fixture(scope="module")
def triton(v2_server: Server) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(v2_server.url.removeprefix("http://")) as client:
        yield client


def to_inputs(arrays: Arrays, binary: bool = True) -> list[InferInput]:
    inputs = []
    for name, array in arrays.items():
        tensor = InferInput(name, array.shape, datatype_of(array.dtype.name))
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return inputs


def post(server: Server, model: str, body: Any, **headers: str) -> requests.Response:
    data = {"data": body} if isinstance(body, bytes) else {"json": body}
    return requests.post(f"{server.url}/v2/models/{model}/infer", headers=headers, timeout=10, **data)


# === What there is ===


def test_server_says_what_it_is(triton: InferenceServerClient, v2_server: Server) -> None:
    assert triton.is_server_live() and triton.is_server_ready()
    extensions = ["binary_tensor_data", "classification", "model_repository", "statistics"]
    described = {"name": "bmp", "version": __version__, "extensions": extensions}
    assert triton.get_server_metadata() == described == v2_server.get("/v2/").json()


def test_model_says_what_it_takes(triton: InferenceServerClient) -> None:
    assert (
        triton.is_model_ready("flags") and triton.is_model_ready("flags", "2") and triton.is_model_ready("pairs", "1")
    )
    assert not triton.is_model_ready("flags", "3") and not triton.is_model_ready("flag")
    assert triton.get_model_metadata("flags", "canary") == {
        "name": "flags",
        "versions": ["1", "2"],
        "platform": "tensorflow_tflite",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    }


RAW_INPUTS = {
    "passengers": [("age", "FP32", [-1]), ("fare", "FP32", [-1]), ("sex", "BYTES", [-1])],
    "reviews": [("review", "BYTES", [-1])],
    "photos": [("photo", "BYTES", [-1])],
    "letters": [("text", "BYTES", [-1])],
    "adverts": [("photo", "BYTES", [-1]), ("price", "FP32", [-1]), ("place", "BYTES", [-1])],
    "tumours": [("features", "FP32", [-1, 5])],
}


@pytest.mark.parametrize("name", RAW_INPUTS)
def test_a_model_of_raw_features_names_them(triton: InferenceServerClient, name: str) -> None:
    inputs = triton.get_model_metadata(name)["inputs"]
    assert [(item["name"], item["datatype"], item["shape"]) for item in inputs] == RAW_INPUTS[name]


def test_the_index_lists_every_version(triton: InferenceServerClient) -> None:
    index = triton.get_model_repository_index()
    found = {(row["name"], row["version"]): (row["state"], row["reason"]) for row in index}
    assert found["flags", "1"] == found["flags", "2"] == found["photos", "1"] == ("READY", "")
    assert len(found) == len(index) == 10


def test_nobody_loads_or_unloads_over_the_network(triton: InferenceServerClient) -> None:
    for move in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match=r"\[403\].*publish a version or move an alias"):
            move("flags")


# === Answers ===


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", ["flags", "prices", "pairs"])
def test_tensors_get_the_answer_of_the_model(
    triton: InferenceServerClient, models: Models, name: str, binary: bool
) -> None:
    for count in (1, 2, 33):
        inputs = make_inputs(name, count, seed=count)
        expected = models.answer(name, 1, inputs)
        wanted = [InferRequestedOutput(output, binary_data=binary) for output in reversed(expected)]
        result = triton.infer(name, to_inputs(inputs, binary), outputs=wanted, request_id="a b")
        for output, array in expected.items():
            np.testing.assert_allclose(result.as_numpy(output), array, atol=TOLERANCE)
            assert result.as_numpy(output).dtype == array.dtype
        response = result.get_response()
        assert (response["model_name"], response["model_version"], response["id"]) == (name, "1", "a b")
        assert [output["name"] for output in response["outputs"]] == list(reversed(expected))


@pytest.mark.parametrize(("version", "number"), [("", 1), ("1", 1), ("2", 2), ("production", 1), ("canary", 2)])
def test_a_version_is_a_number_or_an_alias(
    triton: InferenceServerClient, models: Models, version: str, number: int
) -> None:
    inputs = make_inputs("flags", 4)
    result = triton.infer("flags", to_inputs(inputs), model_version=version)
    np.testing.assert_allclose(result.as_numpy("y"), models.answer("flags", number, inputs)["y"], atol=TOLERANCE)
    assert result.get_response()["model_version"] == str(number)


def test_numbers_of_a_smaller_dtype_are_taken_where_nothing_is_lost(
    triton: InferenceServerClient, models: Models
) -> None:
    for dtype in ("uint8", "int16", "float16"):
        array = np.array([[1, 2, 3]], dtype)
        expected = models.answer("flags", 1, {"x": array.astype("float32")})["y"]
        np.testing.assert_allclose(
            triton.infer("flags", to_inputs({"x": array})).as_numpy("y"), expected, atol=TOLERANCE
        )


@pytest.mark.parametrize("binary", [True, False])
def test_classes_have_value_index_and_label(triton: InferenceServerClient, models: Models, binary: bool) -> None:
    inputs = make_inputs("flags", 3)
    (shares,) = models.answer("flags", 1, inputs).values()
    wanted = [InferRequestedOutput("y", binary_data=binary, class_count=2)]
    answered = triton.infer("flags", to_inputs(inputs), outputs=wanted).as_numpy("y")
    assert answered.shape == (3, 2)
    for row, share in zip(answered, shares, strict=True):
        best = int(share.argmax())
        words = [(word if isinstance(word, str) else word.decode()).split(":") for word in row]
        assert [(word[1], word[2]) for word in words] == [(str(i), ["no", "yes"][i]) for i in (best, 1 - best)]
        np.testing.assert_allclose([float(word[0]) for word in words], sorted(share, reverse=True), atol=TOLERANCE)


def expect_of_training(model: Published, columns: Columns) -> np.ndarray:
    """What the Keras model answers behind the transforms that training runs, `(N, *shape)`."""
    import tensorflow as tf

    objects = {name: column.tolist() if column.dtype == object else column for name, column in columns.items()}
    outputs = model.run_as_in_training({name: tf.constant(column) for name, column in objects.items()}).numpy()
    if model.signature.objective != "next_token":
        return outputs
    lengths = [min(len(text.encode()), 16) for text in columns["text"]]
    return outputs[np.arange(len(outputs)), np.array(lengths) - 1]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("name", RAW_INPUTS)
def test_raw_features_get_the_answer_of_training(
    triton: InferenceServerClient, raw: dict[str, Published], name: str, binary: bool
) -> None:
    columns = make_columns(raw[name].preprocessing.fields, 20, seed=5)
    sent = dict(columns)
    if not binary:  # a file in JSON is base64
        for feature, column in columns.items():
            if column.dtype == object and isinstance(column[0], bytes):
                sent[feature] = np.array([base64.b64encode(value).decode() for value in column], object)
    result = triton.infer(name, to_inputs(sent, binary))
    np.testing.assert_allclose(result.as_numpy("answer"), expect_of_training(raw[name], columns), atol=1e-4)


def test_what_is_missing_is_what_it_is_in_rows(v2_server: Server) -> None:
    rows = [{"fare": 5, "age": None, "sex": "a"}, {"fare": 6.5, "age": 4, "sex": None}]
    expected = v2_server.post({"instances": rows, "model": "passengers"}).json()["prediction"]
    ages: tuple[Any, ...] = ([None, 4], [[None], [4]])
    for age in ages:
        inputs = [
            {"name": "fare", "shape": [2, 1], "datatype": "FP64", "data": [5, 6.5]},
            {"name": "age", "shape": [2, 1], "datatype": "INT64", "data": age},
            {"name": "sex", "shape": [2], "datatype": "BYTES", "data": ["a", None]},
        ]
        reply = post(v2_server, "passengers", {"inputs": inputs})
        assert reply.status_code == 200, reply.text
        np.testing.assert_allclose(reply.json()["outputs"][0]["data"], np.ravel(expected))
    without = post(
        v2_server, "passengers", {"inputs": [{"name": "fare", "shape": [1], "datatype": "FP32", "data": [5]}]}
    )
    row = v2_server.post({"instances": [{"fare": 5}], "model": "passengers"}).json()["prediction"]
    np.testing.assert_allclose(without.json()["outputs"][0]["data"], np.ravel(row))


@pytest.mark.parametrize("name", ["reviews", "photos", "flags"])
def test_the_body_may_be_the_only_input_itself(
    v2_server: Server, triton: InferenceServerClient, raw: dict[str, Published], name: str
) -> None:
    if name == "flags":
        array = make_inputs("flags", 3)["x"]
        inputs, body = {"x": array}, array.tobytes()
    else:
        inputs = make_columns(raw[name].preprocessing.fields, 1, seed=8)
        ((value,),) = inputs.values()
        body = value if isinstance(value, bytes) else value.encode()
    (output,) = triton.get_model_metadata(name)["outputs"]
    expected = triton.infer(name, to_inputs(inputs)).as_numpy(output["name"])
    reply = post(v2_server, name, body, **{HEADER_LENGTH: "0"})
    assert reply.status_code == 200 and reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Bmp-Model"] == f"{name}/1"
    result = InferenceServerClient.parse_response_body(reply.content, header_length=int(reply.headers[HEADER_LENGTH]))
    assert np.array_equal(result.as_numpy(output["name"]), expected)


# === Refusals ===

X = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
BAD: dict[str, tuple[str, Any, int, str]] = {
    # name: (model and version, body, status, what the message must say)
    "no model": ("flag", {"inputs": [X]}, 404, "Did you mean 'flags'?"),
    "no version": ("flags/versions/3", {"inputs": [X]}, 404, "3"),
    "no alias": ("flags/versions/canari", {"inputs": [X]}, 404, "canari"),
    "not JSON": ("flags", b"x", 400, "not valid JSON"),
    "no input": ("pairs", {"inputs": [{**X, "name": "a"}]}, 400, "Input 'b' is missing"),
    "other input": ("flags", {"inputs": [{**X, "name": "y"}]}, 400, "The model has no input 'y'. Inputs: x."),
    "shape": ("flags", {"inputs": [{**X, "shape": [3]}]}, 400, "Input 'x' has shape (3,); expected float32 (B, 3)"),
    "datatype": (
        "flags",
        {"inputs": [{**X, "datatype": "FP64"}]},
        400,
        "Input 'x' is float64; expected float32 (B, 3)",
    ),
    "strings": ("flags", {"inputs": [{**X, "datatype": "BYTES"}]}, 400, "is BYTES; expected numbers for 'x'"),
    "other output": (
        "flags",
        {"inputs": [X], "outputs": [{"name": "x"}]},
        400,
        "The model has no output 'x'. Outputs: y.",
    ),
    "too many classes": (
        "flags",
        {"inputs": [X], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        400,
        "outputs[0].parameters.classification: top_k is 3; expected 1 to 2",
    ),
    "no classes": (
        "prices",
        {
            "inputs": [{"name": "grid", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}],
            "outputs": [{"name": "price", "parameters": {"classification": 1}}],
        },
        400,
        "has no labels",
    ),
    "classes of several": (
        "pairs",
        {"inputs": [X], "outputs": [{"name": "p", "parameters": {"classification": 1}}]},
        400,
        "has several outputs",
    ),
    "name in the body": ("flags", {"inputs": [X], "model_name": "pairs"}, 400, "The body is for pairs/1, but"),
    "version in the body": ("flags", {"inputs": [X], "model_version": "2"}, 400, "The body is for flags/2, but"),
    "no feature": ("passengers", {"inputs": [{**X, "name": "aeg"}]}, 400, "Did you mean 'age'?"),
    "missing feature": (
        "passengers",
        {"inputs": [{"name": "age", "shape": [1], "datatype": "FP32", "data": [1]}]},
        400,
        "examples[0].fare is missing; expected a number",
    ),
    "several values": (
        "passengers",
        {"inputs": [{**X, "name": "age"}]},
        400,
        "expected [-1], one value for each example",
    ),
    "numbers for a text": (
        "passengers",
        {"inputs": [{"name": name, "shape": [1], "datatype": "FP32", "data": [1]} for name in ("fare", "sex")]},
        400,
        "examples[0].sex is a number; expected a string",
    ),
    "batch sizes": (
        "passengers",
        {
            "inputs": [
                {"name": n, "shape": [s], "datatype": "FP32", "data": [1] * s} for n, s in (("age", 1), ("fare", 2))
            ]
        },
        400,
        "disagree on the number of examples (age: 1, fare: 2)",
    ),
    "not base64": (
        "photos",
        {"inputs": [{"name": "photo", "shape": [1], "datatype": "BYTES", "data": ["?"]}]},
        400,
        "not valid base64",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request_gets_one_sentence_and_harms_no_other(v2_server: Server, name: str) -> None:
    model, body, status, says = BAD[name]
    check_error(post(v2_server, model, body), status, says)
    assert post(v2_server, "flags", {"inputs": [X]}).status_code == 200


def check_error(reply: requests.Response, status: int, says: str) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["Content-Type"] == "application/json"
    assert list(reply.json()) == ["error"] and isinstance(reply.json()["error"], str)
    assert says in reply.json()["error"] and len(reply.json()["error"]) < 500


BAD_BYTES: dict[str, tuple[str, bytes, dict[str, str], int, str]] = {
    # name: (model, body, headers, status, what the message must say)
    "header": ("flags", b"{}", {HEADER_LENGTH: "x"}, 400, f"{HEADER_LENGTH} is 'x'"),
    "empty": ("flags", b"", {HEADER_LENGTH: "0"}, 400, "not valid JSON"),
    "cut": ("flags", b"\0" * 11, {HEADER_LENGTH: "0"}, 400, "has 11 bytes of data; FP32 of shape [1, 3] has 12"),
    "two inputs": ("pairs", b"\0" * 12, {HEADER_LENGTH: "0"}, 400, "'a', FP32 [-1, 3], 'b', INT32 [-1, 2]"),
    "NaN": ("flags", np.full(3, np.nan, "f4").tobytes(), {HEADER_LENGTH: "0"}, 400, "holds NaN or infinity at [0][0]"),
    "no image": ("photos", b"GIF89a", {HEADER_LENGTH: "0"}, 400, "'photo' cannot be used"),
    "no text": ("reviews", b"\xff", {HEADER_LENGTH: "0"}, 400, "not valid UTF-8: byte 0 is 0xff"),
    "compressed": ("flags", b"\x1f\x8b", {"Content-Encoding": "gzip"}, 415, "send it as it is"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_bytes_get_one_sentence(v2_server: Server, name: str) -> None:
    model, body, headers, status, says = BAD_BYTES[name]
    check_error(post(v2_server, model, body, **headers), status, says)


def test_what_is_not_there_is_said_in_the_shape_of_the_protocol(v2_server: Server) -> None:
    check_error(v2_server.get("/v2/health/redy"), 404, "Did you mean '/v2/health/ready'?")
    check_error(v2_server.get("/v2/models/flags/trace"), 404, "nothing at /v2/models/flags/trace")
    reply = v2_server.get("/v2/models/flags/infer")
    check_error(reply, 405, "it takes POST")
    assert reply.headers["Allow"] == "POST"
    check_error(v2_server.post({}, "/v2"), 405, "it takes GET")
    check_error(v2_server.post({"ready": 1}, "/v2/repository/index"), 400, "'ready' is a number")
    assert len(v2_server.post({"ready": True}, "/v2/repository/index").json()) == 10


# === A file of numpy, sent to POST /predict ===


def save(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def post_npy(server: Server, body: bytes, **query: Any) -> requests.Response:
    headers = {"Content-Type": "application/x-npy"}
    return requests.post(f"{server.url}/predict", params=query, data=body, headers=headers, timeout=10)


def test_an_array_as_numpy_saves_it_is_answered(v2_server: Server, raw: dict[str, Published], models: Models) -> None:
    array = make_inputs("flags", 5)["x"]
    reply = post_npy(v2_server, save(array), model="flags", version=2, top_k=1)
    np.testing.assert_allclose(reply.json()["prediction"], models.answer("flags", 2, {"x": array})["y"], atol=TOLERANCE)
    assert len(reply.json()["top_k"]) == 5 and reply.headers["Bmp-Model"] == "flags/2"
    columns = make_columns(raw["tumours"].preprocessing.fields, 4)
    reply = post_npy(v2_server, save(columns["features"]), model="tumours")
    np.testing.assert_allclose(reply.json()["prediction"], expect_of_training(raw["tumours"], columns), atol=1e-4)


@pytest.mark.parametrize(
    ("model", "body", "status", "says"),
    [
        ("flags", save(np.zeros((2, 3))), 400, "Input 'x' is float64; expected float32 (B, 3)"),
        ("flags", save(np.zeros((2, 4), "f4")), 400, "has shape (2, 4)"),
        ("flags", save(np.zeros((), "f4")), 400, "has shape ()"),
        ("flags", save(np.full((1, 3), np.inf, "f4")), 400, "holds NaN or infinity at [0][0]"),
        ("flags", save(np.array([None], object)), 400, "numpy.save"),
        ("flags", b"", 400, "numpy.save"),
        ("pairs", save(np.zeros((2, 3), "f4")), 415, "send it as application/json, with"),
        ("passengers", save(np.zeros((2, 3), "f4")), 415, "send it as application/json, with"),
        ("photos", save(np.zeros((1, 12, 10, 3), "f4")), 415, "send it as application/json or image/png or image/jpeg"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    v2_server: Server, model: str, body: bytes, status: int, says: str
) -> None:
    reply = post_npy(v2_server, body, model=model)
    assert reply.status_code == status and says in reply.json()["error"]["message"]
