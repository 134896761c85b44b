"""What is counted: exactly, by all workers together, and never with a client's words in it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import PROJECT, Server, run_server
from flask.testing import FlaskClient
from numbered_models import eventually, publish
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.http import InferenceServerClient

from bmp.errors import InferenceError
from bmp.registry import Registry
from serving.app import create_app
from serving.batching import Ran, Work
from serving.metrics import meters, shared_counts
from serving.metrics.scrape import read_counts, sum_samples, write_metrics
from serving.metrics.shared_counts import VARIABLE, check_directory, close_directory, find_processes, open_directory
from serving.service import Service
from serving.settings import Settings

ASK = {
    "predict": ("/predict", {"instances": [[0, 0], [0, 0]]}),
    "tfserving": ("/v1/models/n:predict", {"instances": [[0, 0], [0, 0]]}),
    "inference_v2": (
        "/v2/models/n/infer",
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0, 0, 0, 0]}]},
    ),
}
EACH = 60  # requests a door
BAD = 7


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(tmp_path_factory.mktemp("metrics") / "registry")
    publish(registry, 1)
    return registry


@pytest.fixture(scope="module")
def counted_server(registry: Registry, serve: Callable[..., Server]) -> Server:
    return serve(registry.root, "--workers", "2")


@pytest.fixture(scope="module")
def client(registry: Registry) -> FlaskClient:
    app = create_app(Settings(registry=registry.root))
    eventually(app.is_started)
    return app.test_client()


def ask(server: Server, door: str, body: object = None) -> int:
    """One request over a connection of its own, so that any worker may get it."""
    path, good = ASK[door]
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    connection.request("POST", path, json.dumps(good if body is None else body), {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status


def read(text: str, name: str, *labels: str) -> Counter[tuple[str, ...]]:
    """The sums of the samples of a name, by some of their labels."""
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(sample.labels[label] for label in labels)] += sample.value
    return found


def count_requests(server: Server) -> Counter[tuple[str, ...]]:
    """Requests for the model, by door and outcome."""
    found = read(server.get("/metrics").text, "bmp_requests_total", "model", "version", "door", "outcome")
    return Counter({labels[2:]: value for labels, value in found.items() if labels[:2] == ("n", "1")})


def test_workers_count_exactly_and_a_killed_one_takes_nothing_away(counted_server: Server) -> None:
    jobs = [(door, None) for door in ASK] * EACH + [(door, {"instances": "no"}) for door in ASK] * BAD
    with ThreadPoolExecutor(8) as pool:
        statuses = Counter(pool.map(lambda job: ask(counted_server, *job), jobs))
    assert statuses == {200: 3 * EACH, 400: 3 * BAD}
    expected = Counter({(door, "ok"): EACH for door in ASK})
    expected += Counter({("predict", "invalid_input"): BAD, ("tfserving", "invalid_request"): BAD})
    expected += Counter({("inference_v2", "invalid_request"): BAD})
    eventually(lambda: count_requests(counted_server) == expected)
    text = counted_server.get("/metrics").text
    assert read(text, "bmp_examples_total", "model") == {("n",): 3 * EACH * 2}
    assert read(text, "bmp_request_duration_seconds_count", "model")[("n",)] == 3 * (EACH + BAD)

    arbiter = psutil.Process(counted_server.process.pid)
    before = arbiter.children()
    before[0].kill()
    eventually(lambda: {*arbiter.children()} - {*before} and before[0] not in arbiter.children())
    assert count_requests(counted_server) == expected
    eventually(lambda: read(counted_server.get("/metrics").text, "bmp_model_loaded", "model") == {("n",): 2})
    with ThreadPoolExecutor(8) as pool:
        assert {*pool.map(lambda _: ask(counted_server, "predict"), range(EACH))} == {200}
    eventually(lambda: count_requests(counted_server) == expected + Counter({("predict", "ok"): EACH}))


def test_what_never_became_a_request_is_counted(counted_server: Server) -> None:
    host, port = counted_server.url.removeprefix("http://").split(":")
    for text in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=20) as client:
            client.sendall(text)
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 ")
    counts = read(counted_server.get("/metrics").text, "bmp_refused_requests_total", "code")
    assert counts == {("bad_request",): 2, ("http_version_not_supported",): 1}


def test_memory_is_that_of_all_processes(counted_server: Server) -> None:
    text = counted_server.get("/monitoring/prometheus/metrics").text
    assert read(text, "bmp_processes")[()] == 3
    arbiter = psutil.Process(counted_server.process.pid)
    shares = sum(process.memory_full_info().pss for process in [arbiter, *arbiter.children()])
    assert read(text, "bmp_memory_bytes")[()] == pytest.approx(shares, rel=0.1)
    assert sum(read(text, "bmp_build_info", "version").values()) == 1


def test_statistics_are_those_of_the_metrics(counted_server: Server) -> None:
    with InferenceServerClient(counted_server.url.removeprefix("http://")) as triton:
        assert "statistics" in triton.get_server_metadata()["extensions"]
        (before,) = triton.get_inference_statistics("n", "1")["model_stats"]
        assert ask(counted_server, "inference_v2") == 200 and ask(counted_server, "predict", {"x_test": 1}) == 400
        requests = sum(before["inference_stats"][name]["count"] for name in ("success", "fail"))
        eventually(lambda: sum(count_requests(counted_server).values()) == requests + 2)
        (after,) = triton.get_inference_statistics("n")["model_stats"]
        assert triton.get_inference_statistics()["model_stats"] == [after]
    grown = {name: after[name] - before[name] for name in ("inference_count", "execution_count")}
    assert grown == {"inference_count": 2, "execution_count": 1}
    assert after["last_inference"] >= before["last_inference"] > 1.5e12
    stats, old = after["inference_stats"], before["inference_stats"]
    for name, more in {"success": 1, "fail": 1, "queue": 1, "compute_infer": 1, "compute_input": 1}.items():
        assert stats[name]["count"] - old[name]["count"] == more, name
    parts = sum(stats[name]["ns"] for name in ("queue", "compute_input", "compute_infer", "compute_output"))
    assert parts == pytest.approx(stats["success"]["ns"], abs=4)
    assert sum(batch["compute_infer"]["count"] for batch in after["batch_stats"]) == after["execution_count"]
    assert counted_server.get("/v2/models/nobody/stats").status_code == 404
    assert counted_server.get("/v2/models/n/versions/7/stats").status_code == 404


def test_no_words_of_a_client_become_labels(client: FlaskClient) -> None:
    evil = "zzz-evil"
    client.post("/predict", json={"model": evil, "instances": [[0, 0]]})
    client.post(f"/v1/models/{evil}:predict", json={"instances": [[0, 0]]})
    client.post(f"/v2/models/{evil}/infer", json={})
    client.post(f"/v2/models/n/versions/{evil}/infer", json={})
    client.get(f"/{evil}")
    client.open("/predict", method=evil.upper())
    assert evil not in client.get("/metrics").text.lower()


def test_both_formats_can_be_read(client: FlaskClient) -> None:
    reply = client.get("/metrics", headers={"Accept": "text/html, */*;q=0.1"})
    assert reply.content_type.startswith("text/plain; version=0.0.4")
    plain = {family.name for family in text_string_to_metric_families(reply.text)}
    reply = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=nonsense;q=1"})
    assert reply.content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert plain == {family.name for family in openmetrics.text_string_to_metric_families(reply.text)}


def test_loads_failures_and_versions_that_are_gone(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    publish(registry, 1, "counted")
    service = Service(registry, ["counted"])
    service.load()
    version = publish(registry, 2, "counted")
    (version.path / "model.tflite").write_bytes(b"broken")
    service._loader.catch_up()
    publish(registry, 3, "counted")
    service._loader.catch_up()
    families = read_counts()
    loads = sum_samples(families, "bmp_model_load_duration_seconds_count", "model", "outcome")
    assert loads["counted", "ok"] == 2 and loads["counted", "invalid_artifact"] == 1
    assert sum_samples(families, "bmp_model_switches_total", "model")["counted",] == 1
    loaded = read(write_metrics("")[0].decode(), "bmp_model_loaded", "model", "version")
    assert ("counted", "3") in loaded and ("counted", "1") not in loaded


def test_a_run_of_several_requests(client: FlaskClient) -> None:
    works = [Work({"x": np.zeros((count, 2))}) for count in (1, 4, 2)]
    for work, waited_s in zip(works, (0.5, 0.25, 0.0), strict=True):
        work.waited_s = waited_s
    works[0].outputs = works[1].outputs = {}
    works[2].error = InferenceError("not finite")
    meters.record_run(Ran("gathered", 3, works, 7, 0.01))
    families = read_counts()
    runs = sum_samples(families, "bmp_engine_duration_seconds_count", "model", "version", "batch")
    assert runs["gathered", "3", "8"] == 1
    sums = {"bmp_queue_duration_seconds_sum": 0.75, "bmp_examples_total": 5, "bmp_shared_engine_seconds_total": 0.01}
    for name, expected in sums.items():
        assert sum_samples(families, name, "model")["gathered",] == pytest.approx(expected)


@pytest.mark.parametrize(("count", "rounded"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024)])
def test_sizes_of_batches_are_few(count: int, rounded: int) -> None:
    assert meters.round_up(count) == rounded


@pytest.fixture
def no_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No directory is named, and whatever a test names is forgotten after it."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)


@pytest.mark.usefixtures("no_directory")
def test_directory_is_made_emptied_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_processes() == [os.getpid()]
    open_directory()
    ours = Path(os.environ[VARIABLE])
    (ours / "counter_1.db").touch()
    open_directory()
    assert (ours / "counter_1.db").exists(), "a server that replaces another goes on with its counts"
    close_directory()
    assert not ours.exists()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "operator"))
    open_directory()
    (tmp_path / "operator" / "counter_1.db").touch()
    (tmp_path / "operator" / "mine.txt").touch()
    open_directory()
    close_directory()
    assert [file.name for file in (tmp_path / "operator").iterdir()] == ["mine.txt"]


@pytest.mark.usefixtures("no_directory")
def test_other_servers_find_the_directory_that_the_operator_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_directory()
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, str(tmp_path / "new"))
    create_app(Settings(registry=tmp_path / "none"))
    assert (tmp_path / "new").is_dir()


@pytest.mark.usefixtures("no_directory")
def test_directory_of_a_server_that_was_killed_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_counts, "_MEMORY", tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = (
        "from serving.metrics.shared_counts import open_directory; open_directory(); print('open', flush=True); input()"
    )
    environ = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", f"import serving.metrics.shared_counts as s; s._MEMORY = s.Path('none'); {program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=PROJECT,
        env=environ,
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        (theirs,) = tmp_path.glob("bmp-metrics-*")
        open_directory()
        assert theirs.exists(), "its server lives"
        other.kill()
    monkeypatch.delenv(VARIABLE)
    open_directory()
    assert not theirs.exists()


def test_operator_may_name_the_directory(registry: Registry, tmp_path: Path) -> None:
    named, log = tmp_path / "counts", tmp_path / "server.log"
    with run_server(registry.root, log, "--workers", "1", environ={VARIABLE: str(named)}) as server:
        assert ask(server, "predict") == 200
    assert [*named.glob("histogram_*.db")], "it is the operator's"
