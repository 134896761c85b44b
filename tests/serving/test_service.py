"""The service: what it answers before, while and after it loads."""

import logging
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbered_models import QUESTION, eventually
from numbered_models import publish as publish_number
from raw_models import MODELS, Published, export, make_columns, publish_models

from bmp.errors import ArtifactError, NotFoundError, NotReadyError, RequestError, SignatureError
from bmp.registry import Registry, Version
from bmp.registry.keys import PublicKeys, read_private_key, read_public_keys, write_keys
from bmp.registry.signing import sign_version
from bmp.run import Run
from serving.app import create_app
from serving.engines import LiteRTEngine, SavedModelEngine
from serving.models.model import LoadedModel, load_model
from serving.service import Service
from serving.settings import Settings


@pytest.fixture(scope="module")
def registry(quick_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("service") / "registry")
    registry.publish(quick_run.version.path, "digits")
    registry.publish(quick_run.version.path, "other")
    return registry


def test_not_ready_before_it_has_loaded(registry: Registry) -> None:
    service = Service(registry, ["digits"])
    for ask in (service.check_ready, service.get, lambda: service.get("digits"), lambda: service.get("nobody")):
        with pytest.raises(NotReadyError):
            ask()
    assert service.sole_model() is None
    service.load()
    service.check_ready()
    assert service.get().name == service.get("digits", 1).name == "digits"
    assert service.sole_model() is service.get()


def test_several_models(registry: Registry) -> None:
    service = Service(registry)
    service.load()
    assert [model.name for model in service.models()] == ["digits", "other"]
    assert service.sole_model() is None
    with pytest.raises(RequestError, match="digits, other"):
        service.get()
    with pytest.raises(NotFoundError, match="Did you mean 'other'"):
        service.get("othr")
    with pytest.raises(NotFoundError, match="version 1, not 7"):
        service.get("other", 7)


def test_predict_checks_against_the_signature(registry: Registry, quick_run: Run) -> None:
    service = Service(registry, ["digits"])
    service.load()
    images = quick_run.data.test.take(slice(0, 5)).load().inputs["image"]
    assert service.get().predict({"image": images})["probabilities"].shape == (5, 10)
    with pytest.raises(SignatureError, match="float64"):
        service.get().predict({"image": images.astype(np.float64)})


def test_missing_registry_is_not_ready_with_the_reason(tmp_path: Path) -> None:
    service = Service(Registry(tmp_path / "nowhere"))
    service.load()
    with pytest.raises(NotReadyError, match="registry is empty"):
        service.check_ready()


def test_unknown_name_is_reported(registry: Registry) -> None:
    service = Service(registry, ["digits", "nobody"])
    service.load()
    assert [model.name for model in service.models()] == ["digits"]
    assert service.failures() == {"nobody": "not_found"}


def test_app_says_503_until_loaded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    load = Service.load
    monkeypatch.setattr(Service, "load", lambda self: (gate.wait(10), load(self)))
    app = create_app(Settings(registry=registry.root, models=("digits",)))
    client = app.test_client()
    body = {"x_test": [[[0] * 8] * 8]}
    assert client.get("/health").status_code == 200
    for reply in (client.get("/ready"), client.post("/predict", json=body)):
        assert reply.status_code == 503
        assert reply.json["error"]["code"] == "not_ready" and reply.headers["Retry-After"] == "1"
    gate.set()
    eventually(app.is_started)
    assert client.get("/ready").status_code == client.post("/predict", json=body).status_code == 200
    app.service.stop()


def test_a_bug_is_a_500_without_details(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(registry=registry.root, models=("digits",)))
    monkeypatch.setattr(Service, "sole_model", lambda self: 1 / 0)
    reply = app.test_client().post("/predict", json={"x_test": []})
    assert reply.status_code == 500
    assert reply.json["error"]["code"] == "internal_error" and "division" not in reply.text


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """Models that take raw features, one of them for the SavedModel engine."""
    return publish_models(tmp_path_factory.mktemp("raw"), ["passengers", "adverts"], ("adverts",))


@pytest.fixture
def copy(raw: dict[str, Published], tmp_path: Path) -> Registry:
    """Their registry, to be damaged."""
    return Registry(shutil.copytree(raw["adverts"].version.path.parent.parent, tmp_path / "registry"))


def test_each_model_gets_the_engine_of_its_file(raw: dict[str, Published]) -> None:
    assert isinstance(load_model(raw["passengers"].version).engine, LiteRTEngine)
    assert isinstance(load_model(raw["adverts"].version).engine, SavedModelEngine)


def test_rows_that_are_read_one_by_one_are_bounded_however_small_they_are(raw: dict[str, Published]) -> None:
    model = load_model(raw["passengers"].version)
    assert model.max_raw_examples == 100_000 < model.max_examples
    with pytest.raises(RequestError, match="holds 100,001 examples; this model takes at most 100,000 at a time"):
        model.check_count(100_001, raw=True)
    model.check_count(100_001)


@pytest.mark.parametrize("name", ["passengers", "adverts"])
def test_predict_raw_runs_the_transforms_of_the_manifest(raw: dict[str, Published], name: str) -> None:
    model, columns = load_model(raw[name].version), make_columns(MODELS[name][0], 9)
    inputs = raw[name].preprocessing.run(columns)
    expected = raw[name].model(inputs if len(inputs) > 1 else inputs["features"]).numpy()
    np.testing.assert_allclose(model.predict_raw(columns)["answer"], expected, atol=1e-6)


@pytest.mark.parametrize("place", ["variables/variables.index", "variables/variables.data-00000-of-00001", "assets/x"])
def test_a_saved_model_is_checked_file_by_file(copy: Registry, place: str) -> None:
    file = copy.resolve("adverts").path / place
    file.write_bytes(file.read_bytes()[::-1] if file.exists() else b"added")
    with pytest.raises(ArtifactError, match=r"has been altered|lists no file 'assets/x'"):
        load_model(copy.resolve("adverts"))
    service = Service(copy)
    service.load()
    assert service.failures() == {"adverts": "invalid_artifact"}
    assert [model.name for model in service.models()] == ["passengers"]


def test_without_tensorflow_the_other_models_are_served(
    raw: dict[str, Published], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it fails as if it were not there
    service = Service(Registry(raw["adverts"].version.path.parent.parent))
    with caplog.at_level(logging.ERROR):
        service.load()
    assert service.failures() == {"adverts": "invalid_config"}
    assert "adverts/1 cannot be served" in caplog.text and "needs TensorFlow" in caplog.text
    row = make_columns(MODELS["passengers"][0], 1)
    assert service.get("passengers").predict_raw(row)["answer"].shape == (1, 1)


def publish_with(raw: dict[str, Published], directory: Path, **changes: Any) -> Version:
    """Publishes the passengers once more, with a manifest that says something else."""
    model = raw["passengers"]
    export(
        directory / "artifact",
        "passengers",
        model.model,
        model.preprocessing,
        model.signature,
        model.labels,
        changes=changes,
    )
    return Registry(directory / "registry").publish(directory / "artifact", "passengers")


def test_transforms_that_lead_elsewhere_are_refused(raw: dict[str, Published], tmp_path: Path) -> None:
    version = publish_with(raw, tmp_path, preprocessing=raw["adverts"].preprocessing.to_dict())
    with pytest.raises(ArtifactError, match="do not lead to the inputs of its signature"):
        load_model(version)


def test_transforms_that_were_never_fitted_are_refused(raw: dict[str, Published], tmp_path: Path) -> None:
    preprocessing = raw["passengers"].preprocessing.to_dict()
    preprocessing["steps"][0]["fitted"] = None
    with pytest.raises(ArtifactError, match="never fitted"):
        load_model(publish_with(raw, tmp_path, preprocessing=preprocessing))


@pytest.mark.parametrize(
    "preprocessing", [None, {"fields": [{"name": "features", "kind": "tensor", "shape": [6]}], "steps": []}]
)
def test_a_model_without_transforms_takes_tensors_alone(
    raw: dict[str, Published], tmp_path: Path, preprocessing: dict[str, Any] | None
) -> None:
    model = load_model(publish_with(raw, tmp_path, preprocessing=preprocessing))
    description = model.describe()
    assert model.features is None
    assert (description["features"], description["transforms"]) == ([], [])
    assert description["content_types"] == ["application/json", "application/x-npy"]


def test_a_number_that_becomes_infinite_is_the_clients_mistake(raw: dict[str, Published], tmp_path: Path) -> None:
    preprocessing = raw["passengers"].preprocessing.to_dict()
    preprocessing["steps"][1]["deviation"]["fare"] = [1e-9]
    model = load_model(publish_with(raw, tmp_path, preprocessing=preprocessing))
    columns = make_columns(MODELS["passengers"][0], 3)
    columns["fare"][1] = 3e38
    with pytest.raises(RequestError, match="of example 1 holds NaN or infinity"):
        model.predict_raw(columns)


@pytest.mark.parametrize(("name", "k"), [("passengers", 0), ("passengers", 3), ("adverts", 1)])
def test_top_k_is_checked_against_the_labels(raw: dict[str, Published], name: str, k: int) -> None:
    model = load_model(raw[name].version)
    model.check_top_k(None)
    with pytest.raises(RequestError, match="expected 1 to 2" if name == "passengers" else "has no labels"):
        model.check_top_k(k)


# === Versions ===


@pytest.fixture
def numbered(tmp_path: Path) -> Registry:
    """A registry with versions 1 and 2 of n; each answers with its number, the first one in production."""
    registry = Registry(tmp_path / "registry")
    for number in (1, 2):
        publish_number(registry, number)
    registry.set_alias("n", "production", 1)
    return registry


def test_a_request_names_a_version_or_an_alias(numbered: Registry) -> None:
    numbered.set_alias("n", "canary", 2)
    service = Service(numbered)
    service.load()
    asked = [service.get(), service.get("n", 2), service.get("n", alias="canary"), service.get(alias="production")]
    assert [model.version for model in asked] == [1, 2, 2, 1]
    assert [model.predict(QUESTION)["y"][0, 0] for model in asked] == [1, 2, 2, 1]
    with pytest.raises(RequestError, match="both a version and an alias"):
        service.get("n", 2, "canary")
    with pytest.raises(NotFoundError, match="No model is named 'm'"):
        service.versions("m")


def test_the_service_follows_the_registry_until_it_is_stopped(numbered: Registry) -> None:
    service = Service(numbered)
    service.start()
    eventually(service.is_started)
    numbered.set_alias("n", "production", 2)
    eventually(lambda: service.get().version == 2)
    publish_number(numbered, 7, "late")
    eventually(lambda: len(service.models()) == 2)
    assert service.sole_model() is None and service.get("late").predict(QUESTION)["y"][0, 0] == 7
    service.stop()
    assert service._thread is not None and not service._thread.is_alive()
    numbered.set_alias("n", "production", 1)
    assert service.get("n").version == 2


def test_reloading_can_be_switched_off(numbered: Registry) -> None:
    app = create_app(Settings(registry=numbered.root, reload=False, versions="all"))
    eventually(app.service.is_started)
    assert [state.number for state in app.service.versions("n")] == [1, 2]
    publish_number(numbered, 3)
    app.service._loader.catch_up(reload=False)
    assert [state.number for state in app.service.versions("n")] == [1, 2]
    app.service.stop()


def test_predict_takes_a_version_or_an_alias(numbered: Registry) -> None:
    numbered.set_alias("n", "canary", 2)
    app = create_app(Settings(registry=numbered.root))
    eventually(app.is_started)
    client, rows = app.test_client(), {"x_test": [[0, 0]]}
    for path, body in {
        "/predict": {**rows, "alias": "canary"},
        "/predict?alias=canary": rows,
        "/predict?version=2&model=n": rows,
    }.items():
        reply = client.post(path, json=body)
        assert reply.json == {"prediction": [[2.0]]} and reply.headers["Bmp-Model"] == "n/2"
    for path, status, says in (
        ("/predict?alias=canry", 404, "Did you mean 'canary'?"),
        ("/predict?alias=canary&version=2", 400, "both a version and an alias"),
        ("/predict?version=3", 404, "is served at version 1, 2, not 3"),
    ):
        reply = client.post(path, json=rows)
        assert reply.status_code == status and says in reply.json["error"]["message"]
    reply = client.post("/predict", json={**rows, "alias": 2})
    assert reply.status_code == 400 and "'alias' is a number" in reply.json["error"]["message"]
    (model,) = client.get("/models").json["models"]
    assert [(version["number"], version["aliases"]) for version in model["versions"]] == [
        (1, ["production"]),
        (2, ["canary"]),
    ]
    app.service.stop()


# === Signatures ===


@pytest.fixture
def signed(copy: Registry, tmp_path: Path) -> tuple[Registry, PublicKeys]:
    """The registry with both models signed, one by each of two keys; the first of these is trusted."""
    for name, key in (("adverts", "ours"), ("passengers", "theirs")):
        write_keys(tmp_path / key)
        sign_version(copy.resolve(name), read_private_key(tmp_path / key), copy.signature_file(name, 1))
    return copy, read_public_keys(tmp_path / "ours.pub")


def test_only_what_a_trusted_key_signed_is_served(
    signed: tuple[Registry, PublicKeys], raw: dict[str, Published], caplog: pytest.LogCaptureFixture
) -> None:
    registry, keys = signed
    service = Service(registry, keys=keys)
    service.load()
    assert [model.name for model in service.models()] == ["adverts"]
    assert service.failures() == {"passengers": "invalid_artifact"}
    assert "passengers/1 is signed by key" in caplog.text
    columns = make_columns(MODELS["adverts"][0], 3)
    expected = load_model(raw["adverts"].version).predict_raw(columns)["answer"]
    np.testing.assert_array_equal(service.get().predict_raw(columns)["answer"], expected)
    registry.signature_file("adverts", 1).unlink()
    unsigned = Service(registry, keys=keys)
    unsigned.load()
    assert set(unsigned.failures()) == {"adverts", "passengers"} and "adverts/1 is not signed" in caplog.text


@pytest.mark.parametrize("place", ["bmp/manifest.json", "bmp/samples.npz", "saved_model.pb", "fingerprint.pb"])
def test_a_signed_version_is_not_served_once_a_bit_is_flipped(signed: tuple[Registry, PublicKeys], place: str) -> None:
    registry, keys = signed
    file = registry.resolve("adverts").path / place
    data = file.read_bytes()
    file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    service = Service(registry, ["adverts"], keys)
    service.load()
    assert service.failures() == {"adverts": "invalid_artifact"}


def test_what_is_loaded_is_what_was_looked_at(
    signed: tuple[Registry, PublicKeys], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that change between the look and the loading change nothing: the copy that was looked at is loaded."""
    registry, keys = signed
    seen = []

    def load(version: Version, *choice: str, **options: Any) -> LoadedModel:
        for file in registry.resolve("adverts").path.rglob("*"):
            if file.is_file():
                file.write_bytes(b"changed")
        seen.append(version.path)
        return load_model(version, *choice, **options)

    monkeypatch.setattr("serving.models.stock.load_model", load)
    service = Service(registry, ["adverts"], keys)
    service.load()
    assert service.failures() == {} and service.get().version == 1
    assert not seen[0].exists() and registry.root not in seen[0].parents


def test_a_served_version_is_not_collected(copy: Registry) -> None:
    service = Service(copy, ["adverts"])
    service.load()
    copy.publish(copy.resolve("adverts").path, "adverts")
    collected = copy.gc("adverts")
    assert [version.number for version in collected.in_use] == [1] and collected.removed == ()
