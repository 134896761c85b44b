"""Callbacks of every fit: what is written down, and what a person sees meanwhile."""

import math
import time
from typing import Any

import tf_keras as keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bmp.errors import TrainingError
from bmp.training.history import Epoch, History


class Recorder(keras.callbacks.Callback):
    """Writes down each epoch, and stops a run whose loss is no longer finite.

    Args:
        stage: What is being done.
    """

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.history = History()
        self._stage = stage
        self._started_s = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started_s = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends the epoch.

        Raises:
            TrainingError: The loss is not finite.
        """
        figures = {name: float(value) for name, value in (logs or {}).items()}
        for name in ("loss", "val_loss"):
            if not math.isfinite(figures[name]):
                raise TrainingError(
                    f"The {name} is {figures[name]} after epoch {epoch + 1} of the stage '{self._stage}'. "
                    "Lower the learning rate, or look for extreme values in the data.",
                    expected=f"a finite {name}",
                    received=str(figures[name]),
                )
        duration_s = time.perf_counter() - self._started_s
        self.history.epochs.append(Epoch(self._stage, epoch + 1, figures, duration_s))


class KeepBest(keras.callbacks.Callback):
    """Leaves the model with the weights of the epoch of best validation score; of equals, of least loss.

    Args:
        score: The metric that tells, such as accuracy; greater is better.
        first_epoch: Earlier epochs, counted from 0, do not compete.
    """

    def __init__(self, score: str, first_epoch: int = 0) -> None:
        super().__init__()
        self._score = f"val_{score}"
        self._first_epoch = first_epoch
        self._best: tuple[float, float] | None = None
        self._weights: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the weights if they are better."""
        figures = logs or {}
        score = (figures[self._score], -figures["val_loss"])
        if epoch >= self._first_epoch and (self._best is None or score > self._best):
            self._best, self._weights = score, self.model.get_weights()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the best weights back."""
        if self._best is not None:
            self.model.set_weights(self._weights)


class ProgressBar(keras.callbacks.Callback):
    """Shows a bar on a terminal and one line an epoch everywhere: steps, examples/s, loss and metrics of each epoch.

    Args:
        stage: What is being done, as the line begins.
        num_examples: Of one epoch.
        steps: Of one epoch.
        console: Where to write.
    """

    def __init__(self, stage: str, num_examples: int, steps: int, console: Console) -> None:
        super().__init__()
        self._stage = stage
        self._num_examples = num_examples
        self._steps = steps
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None
        self._started_s = 0.0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the bar."""
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the bar of an epoch."""
        self._started_s = time.perf_counter()
        label = f"{self._stage} {epoch + 1}/{self.params['epochs']}"
        self._task = self._progress.add_task(label, total=self._steps, figures="")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Moves the bar."""
        if self._task is not None and self._console.is_terminal:
            figures = " ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
            self._progress.update(self._task, completed=batch + 1, figures=figures)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves one line for the epoch."""
        duration_s = time.perf_counter() - self._started_s
        figures = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        rate = self._num_examples / duration_s
        if self._task is not None:
            self._progress.remove_task(self._task)
        total = self.params["epochs"]
        self._console.print(
            f"{self._stage} {epoch + 1:>{len(str(total))}}/{total}  {figures}  {rate:,.0f} examples/s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self._progress.stop()

    def close(self) -> None:
        """Gives the terminal back, also after an exception in the middle of an epoch."""
        self._progress.stop()
