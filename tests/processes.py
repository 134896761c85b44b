"""Real runs, each in processes of its own, for the tests beside."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from bmp.errors import BmpError
from bmp.registry import Registry
from bmp.runs import RunDirectory, Status
from bmp.training.checkpoint import CheckpointStore
from bmp.training.history import History, read_history

TRAIN = str(Path(__file__).parent.parent / "train.py")
_NOT_THE_SAME_TWICE = {"duration_s", "examples_per_s"}

NETWORK = '''
import tf_keras as keras


def build_net(signature, /):
    """Whatever keeps a state of its own, or draws numbers."""
    inputs = keras.Input((8, 8), name=signature.inputs[0].name)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(24, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Dropout(0.2)(x)
    outputs = keras.layers.Dense(10, activation="softmax", name=signature.outputs[0].name)(x)
    return keras.Model(inputs, outputs, name="net")
'''

PRUNE = {"prune": {"sparsity": 0.5, "epochs": 2}}
PRUNING = "prune-0.5"
"""What that fine-tuning is called, in checkpoints and progress."""

RECIPE: dict[str, Any] = {
    "seed": 3,
    "data": {"source": "sklearn", "args": {"name": "digits"}, "batch_size": 4},
    "model": {"build": "network.py:build_net"},
    "train": {
        "epochs": 4,
        "optimizer": "sgd",
        "optimizer_args": {"momentum": 0.9},
        "learning_rate": 0.002,
        "deterministic": True,
        "steps_per_execution": 3,
        "checkpoint": {"every": "20 steps"},
    },
    "compress": {
        "max_drop": 0.9,
        "chains": [[PRUNE], [PRUNE, {"int8": {"calibration_examples": 32}}]],
    },
    "publish": {"name": "net"},
}
"""1,259 training examples: 315 steps an epoch, the last of 3 examples."""


def environ() -> dict[str, str]:
    """As a person's shell has it."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith("BMP_") and key != "TF_CONFIG"}
    return mine | {"TF_CPP_MIN_LOG_LEVEL": "2", "COLUMNS": "200"}


@dataclass
class Place:
    """A directory with a recipe and its network, a run, and a registry.

    Args:
        root: Made if it is not there.
        overrides: Of the recipe.
        recipe: Its name or path.
        launch: Options of `bmp launch`, where several processes train together.
    """

    root: Path
    overrides: tuple[str, ...] = ()
    recipe: str = "recipe.yaml"
    launch: tuple[str, ...] = ()
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir(exist_ok=True)
        (self.root / "network.py").write_text(NETWORK)
        (self.root / "recipe.yaml").write_text(yaml.dump(RECIPE))
        self.run = RunDirectory(self.root / "run")
        self.registry = Registry(self.root / "registry")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts the run, or goes on with it."""
        launcher = ["-m", "bmp", "launch", *self.launch] if self.launch else []
        settings = [word for override in self.overrides for word in ("--set", override)]
        words = [sys.executable, *launcher, TRAIN, *(arguments or (self.recipe, *settings)), "--run-dir", "run"]
        process = subprocess.Popen(
            words, cwd=self.root, env=environ(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.started.append(process)
        return process

    def finish(self, *arguments: str) -> tuple[int, str, str]:
        """Runs to the end; returns the exit code and what was printed."""
        return end(self.start(*arguments))

    def status(self) -> Status | None:
        """How the run stands; None before it has begun."""
        try:
            return self.run.read_status()
        except BmpError:
            return None

    def history(self) -> History:
        return read_history(self.run.history_file)

    def newest(self, stage: str) -> int:
        """Steps of the newest checkpoint; 0 before there is one."""
        paths = CheckpointStore(self.run.checkpoints_of(stage)).paths()
        return int(paths[0].name.removeprefix("step-")) if paths else 0

    def kill(self) -> None:
        """Ends whatever has been started and still runs."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        for process in self.ranks().values():
            process.kill()

    def ranks(self) -> dict[str, psutil.Process]:
        """The processes of a launch that train, by name, such as `worker-0`."""
        found = {}
        for process in psutil.process_iter():
            try:
                beat = process.environ().get("BMP_HEARTBEAT_FILE", "")
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
            if beat.startswith(f"{self.run.path}/"):
                found[Path(beat).stem] = process
        return found

    def logs(self) -> str:
        """All that the processes of a launch have printed."""
        return "".join(file.read_text() for file in sorted(self.run.logs.rglob("*.log")))


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Waits for the end; returns the exit code and what was printed."""
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


def read_digest(printed: str) -> str:
    """The digest of the weights that a run printed."""
    (digest,) = re.findall(r"weights +sha256 ([0-9a-f]{64})", printed)
    return str(digest)


def wait_until(process: subprocess.Popen[str], happens: Callable[[], Any], within_s: float = 240) -> None:
    """Waits for a state of a run that goes on meanwhile."""
    deadline_s = time.monotonic() + within_s
    while not happens():
        assert process.poll() is None, f"it ended before, with {process.returncode}:\n{''.join(process.communicate())}"
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


def drop_durations(history: History) -> list[dict[str, Any]]:
    """The epochs as rows, without what the clock says."""
    return [{key: value for key, value in row.items() if key not in _NOT_THE_SAME_TWICE} for row in history.to_json()]


def losses(history: History) -> np.ndarray:
    """Loss and validation loss of each epoch, `(epochs, 2)`."""
    return np.array([[epoch.metrics["loss"], epoch.metrics["val_loss"]] for epoch in history])
