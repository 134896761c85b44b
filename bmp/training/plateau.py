"""The callback of the schedule `plateau`; imported only when a training has one."""

import math
from typing import Any

from bmp.errors import ConfigError, suggest
from bmp.training.observer import Observer
from bmp.training.schedules import Plateau

_LESS_IS_BETTER = ("loss", "mae", "rmse", "perplexity", "error")


class PlateauSchedule(Observer):
    """Lowers the learning rate of the model's optimizer after a validation, where none was better for some time.

    What it knows is in `get_state()`; a resumed run gives it to `set_state()` before or after the fit begins, and
    the rate follows from it.

    Args:
        plateau: What to do.
    """

    def __init__(self, plateau: Plateau) -> None:
        super().__init__()
        self._plateau = plateau
        self._best: float | None = None
        self._since_step = 0
        self._reductions = 0

    @property
    def learning_rate(self) -> float:
        """The rate by now."""
        lowered = self._plateau.initial * self._plateau.factor**self._reductions
        return max(lowered, self._plateau.minimum)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Sets the rate, also that of a resumed run."""
        self._apply()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at a validation.

        Raises:
            ConfigError: It has not measured the metric.
        """
        value, step = self._read(logs or {}), int(self.model.optimizer.iterations.numpy())
        if self._is_better(value):
            self._best, self._since_step = value, step
        elif step - self._since_step >= self._plateau.patience_steps:
            self._since_step = step
            self._lower()

    def _lower(self) -> None:
        if self.learning_rate > self._plateau.minimum:
            self._reductions += 1
            self._apply()

    def _apply(self) -> None:
        self.model.optimizer.learning_rate = self.learning_rate

    def _read(self, logs: dict[str, Any]) -> float:
        name = self._plateau.metric
        if name not in logs:
            known = sorted(key for key in logs if key.startswith("val_"))
            raise ConfigError(
                f"train.schedule_args.metric is '{name}', but validation measured {', '.join(known) or 'nothing'}."
                f"{suggest(name, known)}",
                expected=f"one of {', '.join(known)}",
                received=name,
            )
        return float(logs[name])

    def _is_better(self, value: float) -> bool:
        if self._best is None:
            return not math.isnan(value)
        return value < self._best if self._plateau.metric.endswith(_LESS_IS_BETTER) else value > self._best

    def get_state(self) -> dict[str, Any]:
        """Returns what a resumed run needs, ready for JSON."""
        return {"best": self._best, "since_step": self._since_step, "reductions": self._reductions}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what `get_state` returned; where a model is there already, its rate follows at once."""
        self._best, self._since_step = state["best"], state["since_step"]
        self._reductions = state["reductions"]
        if self.model is not None:
            self._apply()
