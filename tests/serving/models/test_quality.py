"""Variants by quality: which one is meant, how a request says so at each door, and what it is told meanwhile."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from numbered_models import QUESTION, Form, describe, eventually, make_model, publish_forms
from werkzeug.test import TestResponse

from bmp.errors import RequestError
from bmp.registry import Registry
from serving.app import ServingApp, create_app
from serving.models.quality import QUALITIES, choose_variants
from serving.models.terms import Terms
from serving.service import Service
from serving.settings import Settings

FORMS = [
    Form("int8", 8, 0.95, 2.0, verdict="recommended: small"),
    Form("float32", 32, 0.97, 4.0),
    Form("pruned", 4, 0.94, 1.0),
    Form("broken", 1, 0.99, 0.5, verdict="refused: too much", is_kept=False),
]
ANSWERS = {"best": 32.0, "balanced": 8.0, "fast": 4.0}
VARIANTS = {"best": "float32", "balanced": "int8", "fast": "pruned"}
ROWS = {"x_test": [[0, 0]]}


# === Which one is meant ===

RECOMMENDED = Form("a", 0, 0.9, 2.0, 0.1, "recommended: x")


@pytest.mark.parametrize(
    ("forms", "best", "fast"),
    [
        (FORMS, "float32", "pruned"),
        ([RECOMMENDED], "a", "a"),
        ([RECOMMENDED, Form("b", 0, 0.9, 2.0, 0.1)], "a", "a"),  # nothing tells them apart
        ([RECOMMENDED, Form("b", 0, 0.9, 2.0, 0.0)], "b", "a"),  # as good, and closer to the original
        ([RECOMMENDED, Form("b", 0, None, 3.0, 0.0)], "a", "a"),
        ([Form("a", 0, None, 2.0, 0.1, "recommended: x"), Form("b", 0, None, 3.0, 0.0)], "b", "a"),  # never scored
        ([RECOMMENDED, Form("b", 0, 1.0, 1.0, verdict="refused: x")], "a", "a"),
        ([RECOMMENDED, Form("b", 0, 1.0, 1.0, is_kept=False)], "a", "a"),
    ],
)
def test_chooses_by_what_was_measured(forms: Sequence[Form], best: str, fast: str) -> None:
    manifest = describe(forms, {})
    assert choose_variants(manifest) == {"best": best, "balanced": forms[0].name, "fast": fast}


FORM = st.builds(
    Form,
    st.text("abcdef", min_size=1, max_size=3),
    st.just(0.0),
    st.one_of(st.none(), st.floats(0, 1)),
    st.floats(0.1, 9),
    st.floats(0, 1),
    st.sampled_from(["passed", "refused: x"]),
    st.booleans(),
)


@given(st.lists(FORM, min_size=1, max_size=6, unique_by=lambda form: form.name))
def test_no_other_that_keeps_the_promise_is_better(forms: list[Form]) -> None:
    forms[0] = forms[0]._replace(verdict="recommended: x", is_kept=True)
    chosen = choose_variants(describe(forms, {}))
    by_name = {form.name: form for form in forms}
    kept = [form for form in forms if form.is_kept and not form.verdict.startswith("refused")]
    assert all(by_name[name] in kept for name in chosen.values())
    assert by_name[chosen["fast"]].latency_ms == min(form.latency_ms for form in kept)
    assert (by_name[chosen["best"]].score or -1) == max(form.score or -1 for form in kept)


# === How a request says so ===


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    publish_forms(registry, FORMS)
    return registry


@pytest.fixture
def app(registry: Registry) -> Iterator[ServingApp]:
    app = create_app(Settings(registry=registry.root))
    eventually(app.is_started)
    yield app
    app.service.stop()


@pytest.fixture
def client(app: ServingApp) -> FlaskClient:
    return app.test_client()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, QUESTION["x"])
    return file.getvalue()


def v2(**parameters: object) -> dict[str, object]:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [0, 0]}
    return {"inputs": [tensor], "parameters": parameters}


def put(client: FlaskClient, door: str, quality: str) -> TestResponse:
    if door == "query":
        return client.post(f"/predict?quality={quality}", json=ROWS)
    if door == "body":
        return client.post("/predict", json={**ROWS, "quality": quality, "version": 1})
    if door == "npy":
        return client.post(f"/predict?quality={quality}", data=npy(), content_type="application/x-npy")
    if door == "v1":
        return client.post(f"/v1/models/n:predict?quality={quality}&other=1", json={"instances": [[0, 0]]})
    if door == "v1 regress":
        return client.post(f"/v1/models/n:regress?quality={quality}", json={"examples": [{"x": [0, 0]}]})
    return client.post("/v2/models/n/infer", json=v2(quality=quality))


READ = {
    "query": lambda body: body["prediction"][0][0],
    "body": lambda body: body["prediction"][0][0],
    "npy": lambda body: body["prediction"][0][0],
    "v1": lambda body: body["predictions"][0][0],
    "v1 regress": lambda body: body["results"][0],
    "v2": lambda body: body["outputs"][0]["data"][0],
}


def test_every_door_answers_with_the_variant_that_was_asked_for(client: FlaskClient) -> None:
    for quality in QUALITIES:
        eventually(lambda quality=quality: put(client, "query", quality).status_code == 200)
    for door, read in READ.items():
        for quality, answer in ANSWERS.items():
            reply = put(client, door, quality)
            assert (reply.status_code, read(reply.json)) == (200, answer), (door, reply.text)
            assert reply.headers["Bmp-Model"] == f"n/1/{VARIANTS[quality]}"
    reply = client.post("/predict", json=ROWS)
    assert reply.json == {"prediction": [[8.0]]} and reply.headers["Bmp-Model"] == "n/1"


def test_a_variant_is_loaded_when_it_is_asked_for(client: FlaskClient) -> None:
    reply = put(client, "query", "best")
    assert reply.status_code == 503 and reply.headers["Retry-After"] == "1"
    assert "Variant 'float32' of version 1 of model 'n' is not in memory" in reply.json["error"]["message"]
    assert put(client, "query", "balanced").status_code == 200
    eventually(lambda: put(client, "query", "best").status_code == 200)


@pytest.mark.parametrize("door", READ)
def test_an_unknown_quality_is_one_sentence(client: FlaskClient, door: str) -> None:
    reply = put(client, door, "fats")
    assert reply.status_code == 400
    assert "The quality 'fats' is unknown" in reply.text and "Did you mean 'fast'?" in reply.text


def test_a_quality_is_said_once_and_in_words(client: FlaskClient) -> None:
    reply = client.post("/predict?quality=fast", json={**ROWS, "quality": "best"})
    assert reply.status_code == 400 and "say 'quality'" in reply.json["error"]["message"]
    reply = client.post("/predict", json={**ROWS, "quality": 1})
    assert reply.status_code == 400 and "'quality' is a number" in reply.json["error"]["message"]
    reply = client.post("/v2/models/n/infer", json=v2(quality=1))
    assert reply.status_code == 400 and "quality" in reply.json["error"]


# === What is in memory ===


def ask(service: Service, quality: str) -> float:
    return float(service.get("n", quality=quality).predict(QUESTION)["y"][0, 0])


def test_all_variants_may_be_loaded_at_the_start(registry: Registry) -> None:
    service = Service(registry, terms=Terms(variants="all"))
    service.load()
    assert {quality: ask(service, quality) for quality in QUALITIES} == ANSWERS


def test_a_variant_that_cannot_be_loaded_harms_no_other(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = registry.resolve("n").path / "variants/pruned.tflite"
    file.write_bytes(b"no model")
    monkeypatch.setattr("serving.models.retries._FIRST_S", 0.0)
    service = Service(registry, terms=Terms(variants="all"))
    service.load()
    assert service.failures() == {"n": "invalid_artifact"} and "variant pruned cannot be served" in caplog.text
    assert (ask(service, "balanced"), ask(service, "best")) == (8, 32)
    assert [(state.state, state.error) for state in service.versions("n")] == [("AVAILABLE", None)]
    with pytest.raises(RuntimeError, match="Variant 'pruned' of version 1 of model 'n' could not be loaded"):
        ask(service, "fast")
    file.write_bytes(make_model(4))
    service._loader.catch_up()
    assert ask(service, "fast") == 4 and service.failures() == {}


def test_what_a_version_is_replaced_by_has_variants_of_its_own(registry: Registry) -> None:
    service = Service(registry, terms=Terms(variants="all"))
    service.load()
    publish_forms(registry, [FORMS[0]._replace(answer=9), FORMS[1]._replace(answer=33)])
    service._loader.catch_up()
    assert {quality: ask(service, quality) for quality in QUALITIES} == {"best": 33, "balanced": 9, "fast": 9}
    with pytest.raises(RequestError, match="unknown"):
        ask(service, "worst")
