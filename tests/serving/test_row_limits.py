"""A request of too many examples is refused once their number is known: nothing is done for each of them before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from numbered_models import eventually
from raw_models import publish_models

from serving.app import create_app
from serving.codec import rows, tensors, tfserving
from serving.codec.tensors import BYTES
from serving.settings import Settings

MANY = 20_000  # of 16,512 bytes each, 258 probabilities for each of 16 tokens: 16,256 fit
TEXTS = [""] * MANY


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    root: Path = tmp_path_factory.mktemp("limits")
    publish_models(root, ["letters"])
    app = create_app(Settings(registry=root / "registry", reload=False))
    eventually(app.is_started)
    yield app.test_client()
    app.service.stop()


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done for single rows, by name."""
    calls: list[str] = []

    def count(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: calls.append(name) or function(*given))

    for module, name in (
        (rows, "_to_object"),
        (rows, "to_array"),
        (rows, "_to_text"),
        (tfserving, "_fold"),
        (tensors, "split_elements"),
        (tensors.Tensor, "to_values"),
        (tensors.Tensor, "to_array"),
    ):
        count(module, name)
    return calls


def v2(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


def ask(client: FlaskClient, path: str, body: Any) -> tuple[int, str]:
    response = client.post(path, data=json.dumps(body), content_type="application/json")
    content = response.get_json()
    error = content.get("error", "")
    return response.status_code, error["message"] if isinstance(error, dict) else error


BODIES = {
    "rows": ("/predict", {"instances": TEXTS}),
    "rows with names": ("/predict", {"x_test": [{"text": ""}] * MANY}),
    "tensors": ("/predict", {"x_test": [[0] * 16] * MANY}),
    "rows, v1": ("/v1/models/letters:predict", {"instances": TEXTS}),
    "columns, v1": ("/v1/models/letters:predict", {"inputs": {"text": TEXTS}}),
    "tensors, v1": ("/v1/models/letters:predict", {"inputs": {"tokens": [[0] * 16] * MANY}}),
    "examples, v1": ("/v1/models/letters:classify", {"examples": [{"text": ""}] * MANY, "context": {}}),
    "strings, v2": ("/v2/models/letters/infer", v2("text", BYTES, [MANY], TEXTS)),
    "numbers, v2": ("/v2/models/letters/infer", v2("tokens", "INT32", [MANY, 16], [0] * MANY * 16)),
}


@pytest.mark.parametrize("form", BODIES)
def test_nothing_is_done_for_a_row_of_too_many(client: FlaskClient, touched: list[str], form: str) -> None:
    status, message = ask(client, *BODIES[form])
    assert (status, touched) == (400, [])
    assert message == "The request holds 20,000 examples; this model takes at most 16,256 at a time. Send fewer."


@pytest.mark.parametrize("form", ["rows", "columns, v1", "strings, v2"])
def test_what_is_counted_there_is_what_is_done_for_few(client: FlaskClient, touched: list[str], form: str) -> None:
    path, body = json.loads(json.dumps(BODIES[form]).replace('""', '"a"'))
    few = json.loads(json.dumps(body).replace(json.dumps(["a"] * MANY), '["a", "b"]').replace(str(MANY), "2"))
    assert ask(client, path, few)[0] == 200 and touched


def test_strings_behind_the_json_are_counted_no_further_than_announced(client: FlaskClient) -> None:
    data = bytes(4 * 1000)  # a thousand empty strings
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "text",
                    "datatype": BYTES,
                    "shape": [2],
                    "parameters": {"binary_data_size": len(data)},
                }
            ]
        }
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    response = client.post("/v2/models/letters/infer", data=head + data, headers=headers)
    assert response.status_code == 400
    assert "says shape [2], but its data has over 2 elements; expected 2" in response.get_json()["error"]
    assert len(tensors.split_elements(data, "x", 2)) == 3
