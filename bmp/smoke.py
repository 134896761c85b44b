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
        said: The answer in words: the most probable class, or the values.
        truth: Of the example, in the same words; None where nobody knows.
        inputs: The example, `(*shape)` by name, before any transform where it is of tensors.
    """

    url: str
    model: str
    said: str
    truth: str | None
    inputs: dict[str, np.ndarray]


def ask_server(registry: Registry, name: str, sample: int = 0) -> Answer:
    """Serves a model, sends one of the test examples published with it, and stops the server.

    Raises:
        NotFoundError: There is no such model.
        NotReadyError: The server did not start; the message holds the end of its log.
    """
    version = registry.resolve(name)
    manifest, samples = version.read_manifest(), read_samples(version.path)
    inputs = {key: array[sample] for key, array in (samples.raw or samples.inputs).items()}
    body = {"x_test": {key: array[None].tolist() for key, array in inputs.items()}, "model": name}
    with run_server(registry, name) as url:
        answer, headers = _post(f"{url}/predict", body)
    objective = manifest.parsed_signature().objective
    predicted = answer["prediction"]
    if isinstance(predicted, dict):  # of several outputs, whose meaning nobody has said
        said = "; ".join(f"{key}: {_say_output(objective, np.ravel(rows[0]), ())}" for key, rows in predicted.items())
    else:
        said = _say_output(objective, np.array(predicted[0]), manifest.labels)
    truth = None if samples.targets is None else _say_truth(objective, samples.targets[sample], manifest.labels)
    return Answer(f"{url}/predict", headers["Bmp-Model"], said, truth, inputs)


def _say_output(objective: str, output: np.ndarray, labels: tuple[str, ...]) -> str:
    """Puts one output of a model into words."""
    if objective == "regression":
        return ", ".join(f"{value:.4g}" for value in output)
    if objective == "multilabel":
        chosen = [f"{label} ({value:.3f})" for label, value in zip(labels, output, strict=True) if value > 0.5]
        return ", ".join(chosen) or "none of the labels"
    if objective == "binary":
        output = np.array([1 - output[0], output[0]])
    if objective == "next_token":
        output = output[-1]  # (V,) after the last token
    return f"{_quote(labels[int(output.argmax())])} (probability {output.max():.3f})"


def _say_truth(objective: str, target: np.ndarray, labels: tuple[str, ...]) -> str:
    """Puts the target of one example into the same words."""
    if objective == "regression":
        return ", ".join(f"{value:.4g}" for value in target)
    if objective == "multilabel":
        return ", ".join(label for label, wanted in zip(labels, target, strict=True) if wanted) or "none of the labels"
    return _quote(labels[int(target[-1] if objective == "next_token" else target)])


def _quote(label: str) -> str:
    return label if label.isprintable() and label.strip() else repr(label)


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
        if not _wait_until_ready(url, name, process):
            process.kill()
            output, _ = process.communicate()
            tail = "\n".join(output.strip().splitlines()[-5:])
            raise NotReadyError(f"The server did not start. The end of its log:\n{tail}")
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


def _wait_until_ready(url: str, name: str, process: "subprocess.Popen[str]") -> bool:
    """Tells whether the server answers in time; one that could not load the model never will."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return True
        except urllib.error.HTTPError:  # 503: it loads, or has failed to
            if _has_failed(url, name):
                return False
        except OSError:  # not listening yet
            pass
        time.sleep(0.05)
    return False


def _has_failed(url: str, name: str) -> bool:
    with urllib.request.urlopen(f"{url}/models", timeout=5) as reply:
        return name in json.load(reply)["failed"]


def _post(url: str, body: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read()), response.headers
