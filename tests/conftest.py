"""Shared by all tests: one quick run of the whole flow, and real servers on free loopback ports."""

import io
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from rich.console import Console

if TYPE_CHECKING:
    from bmp.data import Split
    from bmp.run import Run
    from bmp.signature import Arrays

PROJECT = Path(__file__).parent.parent

QUICK = (
    "train.epochs=6",
    "compress.pruning.epochs=3",
    "compress.quantization.calibration_examples=64",
)
"""Overrides that make the digits recipe a matter of seconds; accuracy is not the point then."""


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """The whole flow once, for everything that needs a published model. Nobody may change its registry."""
    from bmp.config import load_recipe
    from bmp.run import run

    directory = tmp_path_factory.mktemp("quick")
    recipe = load_recipe("digits", [*QUICK, f"publish.root={directory / 'registry'}"])
    return run(recipe, run_dir=directory / "run", console=Console(file=io.StringIO()))


def make_split(inputs: "Arrays", targets: np.ndarray, labels: tuple[str, ...]) -> "Split":
    """A split of ready tensors in memory, with classes to predict."""
    from bmp.data import Split
    from bmp.data.sources.memory import ArraySource
    from bmp.objectives import Target
    from bmp.transforms import Field, Preprocessing

    fields = tuple(Field(name, "tensor", str(array.dtype), array.shape[1:]) for name, array in inputs.items())
    source = ArraySource(inputs, fields, targets, Target("class", labels))
    return Split(source, np.arange(len(targets)), Preprocessing(fields, ()))


@contextmanager
def disk_that_holds(size_bytes: int) -> Iterator[None]:
    """No file can grow over this size meanwhile: a write then fails half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A running `bmp serve`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def post(self, json: object, path: str = "/predict") -> requests.Response:
        return requests.post(self.url + path, json=json, timeout=10)

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=10)


@contextmanager
def run_server(
    registry: Path, log: Path, *options: str, environ: dict[str, str] | None = None, ready_within_s: float = 60
) -> Iterator[Server]:
    """Starts `bmp serve` on a free port, waits until it is ready, and stops it at the end."""
    port = find_free_port()
    command = [sys.executable, "-m", "bmp", "serve", "--registry", str(registry), "--port", str(port), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, stdout=output, stderr=output, env=os.environ | (environ or {})
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", process, log)
        _wait_until_ready(server, ready_within_s)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        assert server.process.poll() is None, f"the server ended:\n{server.log.read_text()}"
        try:
            if server.get("/ready").status_code == 200:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the server did not become ready:\n{server.log.read_text()}")


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """`serve(registry, *options, environ=None)` starts a server that lives until the session ends."""
    with ExitStack() as stack:

        def start(registry: Path, *options: str, environ: dict[str, str] | None = None) -> Server:
            log = tmp_path_factory.mktemp("server") / "server.log"
            return stack.enter_context(run_server(registry, log, *options, environ=environ))

        yield start


@pytest.fixture(scope="session")
def server(quick_run: "Run", serve: Callable[..., Server]) -> Server:
    """One server of the quick run's registry, one worker, for every test that only asks."""
    return serve(quick_run.version.path.parent.parent, "--workers", "1")
