"""Says where a training is, to whoever watches over it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from bmp.training.observer import Observer

Report = Callable[[str, str, int, int, Mapping[str, float]], None]
"""Phase, stage, steps done, steps to do, and figures such as `loss` and `examples_per_s`."""

_INTERVAL_S = 0.25


class Pulse(Observer):
    """Reports after calls of steps, at most four times a second, and at every change of phase.

    Args:
        stage: What is being done.
        report: Is told.
        steps_per_epoch: Of this training.
        total_steps: Of this training.
        examples_per_step: Over all replicas.
        is_tuning: Whether the pace is still being chosen: building a step may take long, and is no sign of trouble.
    """

    def __init__(
        self,
        stage: str,
        report: Report,
        *,
        steps_per_epoch: int,
        total_steps: int,
        examples_per_step: float,
        is_tuning: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._stage = stage
        self._report = report
        self._steps_per_epoch = steps_per_epoch
        self._total_steps = total_steps
        self._examples_per_step = examples_per_step
        self._is_tuning = is_tuning
        self._epoch = self._step = self._last_step = 0
        self._last_s = -1.0
        self._figures: dict[str, float] = {}

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts from here."""
        self._epoch, self._step = epoch, epoch * self._steps_per_epoch
        self._last_step, self._last_s = self._step, time.monotonic()
        self._say("tuning" if self._is_tuning() or epoch == 0 else "training")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports, now and then."""
        if self._step == self._epoch * self._steps_per_epoch:  # where a resumed epoch begins is known only now
            self._last_step = self._epoch * self._steps_per_epoch + batch
        self._step = self._epoch * self._steps_per_epoch + batch + 1
        now = time.monotonic()
        if now - self._last_s < _INTERVAL_S:
            return
        rate = (self._step - self._last_step) * self._examples_per_step / (now - self._last_s)
        figures = {name: float(value) for name, value in (logs or {}).items()} | {"examples_per_s": rate}
        self._figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._last_s, self._last_step = now, self._step
        self._say("tuning" if self._is_tuning() else "training")

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Validation starts."""
        self._say("validating")

    def on_test_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Validation lives."""
        if time.monotonic() - self._last_s >= _INTERVAL_S:
            self._last_s = time.monotonic()
            self._say("validating")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the figures of the epoch."""
        self._figures |= {name: float(value) for name, value in (logs or {}).items()}
        self._say("training")

    def _say(self, phase: str) -> None:
        self._report(phase, self._stage, self._step, self._total_steps, self._figures)
