"""`bmp serve` against the plain server people write, side by side in one run (`make bench`).

The same 784-128-10 softmax network, one example a request, JSON over kept-alive connections, the same number of
gunicorn workers, the same load from wrk. The servers take turns, so that a busy machine slows both. Absolute
numbers mean little; the ratios are the result.
"""

import argparse
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import requests
from rich.console import Console
from rich.table import Table

from bmp.config import load_recipe
from bmp.data import SOURCES, Examples
from bmp.data.sources import load_sklearn
from bmp.registry import Version
from bmp.run import run
from bmp.signature import Signature, TensorSpec
from bmp.smoke import find_free_port

HERE = Path(__file__).parent
RECIPE = """
data: {source: digits_784, batch_size: 64}
model: {build: mlp, args: {hidden: [128]}}
train: {epochs: 5}
compress: {chains: []}
publish: {name: mnist_like, root: REGISTRY}
"""


def load_digits_784() -> Examples:
    """scikit-learn's digits, enlarged to 28x28 and laid flat: the shape of MNIST, without a download."""
    digits = load_sklearn(name="digits")
    images = digits.inputs["image"].repeat(4, axis=1).repeat(4, axis=2)[:, 2:30, 2:30] / 16
    signature = Signature((TensorSpec("pixels", "float32", (784,)),), digits.signature.outputs)
    return Examples({"pixels": images.reshape(-1, 784)}, digits.targets, signature, digits.labels)


def publish(directory: Path) -> tuple[Version, np.ndarray]:
    """Trains and publishes the network; returns the version and the test examples."""
    SOURCES.register("digits_784", load_digits_784)
    recipe = directory / "recipe.yaml"
    recipe.write_text(RECIPE.replace("REGISTRY", str(directory / "registry")))
    finished = run(load_recipe(str(recipe)), run_dir=directory / "run", console=Console(file=io.StringIO()))
    return finished.version, finished.data.test.inputs["pixels"]


@contextmanager
def serving(command: list[str], url: str, environ: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """Runs a server, yields its process once it is ready, and stops it."""
    with log.open("wb") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, env=os.environ | environ)
        try:
            deadline = time.monotonic() + 90
            while True:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"The server did not start:\n{log.read_text()}")
                try:
                    if requests.get(f"{url}/ready", timeout=5).ok:
                        break
                except requests.RequestException:
                    time.sleep(0.2)
            time.sleep(3)  # one worker is ready; the others need a moment more
            yield process
        finally:
            process.terminate()
            process.wait(20)


def load(url: str, script: Path, connections: int, seconds: float) -> dict[str, float]:
    """Runs wrk once and returns requests/s and latencies in milliseconds."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "--latency", "-s", str(script)]
    output = subprocess.run([*command, f"{url}/predict"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"Not every request was answered well:\n{output}")
    return {
        "requests_per_s": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),
        "p50_ms": to_ms(re.search(r"50%\s+(\S+)", output)[1]),
        "p99_ms": to_ms(re.search(r"99%\s+(\S+)", output)[1]),
    }


def to_ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def worker_rss_mb(server: psutil.Process) -> float:
    """Resident memory of one worker, the mean over all."""
    workers = server.children(recursive=True)
    return statistics.mean(worker.memory_info().rss for worker in workers) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns each server takes")
    parser.add_argument("--output", type=Path, default=Path("results/serving.json"))
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="bmp-bench-") as name:
        directory = Path(name)
        print("training and publishing the 784-128-10 network", flush=True)
        version, examples = publish(directory)
        body = json.dumps({"x_test": examples[:1].tolist()})
        script = directory / "post.lua"
        script.write_text(
            f'wrk.method = "POST"\nwrk.body = [=[{body}]=]\nwrk.headers["Content-Type"] = "application/json"\n'
        )
        ports = {"plain": find_free_port(), "bmp": find_free_port()}
        urls = {server: f"http://127.0.0.1:{port}" for server, port in ports.items()}
        gunicorn = [sys.executable, "-m", "gunicorn", "--chdir", str(HERE), "-w", str(options.workers)]
        serve = [sys.executable, "-m", "bmp", "serve", "--registry", str(version.path.parent.parent)]
        commands = {
            "plain": [*gunicorn, "-b", f"127.0.0.1:{ports['plain']}", "plain_server:app"],
            "bmp": [*serve, "--port", str(ports["bmp"]), "--workers", str(options.workers)],
        }
        environ = {"plain": {"PLAIN_MODEL": str(version.path / "model.h5")}, "bmp": {}}
        figures: dict[str, list[dict[str, float]]] = {"plain": [], "bmp": []}
        answers = {}
        for turn in range(options.rounds):
            for server, command in commands.items():
                print(f"round {turn + 1}/{options.rounds}: {server}", flush=True)
                with serving(command, urls[server], environ[server], directory / f"{server}.log") as process:
                    reply = requests.post(f"{urls[server]}/predict", data=body, timeout=30, headers=JSON)
                    answers[server] = np.array(reply.json()["prediction"])
                    load(urls[server], script, options.connections, 1)  # warm
                    figure = load(urls[server], script, options.connections, options.seconds)
                    figures[server].append(figure | {"worker_rss_mb": worker_rss_mb(process)})
    difference = float(np.abs(answers["plain"] - answers["bmp"]).max())
    if difference > 1e-4:
        sys.exit(f"The two servers disagree by {difference:.3g}; there is nothing to compare.")
    report(figures, options)


JSON = {"Content-Type": "application/json"}


def report(figures: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    medians = {
        server: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        for server, turns in figures.items()
    }
    plain, ours = medians["plain"], medians["bmp"]
    ratios = {
        "requests_per_s": ours["requests_per_s"] / plain["requests_per_s"],
        "p50_ms": plain["p50_ms"] / ours["p50_ms"],
        "p99_ms": plain["p99_ms"] / ours["p99_ms"],
        "worker_rss_mb": plain["worker_rss_mb"] / ours["worker_rss_mb"],
    }
    table = Table(
        title=f"{options.workers} workers, {options.connections} connections, median of {options.rounds} rounds"
    )
    for column in ("", "plain server", "bmp serve", "bmp is better by"):
        table.add_column(column, justify="right" if column else "left")
    for key in ratios:
        table.add_row(key, f"{plain[key]:,.2f}", f"{ours[key]:,.2f}", f"{ratios[key]:,.1f} x")
    Console().print(table)
    settings = {key: str(value) for key, value in vars(options).items()}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(
        json.dumps({"settings": settings, "ratios": ratios, "medians": medians, "rounds": figures}, indent=2) + "\n"
    )
    print(f"written to {options.output}")


if __name__ == "__main__":
    main()
