"""The servers that are measured: `bmp serve`, and each peer in an environment of its own, on the same two cores."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests
from serving_models import Published

from bmp.smoke import find_free_port

HERE = Path(__file__).parent
PROJECT = HERE.parent
PEERS = HERE / "peers"
START_WITHIN_S = 90
WORKERS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Start:
    """What a server needs to know to start.

    Args:
        python: Of its environment.
        network: What it serves.
        port: Of HTTP.
        grpc_port: Of gRPC.
        directory: For files of its own.
    """

    python: Path
    network: Published
    port: int
    grpc_port: int
    directory: Path

    def script(self, name: str) -> str:
        """Returns a command that its environment has installed."""
        return str(self.python.parent / name)


@dataclass(frozen=True)
class Server:
    """A server that can be measured.

    Args:
        network: The network that it serves.
        command: How it is started.
        environ: What its environment says beside what all are told.
        peer: Name of its section in `requirements.txt`; empty for what runs in our own environment.
        ready_path: What answers with 200 once it can be asked.
    """

    network: str
    command: Callable[[Start], list[str]]
    environ: Mapping[str, str] = field(default_factory=dict)
    peer: str = ""
    ready_path: str = "/ready"


def _bmp(start: Start) -> list[str]:
    serve = [str(start.python), "-m", "bmp", "serve", "--registry", str(start.network.registry)]
    return [*serve, "--port", str(start.port), "--workers", str(WORKERS)]


def _bmp_grpc(start: Start) -> list[str]:
    return [*_bmp(start), "--grpc-port", str(start.grpc_port)]


def _gunicorn(start: Start, application: str, *options: str) -> list[str]:
    command = [str(start.python), "-m", "gunicorn", "-b", f"127.0.0.1:{start.port}", "-w", str(WORKERS)]
    return [*command, *options, application]


def _raw(start: Start, application: str = "app", worker: str = "serving.worker.BufferedWorker") -> list[str]:
    options = ["-k", worker, "--no-control-socket", "--keep-alive", "15"]
    return _gunicorn(start, f"benchmarks.raw_app:{application}", *options)


def _raw_asgi(start: Start) -> list[str]:
    return _raw(start, "asgi_app", "asgi")


def _bare(start: Start) -> list[str]:
    return _raw(start, "make_bare_app()")


def _plain(start: Start) -> list[str]:
    return _gunicorn(start, "plain_server:app", "--pythonpath", str(PEERS))


def _fastapi(start: Start) -> list[str]:
    return _uvicorn(start, "fastapi_server:app")


def _fastapi_by_hand(start: Start) -> list[str]:
    return _uvicorn(start, "fastapi_by_hand_server:app")


def _uvicorn(start: Start, application: str) -> list[str]:
    command = [start.script("uvicorn"), application, "--host", "127.0.0.1", "--port", str(start.port)]
    tuned = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    return [*command, "--workers", str(WORKERS), *tuned]


def _litserve(start: Start) -> list[str]:
    return [str(start.python), str(PEERS / "litserve_server.py")]


def _bentoml(start: Start) -> list[str]:
    where = ["--host", "127.0.0.1", "--port", str(start.port)]
    return [start.script("bentoml"), "serve", "bentoml_server:Predict", *where]


def _mlserver(start: Start, parallel_workers: int = 0) -> list[str]:
    settings = {
        "host": "127.0.0.1",
        "http_port": start.port,
        "grpc_port": start.grpc_port,
        "metrics_port": find_free_port(),
        "metrics_endpoint": None,
        "parallel_workers": parallel_workers,
        "debug": False,
    }
    model = {"name": "dense", "implementation": "mlserver_runtime.Predict"}
    folder = start.directory / "mlserver"
    (folder / "dense").mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "dense" / "model-settings.json").write_text(json.dumps(model))
    return [start.script("mlserver"), "start", str(folder)]


def _mlserver_parallel(start: Start) -> list[str]:
    return _mlserver(start, WORKERS)


_V2_READY = "/v2/models/dense/ready"
SERVERS = {
    "bmp": Server("dense", _bmp),
    "bmp, gRPC": Server("dense", _bmp_grpc),
    "bmp, photos": Server("photo", _bmp),
    "bmp, large photos": Server("large photo", _bmp),
    "bmp, gathering": Server("wide", _bmp),
    "bmp, one by one": Server("wide", _bmp, {"BMP_BATCHING": "off"}),
    "no-op": Server("dense", _raw),
    "no-op, asgi": Server("dense", _raw_asgi),
    "bare handler": Server("dense", _bare),
    "plain Flask": Server("dense", _plain),
    "FastAPI": Server("dense", _fastapi, peer="fastapi"),
    "FastAPI by hand": Server("dense", _fastapi_by_hand, peer="fastapi"),
    "LitServe": Server("dense", _litserve, peer="litserve", ready_path="/health"),
    "BentoML": Server("dense", _bentoml, peer="bentoml", ready_path="/readyz"),
    "MLServer": Server("dense", _mlserver, peer="mlserver", ready_path=_V2_READY),
    "MLServer, parallel": Server("dense", _mlserver_parallel, peer="mlserver", ready_path=_V2_READY),
}


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Args:
        process: That was started.
        url: Of HTTP.
        grpc_target: Of gRPC.
    """

    process: psutil.Popen
    url: str
    grpc_target: str

    def memory_bytes(self) -> int:
        """Returns what all its processes take; what they share is counted once."""
        tree = [psutil.Process(self.process.pid), *self.process.children(recursive=True)]
        return sum(process.memory_full_info().pss for process in tree)


@contextmanager
def running(name: str, python: Path, network: Published, directory: Path) -> Iterator[Running]:
    """Runs a server; what it prints goes into a file of the directory."""
    server, start = SERVERS[name], Start(python, network, find_free_port(), find_free_port(), directory)
    environ = os.environ | {
        "PEER_MODEL": str(network.litert_file),
        "PLAIN_MODEL": str(network.version.path / "model.h5"),
        "PEER_PORT": str(start.port),
        "PEER_WORKERS": str(WORKERS),
        "PYTHONPATH": str(PEERS) if server.peer else "",
        **server.environ,
    }
    url, log = f"http://127.0.0.1:{start.port}", directory / f"{re.sub('[^a-zA-Z]+', '-', name)}.log"
    with log.open("wb") as output:
        process = psutil.Popen(server.command(start), cwd=PROJECT, env=environ, stdout=output, stderr=output)
    try:
        _wait_until_ready(process, url + server.ready_path, log)
        time.sleep(2)  # one worker is ready; the others need a moment more
        yield Running(process, url, f"127.0.0.1:{start.grpc_port}")
    finally:
        _stop(process)


def _wait_until_ready(process: psutil.Popen, url: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while True:
        if process.poll() is not None or time.monotonic() > deadline_s:
            sys.exit(f"The server did not start:\n{log.read_text()}")
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.2)


def _stop(process: psutil.Popen) -> None:
    """Ends a server and whatever it has started."""
    if process.poll() is not None:
        return
    tree = process.children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([process, *tree], timeout=20)
    for left in alive:
        left.kill()
    psutil.wait_procs(alive, timeout=20)
