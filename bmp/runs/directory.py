"""The directory of a run: where everything is, and the files that no other room writes."""

import json
import secrets
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from bmp.config import Recipe, dump_recipe
from bmp.errors import BmpError, ConfigError
from bmp.runs.environment import describe_environment
from bmp.runs.status import Status
from bmp.storage import write_atomically

_BEFORE_THE_RUN = ("logs", "control")  # what a launcher leaves there before any of its processes begins

_README = """\
# A run of bmp: {name}

| | |
|---|---|
| `recipe.yaml` | what was asked for, every default spelled out |
| `status.json` | how the run stands: `bmp runs show {directory}` |
| `environment.json` | versions, machine, devices and command line of the last attempt |
| `history.csv`, `history.png` | loss, metrics, learning rate and speed of every epoch |
| `confusion.png` | which class was taken for which, on the test split |
| `variants.json` | what each exported file measures |
| `tensorboard/` | the same curves, finer: `tensorboard --logdir {directory}/tensorboard` |
| `checkpoints/STAGE/step-N/` | the state of the run, private to it |
| `logs/attempt-N/` | what each process of an attempt printed |
| `control/` | what the processes of the run agree on, private to it |

What is not there yet comes later, or does not apply to this run. A run that ended early goes on from its last
checkpoint with

    {go_on}
"""


class RunDirectory:
    """The directory of one run: where everything is, and the files that no other room writes.

    Args:
        path: Of the directory; `create` makes it, `open` looks whether it is one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.readme_file = self.path / "README.md"
        self.status_file = self.path / "status.json"
        self.environment_file = self.path / "environment.json"
        self.history_file = self.path / "history.csv"
        self.history_plot = self.path / "history.png"
        self.confusion_plot = self.path / "confusion.png"
        self.variants_file = self.path / "variants.json"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.trials = self.path / "trials"  # until one of them is published
        self.artifact = self.path / "artifact"  # the same

    @classmethod
    def create(cls, path: str | Path, recipe: Recipe, *, go_on: str) -> "RunDirectory":
        """Makes a new directory, or fills an empty one, with the recipe and a README.

        Args:
            path: Of the directory.
            recipe: What the run was asked for.
            go_on: The command that goes on with a run that ended early.

        Raises:
            ConfigError: It cannot be made, or holds something already.
        """
        directory = cls(path)
        directory.check_free()
        text = _README.format(name=recipe.publish.name, directory=shlex.quote(str(path)), go_on=go_on)
        try:
            directory.path.mkdir(parents=True, exist_ok=True)
            directory.readme_file.write_text(text, encoding="utf-8")
            # Whole or not at all, and on the disk: from then on the directory is that of a run.
            write_atomically(directory.recipe_file, dump_recipe(recipe).encode())
        except OSError as error:
            raise ConfigError(f"The run directory {path} cannot be made: {error}.") from error
        return directory

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Returns the directory of a run that was begun.

        Raises:
            ConfigError: There is none.
        """
        directory = cls(path)
        if not directory.exists():
            what = "holds no recipe.yaml" if directory.path.is_dir() else "is not there"
            raise ConfigError(f"{path} is no run directory: it {what}.", expected="a run directory", received=str(path))
        return directory

    def exists(self) -> bool:
        """Says whether a run was begun here."""
        return self.recipe_file.is_file()

    def check_free(self) -> None:
        """Looks whether a new run can have this directory; nothing is made.

        Raises:
            ConfigError: It is a file, or not empty.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"The run directory {self.path} cannot be made: it is a file. Name a new one.")
        if self.path.is_dir() and any(map(_is_of_a_run, self.path.iterdir())):
            raise ConfigError(f"The run directory {self.path} is not empty; name a new one.")

    def checkpoints_of(self, stage: str) -> Path:
        """Returns where the checkpoints of a stage are."""
        return self.checkpoints / stage

    def logs_of(self, attempt: int) -> Path:
        """Returns where the processes of an attempt, counted from 1, leave what they print."""
        return self.logs / f"attempt-{attempt}"

    def write_status(self, status: Status, *, synced: bool = True) -> None:
        """Replaces the status: a reader sees the old one or the new, never a mix.

        Args:
            status: What `read_status` will return.
            synced: Whether this waits for the disk, so that it survives a power cut. False for mere progress, written
                many times a minute; a new state or stage, an error or a published version deserve True.

        Raises:
            OSError: The disk is full, or not writable.
        """
        data = status.model_dump_json(indent=2).encode() + b"\n"
        if synced:
            write_atomically(self.status_file, data)
        else:
            aside = self.path / f".status-{secrets.token_hex(8)}"
            try:
                aside.write_bytes(data)
                aside.replace(self.status_file)
            finally:
                aside.unlink(missing_ok=True)

    def read_status(self) -> Status:
        """Reads what `write_status` wrote.

        Raises:
            BmpError: It is not there, or cannot be read.
        """
        try:
            return Status.model_validate_json(self.status_file.read_bytes())
        except FileNotFoundError as error:
            raise BmpError(f"There is no {self.status_file}: the run never began, or an older bmp wrote it.") from error
        except OSError as error:
            raise BmpError(f"{self.status_file} cannot be read: {error.strerror or error}.") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise BmpError(f"{self.status_file} is damaged: {f'{where}: ' if where else ''}{first['msg']}.") from error

    def write_environment(self, *, devices: Sequence[str] = (), cluster: str = "one process") -> None:
        """Writes what this process runs in, for whoever wants to run it again.

        Args:
            devices: What is computed on, as TensorFlow names it.
            cluster: The processes that take part, in words.
        """
        data = json.dumps(describe_environment(devices, cluster), indent=2, ensure_ascii=False)
        self.environment_file.write_text(data + "\n", encoding="utf-8")

    def read_recipe(self) -> dict[str, Any]:
        """Reads the resolved recipe as it was written, without holding it to what recipes are today.

        Raises:
            BmpError: It is not there, or no recipe.
        """
        try:
            tree = yaml.safe_load(self.recipe_file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BmpError(f"{self.recipe_file} cannot be read: {' '.join(str(error).split())}.") from error
        if not isinstance(tree, dict):
            raise BmpError(f"{self.recipe_file} holds no recipe.")
        return tree


def _is_of_a_run(path: Path) -> bool:
    """Whether a file tells that a run has this directory: not what came before, or was cut off before there was one."""
    return path.name not in (*_BEFORE_THE_RUN, "README.md") and not path.name.startswith(".recipe.yaml-")
