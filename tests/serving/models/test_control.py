"""Clients that load and unload by themselves: where the operator lets them, and in all processes of a server alike."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from conftest import run_server
from numbered_models import QUESTION, eventually, publish

from bmp.errors import NotFoundError, NotReadyError, RegistryError
from bmp.registry import Registry
from serving.app import ServingApp, create_app
from serving.models.control import VARIABLE, Control, ControlError, close_file, open_file
from serving.models.terms import Terms
from serving.service import Service
from serving.settings import Settings

ROWS = {"x_test": [[0, 0]]}

# === What processes agree on ===


@pytest.mark.parametrize("shared", [True, False])
def test_names_come_and_go(tmp_path: Path, shared: bool) -> None:
    control = Control(["a"], tmp_path / "names" if shared else None)
    assert control.names() == {"a"}
    for name in ("b", "c" * 64, "b"):
        control.add(name)
    control.remove("a")
    control.remove("nobody")
    assert control.names() == {"b", "c" * 64}
    control.remove("c" * 64)
    assert control.names() == {"b"}


def test_what_one_process_says_counts_in_the_others(tmp_path: Path) -> None:
    one, other = (Control(["a"], tmp_path / "names") for _ in range(2))
    threads = [threading.Thread(target=(one, other)[index % 2].add, args=(f"m{index}",)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.names() == other.names() == {"a", *(f"m{index}" for index in range(20))}
    one.remove("a")
    assert "a" not in other.names()
    for name in one.names():
        other.remove(name)
    assert one.names() == set(), "nothing is not the same as the first names"


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("[")
    with pytest.raises(RegistryError, match="What is to be loaded cannot be read from"):
        Control([], tmp_path / "names").names()
    with pytest.raises(RegistryError, match="Not a directory"):
        Control([], tmp_path / "names" / "inside").names()


def test_a_server_makes_a_file_and_removes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, "")
    open_file()
    file = Path(os.environ[VARIABLE])
    assert file.read_bytes() == b""
    open_file()
    assert Path(os.environ[VARIABLE]) == file
    close_file()
    assert not file.exists()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "own"))
    (tmp_path / "own").touch()
    close_file()
    assert (tmp_path / "own").exists(), "it is the operator's"


# === What a service does ===


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "registry")
    publish(registry, 1, "a")
    publish(registry, 2, "b")
    return registry


@pytest.fixture
def app(registry: Registry) -> Iterator[ServingApp]:
    """A server that has a loaded, and leaves the rest to its clients."""
    app = create_app(Settings(registry=registry.root, models=("a",), model_control="explicit"))
    eventually(app.is_started)
    yield app
    app.service.stop()


def test_by_default_only_the_registry_decides(registry: Registry) -> None:
    app = create_app(Settings(registry=registry.root))
    eventually(app.is_started)
    for verb in ("load", "unload"):
        reply = app.test_client().post(f"/v2/repository/models/a/{verb}")
        assert reply.status_code == 403 and "BMP_MODEL_CONTROL=explicit" in reply.json["error"]
    with pytest.raises(ControlError):
        app.service.order_load("a")
    assert app.service.get("a").predict(QUESTION)["y"][0, 0] == 1
    app.service.stop()


def test_clients_load_and_unload(app: ServingApp) -> None:
    client = app.test_client()
    assert client.get("/ready").json == {"ready": True, "models": ["a/1"]}
    assert client.get("/models").json["unloaded"].keys() == {"b"}
    assert [row["state"] for row in client.post("/v2/repository/index").json] == ["READY", "UNAVAILABLE"]
    reply = client.post("/predict", json={**ROWS, "model": "b"})
    assert reply.status_code == 404 and "POST /v2/repository/models/b/load" in reply.json["error"]["message"]
    assert client.post("/predict", json=ROWS).json == {"prediction": [[1.0]]}, "only a answers"

    assert client.post("/v2/repository/models/b/load", json={"parameters": {}}).status_code == 200
    assert client.post("/predict", json={**ROWS, "model": "b"}).json == {"prediction": [[2.0]]}
    assert client.post("/v2/repository/models/a/unload").status_code == 200
    assert client.post("/v2/repository/models/a/unload").status_code == 200, "once more does nothing"
    assert client.post("/predict", json=ROWS).json == {"prediction": [[2.0]]}
    assert [row["reason"] for row in client.post("/v2/repository/index").json] == ["unloaded", ""]
    assert client.get("/v2/models/a/ready").status_code == 404
    assert client.post("/v2/repository/models/b/unload").status_code == 200
    assert client.get("/ready").json == {"ready": True, "models": []}
    reply = client.post("/predict", json=ROWS)
    assert reply.status_code == 404 and "No model is loaded" in reply.json["error"]["message"]


@pytest.mark.parametrize("name", ["aa", "..%2F..%2Fetc", "A", "x" * 500])
@pytest.mark.parametrize("verb", ["load", "unload"])
def test_nothing_outside_the_registry_is_loaded(app: ServingApp, name: str, verb: str) -> None:
    reply = app.test_client().post(f"/v2/repository/models/{name}/{verb}")
    assert reply.status_code == 404 and len(reply.json["error"]) < 600
    assert app.service.names() == ["a", "b"]


def test_a_model_that_cannot_be_loaded_says_so(app: ServingApp, registry: Registry) -> None:
    file = registry.resolve("b").path / "model.tflite"
    file.write_bytes(b"no model")
    reply = app.test_client().post("/v2/repository/models/b/load")
    assert reply.status_code == 503 and "could not be loaded; the log of the server says why" in reply.json["error"]
    assert app.service.failures() == {"b": "invalid_artifact"}
    app.service.order_unload("b")
    assert app.service.failures() == {}


def test_what_was_unloaded_is_answered_to_the_end_and_follows_the_registry_when_it_is_back(
    app: ServingApp, registry: Registry
) -> None:
    model = app.service.get("a")
    app.service.order_unload("a")
    assert [state.state for state in app.service.versions("a")] == ["END"]
    assert model.predict(QUESTION)["y"][0, 0] == 1
    publish(registry, 5, "a")
    with pytest.raises(NotFoundError, match="Model 'a' is not loaded"):
        app.service.get("a")
    app.service.order_load("a")
    assert app.service.get("a").predict(QUESTION)["y"][0, 0] == 5
    publish(registry, 6, "a")
    eventually(lambda: app.service.get("a").version == 3)


def test_a_process_that_has_not_begun_to_load_says_that_it_will(registry: Registry) -> None:
    control = Control()
    service = Service(registry, terms=Terms(control=control))
    service.load()
    control.add("a")  # as another process of the server does
    with pytest.raises(NotReadyError, match="Model 'a' is still loading"):
        service.get("a")


def test_an_order_does_not_wait_for_ever(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.service._ORDER_S", 0.1)
    service = Service(registry, terms=Terms(control=Control()))
    service.load()  # and nobody follows
    with pytest.raises(NotReadyError, match="Model 'a' is still loading; ask for it a little later"):
        service.order_load("a")


def test_every_worker_does_as_it_was_told(registry: Registry, tmp_path: Path) -> None:
    environ = {"BMP_MODEL_CONTROL": "explicit"}
    with run_server(registry.root, tmp_path / "log", "--workers", "2", environ=environ) as server:
        assert requests.post(f"{server.url}/v2/repository/models/a/load", timeout=10).status_code == 200
        eventually(lambda: all(_status(server.url) == 200 for _ in range(10)))
        assert requests.post(f"{server.url}/v2/repository/models/a/unload", timeout=10).status_code == 200
        eventually(lambda: all(_status(server.url) == 404 for _ in range(10)))


def _status(url: str) -> int:
    """Asks over a connection of its own, which either worker may get."""
    return requests.post(f"{url}/predict", json={**ROWS, "model": "a"}, timeout=10).status_code
