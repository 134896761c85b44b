"""What a person sees of a training: a bar on a terminal, a line an epoch everywhere."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from bmp.pace import Pace, say_duration
from bmp.training.observer import Observer

_LOOK_S = 0.25
_PLAIN_LINE_S = 30.0


class ProgressBar(Observer):
    """One bar for the whole training on a terminal; elsewhere a plain line now and then in epochs that last long.

    Every epoch leaves one line: loss, metrics, and the examples a second of its steps, validation not counted.

    Args:
        stage: What is being done, as each line begins.
        console: Where to write.
        examples_per_step: Over all replicas; the mean, where the last step of an epoch has fewer.
        total_steps: Of the whole training.
        steps_per_epoch: After `batch` of `epoch`, both from 0, `epoch * steps_per_epoch + batch + 1` steps are done.
        epochs: Of the whole training.
        first_step: Steps that an earlier attempt has done.
        prefix: Stands before every line, such as `[worker 1] `.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        stage: str,
        console: Console,
        *,
        examples_per_step: float,
        total_steps: int,
        steps_per_epoch: int,
        epochs: int,
        first_step: int = 0,
        prefix: str = "",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        super().__init__()
        self._stage = stage
        self._console = console
        self._examples_per_step = examples_per_step
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._epochs = epochs
        self._prefix = prefix
        self._clock = clock
        self._pace = Pace()
        self._epoch = 0
        self._step = first_step
        self._epoch_began = (first_step, 0.0)  # steps done, and seconds trained, when the epoch began
        self._figures = ""
        self._looked_s = self._said_s = -float("inf")
        self._progress = Progress(
            _Words("label"),
            BarColumn(bar_width=20),
            _Words("pace"),
            _Words("figures", cut=True),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._is_terminal = console.is_terminal  # to ask costs more than the rest of a step here
        self._task: TaskID | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the bar."""
        self._task = self._progress.add_task("", total=self._total_steps, completed=self._step)
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._epoch = epoch
        self._pace.begin(self._clock())
        self._epoch_began = (self._step, self._pace.train_s)
        self._said_s = self._clock()
        self._move()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the steps of an execution, and shows them a few times a second."""
        now_s = self._clock()
        self._step = self._epoch * self._steps_per_epoch + batch + 1
        self._pace.add(self._step, now_s)
        if self._is_terminal and now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._move("  ".join(_to_words(logs or {})))
        elif not self._is_terminal and now_s - self._said_s >= _PLAIN_LINE_S:
            self._said_s = now_s
            self.say("  ".join([self._label(), f"step {self._steps()}", *_to_words(logs or {}), *self._speed()]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Leaves one line for the epoch."""
        first_step, first_s = self._epoch_began
        train_s = self._pace.train_s - first_s
        figures = _to_words(logs or {})
        if train_s > 0:
            figures.append(_say_rate((self._step - first_step) * self._examples_per_step / train_s))
        self.say("  ".join([self._label(), *figures]))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the bar."""
        self.close()

    def say(self, line: str) -> None:
        """Prints a line, above the bar where there is one."""
        self._console.print(self._prefix + line, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Gives the terminal back, also after an exception in the middle of an epoch; twice does no harm."""
        self._progress.stop()

    def _move(self, figures: str | None = None) -> None:
        if self._task is not None:
            self._figures = self._figures if figures is None else figures
            self._progress.update(
                self._task,
                completed=self._step,
                label=f"{self._prefix}{self._label()}",
                pace="  ".join([self._steps(), *reversed(self._speed())]),
                figures=self._figures,
            )

    def _label(self) -> str:
        return f"{self._stage} {self._epoch + 1:>{len(str(self._epochs))}}/{self._epochs}"

    def _steps(self) -> str:
        return f"{self._step:,}/{self._total_steps:,}"

    def _speed(self) -> list[str]:
        rate = self._pace.steps_per_s
        left_s = self._pace.estimate_s(max(self._total_steps - self._step, 0), self._epochs - self._epoch)
        if rate is None or left_s is None:
            return []
        return [_say_rate(rate * self._examples_per_step), f"ETA {say_duration(left_s)}"]


class _Words(ProgressColumn):
    """A field of the task as plain text: a `[` in it is no markup.

    Args:
        field: Name of the field.
        cut: Whether it gives way where the terminal is narrow.
    """

    def __init__(self, field: str, *, cut: bool = False) -> None:
        super().__init__(Column(no_wrap=not cut))
        self._field = field

    def render(self, task: Task) -> Text:
        """Returns the field, in one line."""
        return Text(task.fields.get(self._field, ""), no_wrap=True, overflow="ellipsis")


def _to_words(logs: Mapping[str, Any]) -> list[str]:
    figures = {name: float(value) for name, value in logs.items()}
    return [f"{name} {value:.4f}" for name, value in figures.items() if not math.isnan(value)]


def _say_rate(examples_per_s: float) -> str:
    return f"{examples_per_s:,.0f} examples/s"
