"""What an operator asks of a real server."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests
from conftest import Server, find_free_port, run_server

from bmp.registry import Registry
from bmp.run import Run


def test_health_and_ready(server: Server) -> None:
    assert server.get("/health").json() == {"alive": True}
    assert server.get("/ready").json() == {"ready": True, "models": ["digits/1"]}


def test_models_says_what_a_client_needs(server: Server, quick_run: Run) -> None:
    content = server.get("/models").json()
    assert content["failed"] == {}
    (model,) = content["models"]
    assert (model["name"], model["version"]) == ("digits", 1)
    assert model["versions"] == [{"number": 1, "state": "AVAILABLE", "error": None, "aliases": []}]
    assert model["signature"] == quick_run.data.signature.to_dict()
    assert model["labels"] == list(quick_run.data.labels)
    assert model["variant"] == quick_run.manifest.recommended
    measured = quick_run.manifest.variant(model["variant"]).measured
    assert model["metrics"] == measured.model_dump()


@pytest.fixture
def registry(quick_run: Run, tmp_path: Path) -> Registry:
    """A registry with two versions of digits and one of another name."""
    artifact = quick_run.version.path
    registry = Registry(tmp_path / "registry")
    for name in ("digits", "digits", "other"):
        registry.publish(artifact, name)
    return registry


def test_newest_is_served_and_production_goes_before_it(registry: Registry, tmp_path: Path) -> None:
    with run_server(registry.root, tmp_path / "newest.log", "--workers", "1") as server:
        assert server.get("/ready").json()["models"] == ["digits/2", "other/1"]
    registry.set_alias("digits", "production", 1)
    with run_server(registry.root, tmp_path / "alias.log", "--workers", "1") as server:
        assert server.get("/ready").json()["models"] == ["digits/1", "other/1"]


def test_several_models_need_a_name(registry: Registry, tmp_path: Path, quick_run: Run) -> None:
    image = quick_run.data.test.take(slice(0, 1)).load().inputs["image"].tolist()
    with run_server(registry.root, tmp_path / "server.log", "--workers", "1") as server:
        reply = server.post({"x_test": image})
        assert reply.status_code == 400
        assert "digits, other" in reply.json()["error"]["message"]
        reply = server.post({"x_test": image, "model": "other"})
        assert reply.headers["Bmp-Model"] == "other/1"


def test_model_option_serves_that_one_alone(registry: Registry, serve: Callable[..., Server]) -> None:
    server = serve(registry.root, "--workers", "1", "--model", "other")
    assert server.get("/ready").json()["models"] == ["other/1"]


@pytest.mark.parametrize("damage", ["flip a byte", "remove the file", "cut the manifest"])
def test_damaged_model_is_reported_and_harms_no_other(registry: Registry, tmp_path: Path, damage: str) -> None:
    version = registry.resolve("digits")
    model = version.path / "model.tflite"
    if damage == "flip a byte":
        data = bytearray(model.read_bytes())
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
    elif damage == "remove the file":
        model.unlink()
    else:
        manifest = version.path / "bmp" / "manifest.json"
        manifest.write_bytes(manifest.read_bytes()[:100])
    with run_server(registry.root, tmp_path / "server.log", "--workers", "1") as server:
        assert server.get("/ready").json()["models"] == ["other/1"]
        assert server.get("/models").json()["failed"] == {"digits": "invalid_artifact"}
        reply = server.post({"x_test": [[[0] * 8] * 8], "model": "digits"})
        assert reply.status_code == 503 and "Retry-After" in reply.headers
        assert server.post({"x_test": [[[0] * 8] * 8], "model": "other"}).status_code == 200
    assert "digits/2 cannot be served" in (tmp_path / "server.log").read_text()


def test_nothing_loaded_is_not_ready(registry: Registry, tmp_path: Path) -> None:
    shutil.rmtree(registry.root / "digits")
    (registry.root / "other" / "1" / "model.tflite").write_bytes(b"nothing")
    log = tmp_path / "server.log"
    # The server lives, but is never ready: the helper gives up on it.
    with (
        pytest.raises(AssertionError, match="did not become ready"),
        run_server(registry.root, log, "--workers", "1", ready_within_s=5) as server,
    ):
        raise RuntimeError(f"{server.url} became ready")
    assert "other/1 cannot be served" in log.read_text()


def test_head_has_no_body(server: Server) -> None:
    reply = requests.head(f"{server.url}/models", timeout=10)
    assert reply.status_code == 200 and reply.content == b"" and int(reply.headers["Content-Length"]) > 100


def test_workers_hold_no_tensorflow(server: Server) -> None:
    workers = psutil.Process(server.process.pid).children(recursive=True)
    assert workers
    for worker in workers:
        mapped = Path(f"/proc/{worker.pid}/maps").read_text()
        assert "ai_edge_litert" in mapped
        assert "site-packages/tensorflow" not in mapped and "site-packages/keras" not in mapped


def test_setting_that_does_not_exist_is_one_sentence(registry: Registry, tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bmp", "serve", "--registry", str(registry.root), "--port", str(find_free_port())],
        env=os.environ | {"BMP_PROT": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode != 0
    assert finished.stderr.count("\n") == 1 and "Did you mean 'BMP_PORT'?" in finished.stderr


def test_environment_sets_what_options_leave_open(registry: Registry, tmp_path: Path) -> None:
    environ = {"BMP_MODELS": "other", "BMP_WORKERS": "1"}
    with run_server(registry.root, tmp_path / "server.log", environ=environ) as server:
        assert server.get("/ready").json()["models"] == ["other/1"]
        assert len(psutil.Process(server.process.pid).children()) == 1
