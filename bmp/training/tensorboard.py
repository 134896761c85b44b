"""Curves for TensorBoard: scalars of every epoch, and of steps in between, as event files."""

import itertools
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from bmp.pace import Pace
from bmp.training.observer import Observer

_FILE_VERSION = "brain.Event:2"
_file_numbers = itertools.count()


class EventFile:
    """One event file of one TensorBoard run.

    `tf.summary` has no public way to say that a run was resumed, so the events are written here: they are protocol
    buffers of TensorFlow in a TFRecord file. TensorBoard's fast reader looks only at the steps themselves: it forgets
    old points from the first new point on, and keeps those between `first_step` and there (`--load_fast=false` does
    not).

    Args:
        directory: Of the TensorBoard run; it may hold earlier files.
        first_step: What earlier files say of later steps no longer counts.

    Raises:
        tf.errors.OpError: The file cannot be written.
    """

    def __init__(self, directory: Path, first_step: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a run in the order of their names.
        name = f"events.out.tfevents.{time.time_ns()}.{next(_file_numbers):06}.{socket.gethostname()}"
        self._writer = tf.io.TFRecordWriter(str(directory / name))
        start = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(file_version=_FILE_VERSION)
        self._write(step=first_step + 1, session_log=start)  # TensorBoard forgets this step and later ones
        self._writer.flush()

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars as they are after a step."""
        summary = tf.compat.v1.Summary()
        for tag, value in scalars.items():
            summary.value.add(tag=tag, simple_value=value)
        self._write(step=step, summary=summary)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, **fields: Any) -> None:
        self._writer.write(tf.compat.v1.Event(wall_time=time.time(), **fields).SerializeToString())


class TensorBoardWriter(Observer):
    """Writes the runs `train` and `validation` for TensorBoard, over the steps done.

    `epoch/loss` and other metrics are in both; `step/loss`, `step/learning_rate` and `step/examples_per_s` are in
    `train`, several seconds apart. The runs of a later stage are `prune/train` and `prune/validation`. It only watches:
    where its files cannot be written it says so once, and training goes on.

    Args:
        directory: What `tensorboard --logdir` is given.
        stage: What is being done.
        steps_per_epoch: After `batch` of `epoch`, both from 0, `epoch * steps_per_epoch + batch + 1` steps are done.
        examples_per_step: Over all replicas.
        first_step: Steps done before: what an earlier attempt wrote of later ones no longer counts.
        every_s: Seconds between two points of `step/…`, at least.
        say: Tells a person that the files cannot be written.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        directory: Path,
        stage: str,
        *,
        steps_per_epoch: int,
        examples_per_step: float,
        first_step: int = 0,
        every_s: float = 10.0,
        say: Callable[[str], None] = print,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._directory = directory if stage == "train" else directory / stage
        self._steps_per_epoch = steps_per_epoch
        self._examples_per_step = examples_per_step
        self._step = self._first_step = first_step
        self._every_s = every_s
        self._say = say
        self._clock = clock
        self._pace = Pace()
        self._wrote_s = clock()
        self._epoch = 0
        self._files: dict[str, EventFile] = {}
        self._failed = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the files of the runs that go on, so that what no longer counts is forgotten at once."""
        with self._only_watching():
            for run in ("train", "validation"):
                if run == "train" or (self._directory / run).is_dir():
                    self._open(run)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._epoch = epoch
        self._pace.begin(self._clock())

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes what the last steps were like, if that is due."""
        now_s = self._clock()
        self._step = self._epoch * self._steps_per_epoch + batch + 1
        self._pace.add(self._step, now_s)
        if now_s - self._wrote_s < self._every_s:
            return
        self._wrote_s = now_s
        figures = dict(logs or {}) | {"learning_rate": read_learning_rate(self.model.optimizer)}
        if (rate := self._pace.steps_per_s) is not None:
            figures["examples_per_s"] = rate * self._examples_per_step
        self._add("train", {f"step/{name}": float(value) for name, value in figures.items()})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes the metrics of the epoch."""
        figures = {name: float(value) for name, value in (logs or {}).items()}
        train = {name: value for name, value in figures.items() if not name.startswith("val_")}
        train["learning_rate"] = read_learning_rate(self.model.optimizer)
        validation = {name.removeprefix("val_"): figures[name] for name in figures if name.startswith("val_")}
        self._add("train", {f"epoch/{name}": value for name, value in train.items()})
        if validation:
            self._add("validation", {f"epoch/{name}": value for name, value in validation.items()})

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the files."""
        self.close()

    def close(self) -> None:
        """Closes the files, also after an exception; twice does no harm."""
        with self._only_watching():
            while self._files:
                self._files.popitem()[1].close()

    def _open(self, run: str) -> EventFile:
        if run not in self._files:
            self._files[run] = EventFile(self._directory / run, self._first_step)
        return self._files[run]

    def _add(self, run: str, scalars: Mapping[str, float]) -> None:
        if not self._failed:
            with self._only_watching():
                self._open(run).add(self._step, scalars)

    @contextmanager
    def _only_watching(self) -> Iterator[None]:
        """Says once that a file cannot be written; nothing is written from then on."""
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            self._failed = True
            self._say(f"The curves for TensorBoard are no longer written: {' '.join(str(error).split())}")


def read_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the rate of the last step, of a schedule too."""
    rate = optimizer.learning_rate
    return float(rate.numpy() if hasattr(rate, "numpy") else rate)  # a mirrored variable is no number by itself
