"""TensorFlow Serving's REST interface: what its own clients send and get; tests of all doors are in test_doors.py."""

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Server
from door_models import Models, make_inputs, publish_door_models
from flask.testing import FlaskClient
from google.protobuf import json_format
from numbered_models import eventually
from raw_models import MODELS, make_columns
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusResponse
from werkzeug.test import TestResponse

from bmp.artifact.saved_model import write_saved_model
from serving.app import ServingApp, create_app
from serving.settings import Settings

V1 = "/v1/models"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return publish_door_models(tmp_path_factory.mktemp("tfserving"))


@pytest.fixture(scope="module")
def app(models: Models) -> ServingApp:
    app = create_app(Settings(registry=models.registry.root))
    eventually(app.is_started, within_s=60)
    return app


@pytest.fixture(scope="module")
def client(app: ServingApp) -> FlaskClient:
    return app.test_client()


def post(client: FlaskClient, path: str, **body: Any) -> TestResponse:
    return client.post(f"{V1}/{path}", data=json.dumps(body))


def check_error(reply: TestResponse, status: int, says: str) -> None:
    assert reply.status_code == status, reply.text
    assert list(reply.json) == ["error"] and says in reply.json["error"], reply.text


# === predict ===


def test_one_output_has_no_name(client: FlaskClient, models: Models) -> None:
    inputs = make_inputs("flags", 3)
    expected, x = models.answer("flags", 1, inputs)["y"], inputs["x"].tolist()
    rows, columns = post(client, "flags:predict", instances=x), post(client, "flags:predict", inputs=x)
    assert (list(rows.json), list(columns.json)) == (["predictions"], ["outputs"])
    for reply in (rows, columns):
        np.testing.assert_allclose(next(iter(reply.json.values())), expected, atol=1e-6)


def test_several_outputs_have_names(client: FlaskClient, models: Models) -> None:
    inputs = make_inputs("pairs", 3)
    expected = models.answer("pairs", 1, inputs)
    columns = {name: array.tolist() for name, array in inputs.items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    predictions = post(client, "pairs:predict", instances=rows).json["predictions"]
    outputs = post(client, "pairs:predict", inputs=columns).json["outputs"]
    assert [sorted(prediction) for prediction in predictions] == [["p", "q"]] * 3
    for name, array in expected.items():
        np.testing.assert_allclose(outputs[name], array, atol=1e-5)
        np.testing.assert_allclose([prediction[name] for prediction in predictions], array, atol=1e-5)


@pytest.mark.parametrize("addressee", ["flags", "flags/versions/1", "flags/versions/2", "flags/labels/canary"])
@pytest.mark.parametrize("extra", [{}, {"signature_name": "serving_default"}, {"signature_name": ""}, {"other": 1}])
def test_who_answers(client: FlaskClient, models: Models, addressee: str, extra: dict[str, Any]) -> None:
    version = 2 if addressee.endswith(("2", "canary")) else 1
    inputs = make_inputs("flags", 2)
    reply = post(client, f"{addressee}:predict", instances=inputs["x"].tolist(), **extra)
    np.testing.assert_allclose(reply.json["predictions"], models.answer("flags", version, inputs)["y"], atol=1e-6)
    assert reply.headers["Bmp-Model"] == f"flags/{version}"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instnaces": [[1, 2, 3]]}, "Did you mean 'instances'?"),
        ({"x_test": [[1, 2, 3]]}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, "only one of them"),
        ({"instances": {"x": [[1, 2, 3]]}}, "'instances' is an object"),
        ({"instances": [[1, 2, 3]], "signature_name": 1}, "'signature_name' key must be a string value."),
        ({"instances": [[1, 2, 3]], "signature_name": None}, "'signature_name' key must be a string value."),
        (
            {"instances": [[1, 2, 3]], "signature_name": "serving"},
            'Serving signature name: "serving" not found in signature def.',
        ),
        ({"instances": [{"x": [1, 2, 3]}, {"x": [1, 2, None]}]}, "instances[1].x[2] is null"),
        ({"instances": [{"x": [1, 2, 3]}, {"x": [1, 2, 1e39]}]}, "instances[1].x[2] holds a number that float32"),
        ({"instances": [{"x": [1, 2, 3]}, {"x": [1, 2]}]}, "instances[1].x has 2 elements"),
        ({"instances": [{"x": [1, 2, 3]}, {}]}, "instances[1].x is missing"),
        ({"instances": [{"x": [1, 2, 3]}, {"x": [1, 2, 3], "X": 1}]}, "instances[1]: The model has no input 'X'."),
        ({"instances": [{"x": [1, 2, 3]}, [1, 2, 3]]}, "instances[1] is an array, but its neighbours are objects"),
        ({"instances": [{"x": 1}]}, "Input 'x' has shape (1,)"),
    ],
    ids=str,
)
def test_bad_bodies(client: FlaskClient, body: dict[str, Any], says: str) -> None:
    check_error(post(client, "flags:predict", **body), 400, says)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"age": 22, "fare": [7.25], "sex": ["a"]}, "inputs.age is a number; expected a list"),
        (
            {"age": [22, 23], "fare": [7.25], "sex": ["a"]},
            "disagree on the number of examples (age: 2, fare: 1, sex: 1)",
        ),
        ({"age": [], "fare": [], "sex": []}, "inputs.age is an empty list"),
        ({"age": [22], "fare": ["7"], "sex": ["a"]}, "inputs[0].fare is a string"),
        ({"age": [22], "fare": [7], "sxe": ["a"]}, "inputs[0] has the unknown feature 'sxe'"),
    ],
    ids=str,
)
def test_bad_columns_of_features(client: FlaskClient, columns: dict[str, Any], says: str) -> None:
    check_error(post(client, "passengers:predict", inputs=columns), 400, says)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("flag:predict", 404, "Servable not found for request: Latest(flag). No model is named 'flag'."),
        ("flags/versions/7:predict", 404, "Servable not found for request: Specific(flags, 7). "),
        ("flags/labels/canari:predict", 404, "Unrecognized servable version label: canari. "),
        ("flags:predcit", 400, f"Malformed request: POST {V1}/flags:predcit. "),
        ("flags", 400, "Malformed request"),
        ("flags/versions/canary:predict", 400, "Malformed request"),
        ("flags/versions/١:predict", 400, "Malformed request"),
        (f"flags/versions/{'9' * 5000}:predict", 400, "Malformed request"),
        ("flags/versions/1/labels/canary:predict", 400, "Malformed request"),
        ("../flags:predict", 400, "Malformed request"),
        ("flags:predict:predict", 400, "Malformed request"),
    ],
)
def test_bad_paths(client: FlaskClient, path: str, status: int, says: str) -> None:
    check_error(post(client, path, instances=[[1, 2, 3]]), status, says)


@pytest.mark.parametrize(("method", "path"), [("GET", "flags:predict"), ("PUT", "flags"), ("DELETE", "flags:predict")])
def test_bad_methods(client: FlaskClient, method: str, path: str) -> None:
    check_error(client.open(f"{V1}/{path}", method=method), 400, f"Malformed request: {method} {V1}/{path}")


def test_a_string_may_be_base64(client: FlaskClient) -> None:
    plain = post(client, "reviews:predict", instances=["good Grüße"])
    for instance in ({"b64": "Z29vZCBHcsO8w59l"}, {"review": {"b64": "Z29vZCBHcsO8w59l"}}):
        assert post(client, "reviews:predict", instances=[instance]).json == plain.json


# === classify and regress ===


@pytest.mark.parametrize("model", ["passengers", "reviews", "tumours", "flags"])
def test_classify_gives_every_label_the_likeliest_first(client: FlaskClient, app: ServingApp, model: str) -> None:
    if model == "flags":
        columns: dict[str, np.ndarray] = make_inputs("flags", 3)
        outputs = app.service.get(model).predict(columns)
    else:
        columns = make_columns(MODELS[model][0], 3)
        outputs = app.service.get(model).predict_raw(columns)
    columns_as_lists = [column.tolist() for column in columns.values()]
    examples = [dict(zip(columns, row, strict=True)) for row in zip(*columns_as_lists, strict=True)]
    reply = post(client, f"{model}:classify", examples=examples)
    labels = app.service.get(model).manifest.labels
    (scores,) = outputs.values()
    if model == "passengers":
        scores = np.concatenate([1 - scores, scores], axis=1)
    assert len(reply.json["results"]) == 3
    for pairs, row in zip(reply.json["results"], scores, strict=True):
        assert dict(map(tuple, pairs)) == pytest.approx(dict(zip(labels, row.tolist(), strict=True)), abs=1e-6)
        assert [score for _, score in pairs] == sorted((score for _, score in pairs), reverse=True)


def test_examples_are_flat_as_tf_examples_are(client: FlaskClient, models: Models) -> None:
    grid = make_inputs("prices", 2)["grid"]
    expected = models.answer("prices", 1, {"grid": grid})["price"][:, 0]
    for values in (grid.tolist(), grid.reshape(2, 4).tolist()):
        reply = post(client, "prices:regress", examples=[{"grid": value} for value in values])
        np.testing.assert_allclose(reply.json["results"], expected, atol=1e-5)


def test_context_is_part_of_every_example(client: FlaskClient) -> None:
    examples = [{"age": [22.0], "fare": 7.25}, {"fare": [80], "sex": ["b"]}]
    whole = [{"age": 22, "fare": 7.25, "sex": "a"}, {"age": None, "fare": 80, "sex": "b"}]
    reply = post(client, "passengers:classify", examples=examples, context={"sex": ["a"]})
    assert reply.status_code == 200
    assert reply.json == post(client, "passengers:classify", examples=whole).json


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("prices:classify", {"examples": [{"grid": [1, 2, 3, 4]}]}, "cannot classify, which takes a model with labels"),
        ("flags:regress", {"examples": [{"x": [1, 2, 3]}]}, "'flags' cannot regress"),
        ("pairs:regress", {"examples": [{"a": [1, 2, 3], "b": [1, 2]}]}, "'pairs' cannot regress"),
        ("flags:classify", {"instances": [[1, 2, 3]]}, "'examples' is not a list of objects"),
        ("flags:classify", {"examples": []}, "'examples' is not a list of objects"),
        ("flags:classify", {"examples": [[1, 2, 3]]}, "'examples' is not a list of objects"),
        ("flags:classify", {"examples": {"x": [1, 2, 3]}}, "'examples' is not a list of objects"),
        ("flags:classify", {"examples": [{"x": [1, 2, 3]}], "context": 1}, "'context' is a number"),
        ("flags:classify", {"examples": [{"x": [1, 2, 3]}], "signature_name": "other"}, "not found in signature def"),
        ("flags:classify", {"examples": [{"x": [1, 2]}]}, "Input 'x' has shape (1, 2)"),
        ("flags:classify", {"examples": [{"x": 1}]}, "Input 'x' has shape (1, 1)"),
        ("flags:classify", {"examples": [{"x": [1, 2, "3"]}]}, "examples[0].x[2] is a string"),
        ("flags:classify", {"examples": [{"x": [1, 2, 3]}, {}]}, "examples[1].x is missing"),
        ("prices:regress", {"examples": [{"grid": [1, 2, 3, 4, 5]}]}, "Input 'grid' has shape (1, 5)"),
        ("reviews:classify", {"examples": [{"review": ["a", "b"]}]}, "examples[0].review is an array"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_examples(client: FlaskClient, path: str, body: dict[str, Any], says: str) -> None:
    check_error(post(client, path, **body), 400, says)


def test_a_deep_context_is_refused(client: FlaskClient) -> None:
    body = b'{"examples":[{}],"context":{"x":' + b"[" * 900 + b"]" * 900 + b"}}"
    check_error(client.post(f"{V1}/flags:classify", data=body), 400, "nested more than 32 lists deep")


# === What there is ===


def test_list(client: FlaskClient) -> None:
    expected = ["flags", "pairs", "passengers", "prices", "reviews", "tumours"]
    assert client.get(V1).json == {"models": expected}


def test_status(client: FlaskClient) -> None:
    def states(path: str) -> list[tuple[str, str, str]]:
        reply = client.get(f"{V1}/{path}")
        assert reply.status_code == 200
        json_format.Parse(reply.data, GetModelStatusResponse())  # raises at what the protocol does not have
        return [
            (each["version"], each["state"], each["status"]["error_code"])
            for each in reply.json["model_version_status"]
        ]

    first, second = ("1", "AVAILABLE", "OK"), ("2", "AVAILABLE", "OK")
    assert states("flags") == [second, first]
    assert states("flags/versions/1") == states("flags/labels/production") == [first]
    assert states("flags/labels/canary") == [second]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("flag", "Could not find any versions of model flag. No model is named 'flag'."),
        ("flags/versions/7", "Could not find version 7 of model flags. There is 1 production, 2 canary."),
        ("flags/labels/canari", "Could not find version label canari of model flags."),
        ("flag/metadata", "Servable not found for request: Latest(flag)."),
    ],
)
def test_status_of_what_is_not_there(client: FlaskClient, path: str, says: str) -> None:
    check_error(client.get(f"{V1}/{path}"), 404, says)


def read_signature(client: FlaskClient, path: str, version: str) -> SignatureDef:
    content = client.get(f"{V1}/{path}/metadata").json
    name = path.partition("/")[0]
    assert content["model_spec"] == {"name": name, "signature_name": "", "version": version}
    signatures = json_format.ParseDict(content["metadata"]["signature_def"], SignatureDefMap()).signature_def
    assert list(signatures) == ["serving_default"]
    return signatures["serving_default"]


@pytest.mark.parametrize("model", ["flags", "prices", "pairs"])
def test_metadata_is_that_of_the_saved_model(client: FlaskClient, models: Models, model: str, tmp_path: Path) -> None:
    write_saved_model(*models.tensors[model, 1], tmp_path)
    saved = SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    expected = saved.meta_graphs[0].signature_def["serving_default"]
    assert read_signature(client, model, "1") == expected


def test_metadata_of_features(client: FlaskClient) -> None:
    inputs = read_signature(client, "passengers", "1").inputs
    shown = {name: (info.dtype, [dim.size for dim in info.tensor_shape.dim]) for name, info in inputs.items()}
    assert shown == {"age": (1, [-1]), "fare": (1, [-1]), "sex": (7, [-1])}  # DT_FLOAT, DT_STRING
    assert read_signature(client, "flags/labels/canary", "2").inputs["x"].dtype == 1


# === A real server ===


def test_a_real_server(models: Models, serve: Callable[..., Server]) -> None:
    server = serve(models.registry.root, "--workers", "1")
    inputs = make_inputs("flags", 2)
    body = json.dumps({"instances": inputs["x"].tolist()}).encode()
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    for path in ("flags:predict", "flags%3Apredict", "fl%61gs/labels/production:predict", "FLAGS/../flags:predict"):
        connection.request("POST", f"{V1}/{path}", body, {"Content-Type": "application/x-www-form-urlencoded"})
        reply = connection.getresponse()
        content = json.loads(reply.read())
        if path.startswith("FLAGS"):
            assert reply.status == 400 and "Malformed request" in content["error"]
        else:
            assert reply.getheader("Bmp-Model") == "flags/1"
            expected = models.answer("flags", 1, inputs)["y"]
            np.testing.assert_allclose(content["predictions"], expected, atol=1e-6)
    connection.close()
    assert server.get(f"{V1}/flags/versions/2").json()["model_version_status"][0]["state"] == "AVAILABLE"
