"""Trainings in several processes, as `training.py` beside it measures them: launched, by hand, and with one killed."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

import bmp
from bmp.config import Recipe, write_recipe
from bmp.distribution.heartbeat import Beat, read_beat
from bmp.runs import RunDirectory
from bmp.smoke import find_free_port
from bmp.training.history import read_history

TRAIN = Path(bmp.__file__).parent.parent / "train.py"
PLAIN_WORKER = Path(__file__).with_name("plain_worker.py")
LAUNCH = (sys.executable, "-m", "bmp", "launch")
START = """
import time, bmp, psutil
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import read_cluster
import os, sys
from pathlib import Path
from bmp.distribution.heartbeat import Heartbeat
heart = Heartbeat.from_environment()
heart.beat("starting")
import tensorflow, tf_keras
STRATEGIES["multi_worker"](read_cluster(os.environ), None)
took_s = time.time() - psutil.Process().create_time()
heart.beat("training", figures={"took_s": took_s})
time.sleep(1)
"""


def run_one(recipe: Recipe, place: Path) -> float:
    """Returns the examples a second of one worker on one core."""
    core = min(os.sched_getaffinity(0))
    with _directory(recipe, place) as directory:
        _run([_launch(directory, 1)], directory, lambda: os.sched_setaffinity(0, {core}))
        return _read_rate(directory)


def run_launched(recipe: Recipe, place: Path) -> float:
    """Returns the examples a second of two workers that `bmp launch` has started."""
    with _directory(recipe, place) as directory:
        _run([_launch(directory, 2)], directory)
        return _read_rate(directory)


def run_by_hand(recipe: Recipe, place: Path) -> float:
    """Returns the examples a second of two workers of bmp that are started with TF_CONFIG and nothing else."""
    with _directory(recipe, place) as directory:
        _run(_configure([str(TRAIN), str(directory / "recipe.yaml"), "--run-dir", str(directory / "run")]), directory)
        return _read_rate(directory)


def run_plain(recipe: Recipe, place: Path) -> float:
    """Returns the examples a second of two workers that are written by hand, and started so."""
    with _directory(recipe, place) as directory:
        _run(_configure([str(PLAIN_WORKER), str(directory / "recipe.yaml")]), directory)
        told = [line for line in (directory / "output.log").read_text().splitlines() if line.startswith("{")]
        rate = float(json.loads(told[-1])["examples_per_s"])
        print(f"  {rate:,.0f} examples/s, written by hand", flush=True)
        return rate


def kill_one(recipe: Recipe, place: Path) -> dict[str, float]:
    """Kills one of two workers; returns the seconds until both train again, and what TensorFlow's start takes of it."""
    with _directory(recipe, place) as directory:
        start = directory / "start.py"
        start.write_text(START)
        tensorflow_s = _time_start(start, directory / "start")
        beats = directory / "run" / "logs"
        log = (directory / "launch.log").open("wb")
        process = subprocess.Popen(_launch(directory, 2), stdout=log, stderr=log)
        try:
            wait_for_beat(beats / "attempt-0" / "worker-0.beat", lambda beat: beat.step > 40, process)
            (worker, *_) = [one for one in find_processes(directory) if _is_rank(one, "worker-1")]
            worker.kill()
            killed_s = time.monotonic()
            wait_for_beat(beats / "attempt-1" / "worker-0.beat", _trains, process)
            again_s = time.monotonic() - killed_s
        finally:
            process.terminate()
            process.wait(60)
            log.close()
        left = find_processes(directory)
        print(f"  killed, and trained again after {again_s:.1f} s; TensorFlow's start {tensorflow_s:.1f} s", flush=True)
        return {"again_s": again_s, "tensorflow_s": tensorflow_s, "left_over": len(left)}


def find_processes(directory: Path) -> list[psutil.Process]:
    """Returns the processes that were given something in a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            told = [*process.cmdline(), process.environ().get("BMP_HEARTBEAT_FILE", "")]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(f"{directory}/" in text for text in told):
            found.append(process)
    return found


def wait_for_beat(path: Path, is_it: Callable[[Beat], bool], process: subprocess.Popen[bytes]) -> Beat:
    """Returns the first beat of a rank that is the one waited for; ends this program if the launch ends before."""
    deadline_s = time.monotonic() + 180
    while time.monotonic() < deadline_s and process.poll() is None:
        beat = read_beat(path)
        if beat is not None and is_it(beat):
            return beat
        time.sleep(0.05)
    sys.exit(f"No such beat came to {path}.")


def _trains(beat: Beat) -> bool:
    return beat.phase in ("training", "tuning") and "loss" in beat.figures


def _is_rank(process: psutil.Process, rank: str) -> bool:
    return Path(process.environ().get("BMP_HEARTBEAT_FILE", "")).stem == rank and str(TRAIN) in process.cmdline()


def _time_start(script: Path, run_dir: Path) -> float:
    """Returns the seconds from the start of two processes until TensorFlow has built their strategy."""
    command = [*LAUNCH, "--workers", "2", "--run-dir", str(run_dir), str(script)]
    subprocess.run(command, check=True, capture_output=True)
    beats = [read_beat(run_dir / "logs" / "attempt-0" / f"worker-{rank}.beat") for rank in range(2)]
    return statistics.mean(beat.figures["took_s"] for beat in beats if beat is not None)


@contextmanager
def _directory(recipe: Recipe, place: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=place) as name:
        write_recipe(recipe, Path(name) / "recipe.yaml")
        yield Path(name)


def _launch(directory: Path, workers: int) -> list[str]:
    ours = ["--workers", str(workers), "--run-dir", str(directory / "run")]
    return [*LAUNCH, *ours, str(TRAIN), str(directory / "recipe.yaml")]


def _configure(command: list[str]) -> list[list[str]]:
    """Returns a command for each of two workers, with a TF_CONFIG of its own."""
    cluster = {"worker": [f"127.0.0.1:{find_free_port()}" for _ in range(2)]}
    configs = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": rank}}) for rank in range(2)]
    return [["env", f"TF_CONFIG={config}", sys.executable, *command] for config in configs]


def _run(commands: Sequence[list[str]], directory: Path, prepare: Callable[[], None] | None = None) -> None:
    with (directory / "output.log").open("wb") as log:
        processes = [subprocess.Popen(one, stdout=log, stderr=log, preexec_fn=prepare) for one in commands]
        codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f"A training failed:\n{(directory / 'output.log').read_text()[-4000:]}")


def _read_rate(directory: Path) -> float:
    """Returns the median rate of the epochs after the first, which has the compilation."""
    rates = [epoch.examples_per_s or 0.0 for epoch in read_history(RunDirectory(directory / "run").history_file)]
    rate = statistics.median(rates[1:])
    print(f"  {rate:,.0f} examples/s", flush=True)
    return rate
