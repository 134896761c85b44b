"""Starts real launchers of real ranks, for the tests beside."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

SCRIPT = Path(__file__).with_name("rank_script.py")
_MAIN = """
from bmp.cli import main
from bmp.cli.launch import launch_command
main.add_command(launch_command)
main(prog_name="bmp")
"""
QUICK = ("--grace", "1")


def command(run_dir: Path, *options: str, script: tuple[str, ...] = ()) -> list[str]:
    """`bmp launch` of the script; the run directory is given to the launcher."""
    run_dir.mkdir(exist_ok=True)
    launcher = [sys.executable, "-c", _MAIN, "launch", *QUICK, "--run-dir", str(run_dir), *options]
    return [*launcher, str(SCRIPT), *script]


def launch(run_dir: Path, *options: str, script: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a launch to its end; no process may be left."""
    arguments = command(run_dir, *options, script=script)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert not find_processes(run_dir)
    return done


@contextmanager
def launching(run_dir: Path, *options: str, script: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A launch that runs; it is killed at the end if it still does."""
    arguments = command(run_dir, *options, script=script)
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def find_processes(run_dir: Path) -> list[psutil.Process]:
    """The processes of a run: all that were given its directory, and what they have started in it."""
    found = []
    for process in psutil.process_iter():
        try:
            line, environ = process.cmdline(), process.environ()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if str(run_dir) in line or environ.get("BMP_HEARTBEAT_FILE", "").startswith(f"{run_dir}/"):
            found.append(process)
    return found


def wait_until(happens: Callable[[], Any], within_s: float = 20) -> Any:
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if answer := happens():
            return answer
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def read_facts(run_dir: Path, rank: str, attempt: int = 0) -> dict[str, Any]:
    """What a rank was given."""
    return json.loads((run_dir / f"{rank}.{attempt}.json").read_text())


def has_begun(run_dir: Path, rank: str = "worker-0", attempt: int = 0) -> Callable[[], bool]:
    """Whether a rank is training."""
    beat = run_dir / "logs" / f"attempt-{attempt}" / f"{rank}.beat"
    return lambda: beat.exists() and '"training"' in beat.read_text()


def read_log(run_dir: Path, rank: str, attempt: int = 0) -> str:
    return (run_dir / "logs" / f"attempt-{attempt}" / f"{rank}.log").read_text()
