"""The service: what it answers before, while and after it loads."""

import threading
from pathlib import Path

import numpy as np
import pytest

from bmp.errors import NotFoundError, NotReadyError, RequestError, SignatureError
from bmp.registry import Registry
from bmp.run import Run
from serving.app import create_app
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
    images = quick_run.data.test.inputs["image"][:5]
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
    client = create_app(Settings(registry=registry.root, models=("digits",))).test_client()
    body = {"x_test": [[[0] * 8] * 8]}
    assert client.get("/health").status_code == 200
    for reply in (client.get("/ready"), client.post("/predict", json=body)):
        assert reply.status_code == 503
        assert reply.json["error"]["code"] == "not_ready" and reply.headers["Retry-After"] == "1"
    gate.set()
    loader = next(thread for thread in threading.enumerate() if thread.name == "bmp-load")
    loader.join(30)
    assert client.get("/ready").status_code == client.post("/predict", json=body).status_code == 200


def test_a_bug_is_a_500_without_details(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(registry=registry.root, models=("digits",)))
    monkeypatch.setattr(Service, "sole_model", lambda self: 1 / 0)
    reply = app.test_client().post("/predict", json={"x_test": []})
    assert reply.status_code == 500
    assert reply.json["error"]["code"] == "internal_error" and "division" not in reply.text
