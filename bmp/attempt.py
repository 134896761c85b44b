"""One attempt of a run, by one process: who else takes part, where the traces go, how it ended."""

import fcntl
import hashlib
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bmp.config import Recipe
from bmp.distribution.cluster import Cluster, read_cluster
from bmp.distribution.heartbeat import Heartbeat, register_stack_dump
from bmp.errors import BmpError, CheckpointError, ConfigError, DataError, RegistryError, StoppedError
from bmp.runs import RunDirectory, Status, begin_status, find_state, list_runs
from bmp.storage import is_disk_full, write_atomically
from bmp.training.stop import StopRequest

_FREE_TO_CHANGE = ("distribution", "train.checkpoint", "train.on_nonfinite", "train.max_skipped", "publish.root")
"""What a resumed run may be given anew: it changes how the weights are found, not which."""
_SHARED_WITHIN_S = 60.0
"""How long a file system may take to show what another machine wrote."""
_STATUS_INTERVAL_S = 1.0
_SILENT_AFTER_S = 120.0


class Attempt:
    """What one process knows of the run it works on.

    Args:
        directory: Of the run.
        cluster: This process and the others.
        console: Where lines go; those of a worker say who it is.
        previous: How an earlier attempt left the run; None for a new one.
    """

    def __init__(self, directory: RunDirectory, cluster: Cluster, console: Console, previous: Status | None) -> None:
        self.directory = directory
        self.cluster = cluster
        self.console = console
        self.previous = previous
        self.stop = StopRequest()
        self._heartbeat = Heartbeat.from_environment()
        self._heartbeat.beat("waiting" if self.serves else "starting")
        self._status: Status | None = None
        self._written_s = 0.0
        self._step = 0
        self._lock: int | None = None
        self._began_s = time.monotonic()
        self._earlier_s = 0.0

    @property
    def _train_s(self) -> float:
        return self._earlier_s + time.monotonic() - self._began_s

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier attempt began the run."""
        return self.previous is not None

    @property
    def serves(self) -> bool:
        """Whether this process only computes for a coordinator: a parameter server, or a worker beside one."""
        return "ps" in self.cluster.spec and self.cluster.task_type != "chief"

    @property
    def run_id(self) -> str:
        """Tells this run from all others, whatever its directory is called."""
        started = self._status.started if self._status is not None else None
        return f"{self.directory.path.name} {started:%Y-%m-%dT%H:%M:%S.%f}" if started else self.directory.path.name

    def began_with(self, what: str) -> str | None:
        """Returns a fact that an earlier attempt wrote down by `begin`, or None."""
        file = self.directory.path / "control" / what
        return file.read_text() if self.directory.exists() and file.is_file() else None

    def begin(self, recipe: Recipe, facts: Mapping[str, str], score: str) -> None:
        """Makes the run directory, or looks whether this one is of the same recipe and data; all processes call it.

        Args:
            recipe: What is asked for.
            facts: The digest of the `data`, and whatever else the run is to keep when it goes on.
            score: The metric that choices are made on.

        Raises:
            ConfigError: The directory cannot be made, is of another run, or is not shared by all processes.
            DataError: The run began with other examples.
            CheckpointError: The directory cannot be written to.
        """
        with self._naming_its_disk():
            if self.cluster.is_chief:
                self._take_directory(recipe, facts, score)
            if self.cluster.num_processes > 1:
                self._share()

    def _take_directory(self, recipe: Recipe, facts: Mapping[str, str], score: str) -> None:
        if self.is_resumed:
            _check_same(recipe, self.directory)
        else:
            RunDirectory.create(self.directory.path, recipe, go_on=self._go_on)
        self._take_lock()
        self._check_data(facts["data"])
        for what, value in facts.items():
            file = self.directory.path / "control" / what
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, value.encode())
        self._status = begin_status(recipe.publish.name, self.previous).change(score=score)
        self._earlier_s = self._status.train_s
        self.directory.write_status(self._status)

    def _take_lock(self) -> None:
        """Keeps a second process from going on with the run; the system frees the lock when this one ends."""
        file = self.directory.path / "control" / "lock"
        file.parent.mkdir(exist_ok=True)
        self._lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a lock of the process, known to NFS as well
        except (BlockingIOError, PermissionError) as error:
            raise ConfigError(
                f"Another process works on the run in {self.directory.path} already. Stop it first, or name another "
                "run directory.",
                expected="a run that nobody works on",
            ) from error

    @property
    def _go_on(self) -> str:
        return f"python train.py --resume --run-dir {shlex.quote(str(self.directory.path))}"

    def tell_environment(self, devices: list[str]) -> None:
        """Writes down what the run runs on."""
        if self.cluster.is_chief:
            with self._naming_its_disk():
                self.directory.write_environment(devices=devices, cluster=self.cluster.reason)

    def report(self, phase: str, stage: str, step: int, total_steps: int, figures: Mapping[str, float]) -> None:
        """Tells the launcher and the status where the run is.

        Raises:
            CheckpointError: The disk is full.
        """
        with self._naming_its_disk():
            self._heartbeat.beat(phase, step=step, total_steps=total_steps, figures=figures)
            self._write_progress(stage, step, total_steps, figures)

    @contextmanager
    def _naming_its_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: BaseException) -> CheckpointError:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())[:200]
        return CheckpointError(
            f"The run directory {self.directory.path} cannot be written to: {reason}. Checkpoints are intact; make "
            "room on the disk and resume the run.",
            expected="room on the disk",
            received=str(error),
        )

    def _write_progress(self, stage: str, step: int, total_steps: int, figures: Mapping[str, float]) -> None:
        self._step = max(self._step, step)
        if self._status is None:
            return
        is_new = stage != self._status.stage
        self._status = self._status.change(
            stage=stage,
            step=step,
            total_steps=total_steps,
            figures=dict(figures or self._status.figures),
            train_s=self._train_s,
        )
        if is_new or time.monotonic() - self._written_s >= _STATUS_INTERVAL_S:
            self._written_s = time.monotonic()
            self.directory.write_status(self._status, synced=is_new)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Writes down how the run ends, whichever way.

        Raises:
            StoppedError: It was asked to stop; the message says how to go on.
            CheckpointError: The disk is full.
        """
        try:
            yield
        except StoppedError as error:
            raise self._stop(error.message, error.exit_code) from error
        except KeyboardInterrupt as error:  # outside of training, where no checkpoint is to be taken
            raise self._stop("Stopped by Ctrl-C.", 130) from error
        except BmpError as error:
            self._end("failed", error=error.message)
            raise
        except BaseException as error:
            if is_disk_full(error):
                full = self._cannot_write(error)
                self._end("failed", error=full.message)
                raise full from error
            self._end("failed", error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
            raise

    def _stop(self, message: str, exit_code: int) -> StoppedError:
        self._end("stopped", error=message)
        launch = f"the same launch, with --run-dir {self.directory.path}"
        go_on = self._go_on if self.cluster.num_processes == 1 else launch
        return StoppedError(f"{message} Go on with: {go_on}", exit_code=exit_code)

    def finish(self, published: str) -> None:
        """Writes down that the run is done."""
        self._end("finished", published=published)
        self._heartbeat.beat("finished", step=self._step, total_steps=self._step)

    def wait_for_chief(self) -> None:
        """Waits while the chief exports and publishes: who leaves before is taken for lost.

        Raises:
            BmpError: The chief ended without publishing.
        """
        seen_s = time.monotonic()
        while True:
            self._heartbeat.beat("waiting")
            try:
                status = self.directory.read_status()
            except BmpError:  # between two writes, of a file system that is slow to show them
                if time.monotonic() - seen_s > _SHARED_WITHIN_S:
                    raise
            else:
                seen_s = time.monotonic()
                if status.state == "finished":
                    return
                if find_state(status) != "running":
                    raise RegistryError(f"The chief ended without publishing: {status.error or find_state(status)}")
            time.sleep(0.2)

    def _end(self, state: str, **changes: Any) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._status is None:
            return
        self._status = self._status.change(state=state, train_s=self._train_s, **changes)
        with suppress(OSError):  # a full disk is the likely reason of the end; the error itself is on its way up
            self.directory.write_status(self._status)

    def _check_data(self, digest: str) -> None:
        """Refuses to go on with other examples than the run began with."""
        before = self.began_with("data")
        if self.is_resumed and before is not None and before != digest:
            raise DataError(
                f"The examples are not those that the run in {self.directory.path} began with. Give it the same data, "
                "or name a new run directory.",
                expected=before,
                received=digest,
            )

    def _share(self) -> None:
        """Makes sure that all processes see the same directory: checkpoints and notes go through it."""
        token = hashlib.sha256(repr(sorted(self.cluster.spec.items())).encode()).hexdigest()
        file = self.directory.path / "control" / "cluster"
        if self.cluster.is_chief:
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, token.encode())
            return
        deadline = time.monotonic() + _SHARED_WITHIN_S
        while time.monotonic() < deadline:
            if file.is_file() and file.read_bytes() == token.encode():
                return
            time.sleep(0.1)
        raise ConfigError(
            f"The chief's token is not in the run directory {self.directory.path} of "
            f"{self.cluster.task_type} {self.cluster.task_index} after {_SHARED_WITHIN_S:.0f} seconds. Name a "
            "directory with --run-dir that all machines share.",
            expected="a directory that all processes share",
            received=str(self.directory.path),
        )


def find_attempt(recipe: Recipe, run_dir: str | Path | None, resume: bool, console: Console | None) -> Attempt:
    """Returns the attempt that this process is to make; nothing is written yet.

    Args:
        recipe: What is asked for.
        run_dir: A new directory, or one of a run, which then goes on; None makes a new one under `runs/`, or with
            `resume` takes the last unfinished run of this model there.
        resume: Whether a run is to go on.
        console: Where progress is shown; None is standard output.

    Raises:
        ConfigError: There is no such run, it is finished or still running, or a cluster needs a directory.
    """
    cluster = read_cluster(os.environ)
    path = _find_directory(recipe, run_dir, resume, cluster)
    directory = RunDirectory(path)
    previous = _read_previous(directory) if directory.exists() and cluster.is_chief else None
    if resume and not directory.exists() and cluster.is_chief:
        raise ConfigError(f"{path} holds no run that could go on; leave --resume out to begin one there.")
    if previous is None and cluster.is_chief:
        directory.check_free()
    return Attempt(directory, cluster, _make_console(console, cluster), previous)


def _read_previous(directory: RunDirectory) -> Status:
    if not directory.status_file.exists():  # ended between the making of its directory and the first word of it
        return begin_status(directory.path.name)
    status = directory.read_status()
    if status.state == "finished":
        raise ConfigError(
            f"The run in {directory.path} is finished: it published {status.published}. Name a new run directory."
        )
    if _lives(status):
        raise ConfigError(
            f"The run in {directory.path} is still running: process {status.pid} on {status.host}. Stop it first, or "
            "name another run directory.",
            expected="a run that has ended",
            received="running",
        )
    return status


def _lives(status: Status) -> bool:
    """Whether a run still has its process; of one on another machine, whether it said something lately."""
    if find_state(status) != "running" or status.pid == os.getpid():
        return False
    age_s = (datetime.now(UTC) - status.updated).total_seconds()
    return status.host == socket.gethostname() or age_s < _SILENT_AFTER_S


def _find_directory(recipe: Recipe, run_dir: str | Path | None, resume: bool, cluster: Cluster) -> Path:
    if run_dir is not None:
        return Path(run_dir)
    if cluster.num_processes > 1:
        raise ConfigError(
            f"{cluster.num_processes} processes take part ({cluster.reason}); they need one run directory that all of "
            "them share. Name it with --run-dir.",
            expected="--run-dir",
            received="none",
        )
    name = recipe.publish.name
    if not resume:
        return Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 1000 % 10**6:06d}"
    unfinished = [
        run
        for run in (list_runs("runs") if Path("runs").is_dir() else ())
        if run.status is not None and run.status.name == name and run.state not in ("finished", "running")
    ]
    if not unfinished:
        raise ConfigError(
            f"No unfinished run of '{name}' is under runs/; leave --resume out, or name one with --run-dir.",
            expected=f"an unfinished run of {name}",
        )
    return max(unfinished, key=lambda run: run.started).directory.path


def _check_same(recipe: Recipe, directory: RunDirectory) -> None:
    """Refuses to go on with another recipe than the run began with."""
    before, now = _flatten(directory.read_recipe()), _flatten(recipe.model_dump(mode="json"))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and not key.startswith(_FREE_TO_CHANGE):
            raise ConfigError(
                f"The run in {directory.path} began with {key}: {before.get(key)}, and would go on with "
                f"{now.get(key)}. Resume it with the recipe it began with ({directory.recipe_file}), or name a new run "
                "directory.",
                expected=f"{key}: {before.get(key)}",
                received=str(now.get(key)),
            )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _make_console(console: Console | None, cluster: Cluster) -> Console:
    if cluster.num_processes == 1:
        return console or Console()
    register_stack_dump()
    return _RankedConsole(f"[{cluster.task_type} {cluster.task_index}] ", console.file if console else sys.stdout)


class _RankedConsole(Console):
    """Says in every line whose it is."""

    def __init__(self, prefix: str, file: Any) -> None:
        super().__init__(file=file, width=200)
        self._line_prefix = prefix

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, line by line."""
        with self.capture() as captured:
            super().print(*objects, **options)
        for line in captured.get().splitlines():
            self.file.write(f"{self._line_prefix}{line}\n")
        self.file.flush()
