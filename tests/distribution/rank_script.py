"""A rank without TensorFlow, for tests of the launcher.

rank_script.py [--steps N] [--do JOB-INDEX:WHAT[=N]@STEP[*]]... --run-dir DIR

What: exit=N, kill (itself), hang, deaf (hang, and ignore SIGTERM), mute (no sign of life), child (start one),
write=N lines. With * in every attempt, else in the first. The chief keeps the step in DIR, and all go on from there.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bmp.distribution.cluster import read_cluster
from bmp.distribution.heartbeat import Heartbeat, register_stack_dump

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--step-s", type=float, default=0.02)
parser.add_argument("--do", action="append", default=[])
parser.add_argument("--run-dir", type=Path, required=True)
given = parser.parse_args()

register_stack_dump()
cluster = read_cluster(os.environ)
heartbeat = Heartbeat.from_environment()
me = f"{cluster.task_type}-{cluster.task_index}"
attempt = os.environ["BMP_ATTEMPT"]
asked: list[int] = []
signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))


def tell() -> None:
    names = ("TF_CONFIG", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "TF_USE_LEGACY_KERAS")
    pools = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "TF_CPP_MIN_LOG_LEVEL")
    facts = {name: os.environ[name] for name in names + pools}
    facts |= {"cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid(), "session": os.getsid(0)}
    place = given.run_dir / f"{me}.{attempt}.json"
    place.write_text(json.dumps(facts))


def act(step: int) -> None:
    for text in given.do:
        who, _, rest = text.partition(":")
        what, _, when = rest.partition("@")
        if who == me and max(first, int(when.rstrip("*"))) == step and (when.endswith("*") or attempt == "0"):
            perform(*what.split("="))


def wait_for_others(step: int) -> None:
    """As an all-reduce does: nobody is ahead, and nobody goes on when one is gone."""
    (given.run_dir / f"{me}.{attempt}.step").write_text(f"{step}\n")
    others = [f"{job}-{index}" for job in ("chief", "worker") for index in range(len(cluster.spec.get(job, ())))]
    while not asked and any(read_step(other) < step for other in others):
        time.sleep(0.005)


def read_step(rank: str) -> int:
    path = given.run_dir / f"{rank}.{attempt}.step"
    text = path.read_text() if path.exists() else ""
    return int(text) if text.endswith("\n") else -1


def perform(what: str, number: str = "0") -> None:
    print(f"{me} does {what}", file=sys.stderr, flush=True)
    if what == "exit":
        sys.exit(int(number))
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "child":
        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(300)"])
        (given.run_dir / "child").write_text(str(child.pid))
    elif what == "write":
        sys.stdout.write("".join(f"line {line}\n" for line in range(int(number))))
    elif what in ("hang", "deaf"):
        if what == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while not asked:
            time.sleep(0.02)


tell()
if f"{me}:mute@0" in given.do and attempt == "0":
    time.sleep(300)
heartbeat.beat("starting")
if cluster.task_type != "ps":
    wait_for_others(0)
saved = given.run_dir / "step"
first = int(saved.read_text()) if saved.exists() else 0
if cluster.is_chief:
    print(f"from step {first}", flush=True)
for step in () if cluster.task_type == "ps" else range(first, given.steps):
    heartbeat.beat("training", step=step, total_steps=given.steps, figures={"loss": 1.0, "examples_per_s": 1e4})
    act(step)
    wait_for_others(step)
    if cluster.is_chief:
        saved.with_suffix(".new").write_text(str(step))
        saved.with_suffix(".new").replace(saved)
    if asked:
        sys.exit(143)
    time.sleep(given.step_s)
while cluster.task_type == "ps" and not asked:
    heartbeat.beat("waiting")
    time.sleep(0.02)
heartbeat.beat("finished", step=given.steps, total_steps=given.steps)
if cluster.is_chief:
    print("all done", flush=True)
