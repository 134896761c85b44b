"""One prediction by a real server: started on a free port, asked about a held-out example, stopped."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from bmp.artifact.samples import read_samples
from bmp.errors import NotReadyError
from bmp.registry import Registry

_START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Answer:
    """What the server said.

    Args:
        url: That was asked.
        model: `name/version`.
        label: Of the most probable class.
        probability: Of that class, 0 to 1.
        true_label: Of the example.
        inputs: The example, `(*shape)` by input name.
    """

    url: str
    model: str
    label: str
    probability: float
    true_label: str
    inputs: dict[str, np.ndarray]


def ask_server(registry: Registry, name: str, sample: int = 0) -> Answer:
    """Serves a model, sends one of the test examples published with it, and stops the server.

    Raises:
        NotFoundError: There is no such model.
        NotReadyError: The server did not start; the message holds the end of its log.
    """
    version = registry.resolve(name)
    manifest, samples = version.read_manifest(), read_samples(version.path)
    inputs = {key: array[sample] for key, array in samples.inputs.items()}
    body = {"x_test": {key: array[None].tolist() for key, array in inputs.items()}, "model": name}
    with run_server(registry, name) as url:
        answer, headers = _post(f"{url}/predict", body)
    probabilities = np.array(answer["prediction"][0])  # (classes,)
    return Answer(
        f"{url}/predict",
        headers["Bmp-Model"],
        manifest.labels[int(probabilities.argmax())],
        float(probabilities.max()),
        manifest.labels[int(samples.targets[sample])],
        inputs,
    )


@contextmanager
def run_server(registry: Registry, name: str) -> Iterator[str]:
    """Runs `bmp serve` with one worker on a free loopback port and yields its URL once it is ready.

    Raises:
        NotReadyError: The server did not start; the message holds the end of its log.
    """
    port = find_free_port()
    command = [sys.executable, "-m", "bmp", "serve", "--model", name, "--registry", str(registry.root)]
    command += ["--port", str(port), "--workers", "1"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BMP_")}
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        if not _wait_until_ready(url, process):
            process.kill()
            output, _ = process.communicate()
            raise NotReadyError(f"The server did not start. The end of its log: {output[-500:].strip()}")
        yield url
    finally:
        process.terminate()
        try:
            process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def find_free_port() -> int:
    """Returns a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: "subprocess.Popen[str]") -> bool:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return True
        except OSError:  # not listening yet, or 503 while it loads
            time.sleep(0.05)
    return False


def _post(url: str, body: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read()), response.headers
