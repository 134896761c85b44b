"""One run of the campaign: where it is, how it is started, and what came out."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from bmp.errors import BmpError
from bmp.registry import Registry
from bmp.runs import RunDirectory
from bmp.training.copies import digest_weights

PROJECT = Path(__file__).parent.parent.parent
RECIPE = Path(__file__).with_name("recipe.yaml")
LONGEST_S = 600.0

Outcome = dict[str, str]
"""SHA-256 by what it is of: the weights, and each exported file."""


@dataclass
class Place:
    """A run in a directory of its own, with a registry of its own.

    Args:
        root: Of both; whatever was there goes.
        overrides: Of the recipe.
    """

    root: Path
    overrides: Sequence[str] = ()
    run_dir: Path = field(init=False)
    registry: Path = field(init=False)
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.run_dir, self.registry, self.log = self.root / "run", self.root / "registry", self.root / "log.txt"
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

    def script(self) -> list[str]:
        """Returns `train.py …`, the same words every time."""
        settings = (f"publish.root={self.registry}", *self.overrides)
        chosen = [word for setting in settings for word in ("--set", setting)]
        return [str(PROJECT / "train.py"), str(RECIPE), "--run-dir", str(self.run_dir), *chosen]

    def start(self, command: Sequence[str] | None = None, **options: object) -> "subprocess.Popen[bytes]":
        """Starts the run, or goes on with it; all that it says is appended to the log."""
        words = [sys.executable, *self.script()] if command is None else list(command)
        with self.log.open("ab") as log:
            return subprocess.Popen(words, stdout=log, stderr=log, cwd=PROJECT, env=quiet_environ(), **options)  # type: ignore[call-overload]

    def finish(self, longest_s: float = LONGEST_S) -> int:
        """Runs to the end, undisturbed; returns the exit code."""
        process = self.start()
        try:
            return process.wait(timeout=longest_s)
        finally:
            end(process)

    def stage(self) -> str:
        """Returns what the run was doing when it last said so."""
        try:
            return RunDirectory(self.run_dir).read_status().stage
        except BmpError:
            return "before the start"

    def said(self) -> str:
        """Returns all that the run has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines: int = 12) -> str:
        """Returns the last lines of it, for whoever looks for a fault."""
        return "\n".join(f"    | {line}" for line in self.said().splitlines()[-lines:])

    def outcome(self) -> Outcome:
        """Returns what was published.

        Raises:
            BmpError: Nothing was, or something was twice.
        """
        registry = Registry(self.registry)
        numbers = registry.versions("soak")
        if numbers != [1]:
            raise BmpError(f"the registry of {self.root} holds the versions {numbers}; expected [1]")
        path = registry.get("soak", 1).path
        exported = {str(file.relative_to(path)): _digest(file) for file in sorted(path.rglob("*.tflite"))}
        return {"weights": digest_weights(_read_weights(path / "model.h5")), **exported}

    def differs_from(self, wanted: Outcome) -> str:
        """Returns in what the published version differs, in words; nothing if all is equal."""
        try:
            outcome = self.outcome()
        except BmpError as error:
            return error.message
        names = sorted(outcome.keys() | wanted.keys())
        differing = [name for name in names if outcome.get(name) != wanted.get(name)]
        return f"not as in the undisturbed run: {', '.join(differing)}" if differing else ""

    def remove(self) -> None:
        """Removes everything."""
        shutil.rmtree(self.root, ignore_errors=True)


def quiet_environ() -> dict[str, str]:
    return os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "COLUMNS": "200"}


def end(process: "subprocess.Popen[bytes]", number: signal.Signals = signal.SIGKILL) -> None:
    """Sends a signal to a process that still runs, and waits for its end."""
    if process.poll() is None:
        process.send_signal(number)
    process.wait(timeout=60)


def is_alive_after(process: "subprocess.Popen[bytes]", wait_s: float) -> bool:
    """Waits, and returns whether the process still runs then."""
    try:
        process.wait(timeout=wait_s)
    except subprocess.TimeoutExpired:
        return True
    return False


def run_reference(root: Path, overrides: Sequence[str] = ()) -> tuple[Outcome, float]:
    """Runs once, undisturbed; returns what came out, and the seconds it took.

    Raises:
        BmpError: It failed, or what it printed is not what it published.
    """
    place = Place(root, overrides)
    began_s = time.monotonic()
    code = place.finish()
    took_s = time.monotonic() - began_s
    if code:
        raise BmpError(f"the undisturbed run ended with {code}:\n{place.tail(40)}")
    outcome = place.outcome()
    if f"sha256 {outcome['weights']}" not in place.said():
        raise BmpError(f"the weights that were printed are not those that were published:\n{place.tail()}")
    return outcome, took_s


def pick_moment(rng: random.Random, longest_s: float, earliest_s: float = 2.0) -> float:
    """Returns a random moment of an attempt, in seconds from its start."""
    return rng.uniform(earliest_s, max(longest_s, earliest_s + 1))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_weights(file: Path) -> list[np.ndarray]:
    """Returns the weights in the order of `model.get_weights()`: layer by layer."""
    with h5py.File(file) as model:
        group = model["model_weights"]
        layers = [_text(name) for name in group.attrs["layer_names"]]
        return [group[layer][_text(name)][()] for layer in layers for name in group[layer].attrs["weight_names"]]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
