"""Shared by all tests: one quick run of the whole flow, and real servers on free loopback ports."""

import gc
import io
import os
import resource
import shutil
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
    from bmp.data import Dataset, Split
    from bmp.run import Run
    from bmp.signature import Arrays
    from bmp.training import Trainer
    from bmp.training.stop import StopRequest

PROJECT = Path(__file__).parent.parent


def _settle() -> None:
    """Takes what is there out of the garbage collector's sight.

    Each conversion to LiteRT collects garbage, and would walk through all of TensorFlow and every graph that it has
    kept: a fifth of the time of all tests.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    _settle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    yield
    if nextitem is None or nextitem.path != item.path:
        _settle()


@pytest.fixture(autouse=True)
def _precision_stays() -> Iterator[None]:
    """Fails a test that leaves another precision policy of Keras to those after it."""
    yield
    keras = sys.modules.get("tf_keras")
    if keras is None:
        return
    left = keras.mixed_precision.global_policy().name
    keras.mixed_precision.set_global_policy("float32")
    assert left == "float32", f"the precision policy of Keras was left at {left}; give back the one that was found"


_INT8 = "{int8: {calibration_examples: 64}}"
_PRUNE = "{prune: {sparsity: 0.8, epochs: 3, learning_rate: 2e-3}}"
QUICK = ("train.epochs=6", f"compress.chains=[[{_INT8}], [{_PRUNE}], [{_PRUNE}, {_INT8}]]")
"""Overrides that make the digits recipe a matter of seconds; accuracy is not the point then."""


@pytest.fixture(scope="session")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """The whole flow once, for everything that needs a published model. Nobody may change its registry."""
    from bmp.config import load_recipe
    from bmp.run import run

    directory = tmp_path_factory.mktemp("quick")
    recipe = load_recipe("digits", [*QUICK, f"publish.root={directory / 'registry'}"])
    return run(recipe, run_dir=directory / "run", console=Console(file=io.StringIO()))


TINY = {
    "seed": 2,
    "data": {
        "source": "sklearn",
        "args": {"name": "digits"},
        "split": {"train": 0.4, "validation": 0.2, "test": 0.4},
        "batch_size": 64,
    },
    "model": {"build": "mlp", "args": {"hidden": [48], "scale": 0.0625}},
    "train": {"epochs": 12, "learning_rate": 5e-3, "jit": False, "steps_per_execution": 12, "deterministic": True},
    "compress": {"max_drop": 0.03, "class_floor": None, "epochs": 2, "chains": []},
    "publish": {"name": "tiny"},
}
"""A small dense network that learns in a second: 718 examples to train on, 360 to choose by, 719 to prove on."""


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A published model to compress; the registry is `registry` in the parent of its run. Nobody may change it."""
    from bmp.config import Recipe
    from bmp.run import run

    directory = tmp_path_factory.mktemp("tiny")
    recipe = Recipe.model_validate(TINY | {"publish": {"name": "tiny", "root": str(directory / "registry")}})
    return run(recipe, run_dir=directory / "run", console=Console(file=io.StringIO()))


@pytest.fixture(scope="session")
def tiny_trainer(tiny_run: "Run") -> "Trainer":
    """What has trained the tiny model, or its like."""
    return make_trainer(tiny_run.data)


def make_trainer(data: "Dataset", stop: "StopRequest | None" = None) -> "Trainer":
    """A trainer of one device, whose weights are the same at every call."""
    from bmp.config import TrainConfig
    from bmp.distribution import STRATEGIES
    from bmp.distribution.cluster import Cluster
    from bmp.training import OPTIMIZERS, Trainer
    from bmp.training.stop import StopRequest
    from bmp.training.trainer import Place

    return Trainer(
        data,
        STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS["adam"],
        batch_size=64,
        seed=2,
        console=Console(file=io.StringIO()),
        config=TrainConfig.model_validate(TINY["train"]),
        place=Place(stop=stop or StopRequest()),
    )


@pytest.fixture
def tiny_registry(tiny_run: "Run", tmp_path: Path) -> Path:
    """A registry of one's own with the tiny model in it."""
    shutil.copytree(tiny_run.version.path.parent.parent, tmp_path / "registry")
    return tmp_path / "registry"


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
    registry: Path,
    log: Path,
    *options: str,
    environ: dict[str, str] | None = None,
    ready_within_s: float = 60,
    ready_path: str = "/ready",
) -> Iterator[Server]:
    """Starts `bmp serve` on a free port, waits until it says at a path that it is ready, and stops it at the end."""
    port = find_free_port()
    command = [sys.executable, "-m", "bmp", "serve", "--registry", str(registry), "--port", str(port), *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, stdout=output, stderr=output, env=os.environ | (environ or {})
        )
    try:
        server = Server(f"http://127.0.0.1:{port}", process, log)
        _wait_until_ready(server, ready_within_s, ready_path)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Server, within_s: float, path: str) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        assert server.process.poll() is None, f"the server ended:\n{server.log.read_text()}"
        try:
            if server.get(path).status_code == 200:
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
