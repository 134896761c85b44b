"""Observers of every training: what is written down, what is kept, when to end.

Those that know something a resumed run needs give it by `get_state` (JSON) and `get_arrays`, and take it back by
`set_state` and `set_arrays`.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tf_keras as keras

from bmp.errors import ConfigError, TrainingError, suggest
from bmp.training.history import Epoch, History
from bmp.training.observer import Observer

_LESS_IS_BETTER = ("loss", "mae", "rmse", "perplexity", "error")


class Recorder(Observer):
    """Writes down each epoch.

    Args:
        stage: What is being done.
        steps_per_epoch: Of this training.
        examples_per_epoch: Of this training.
    """

    def __init__(self, stage: str, steps_per_epoch: int, examples_per_epoch: int) -> None:
        super().__init__()
        self.history = History()
        self._stage = stage
        self._steps_per_epoch = steps_per_epoch
        self._examples_per_epoch = examples_per_epoch
        self._started_s: float | None = None
        self._trained_s = self._earlier_s = 0.0

    def get_state(self) -> dict[str, Any]:
        """Returns the epochs so far, and the seconds spent on the running one."""
        running_s = 0.0 if self._started_s is None else time.perf_counter() - self._started_s + self._earlier_s
        return {"epochs": self.history.to_json(), "running_s": running_s}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the epochs of an earlier attempt."""
        self.history = History.from_json(state["epochs"])
        self._earlier_s = state["running_s"]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._started_s = self._trained_s = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers when the last step ended: what follows is validation."""
        self._trained_s = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Appends the epoch.

        Raises:
            TrainingError: The loss of the validation split is not finite.
        """
        figures = {name: float(value) for name, value in (logs or {}).items()}
        for name in ("loss", "val_loss"):
            if not math.isfinite(figures.get(name, 0.0)):
                raise TrainingError(
                    f"The {name} is {figures[name]} after epoch {epoch + 1} of the stage '{self._stage}'. "
                    "Lower the learning rate, or look for extreme values in the data.",
                    expected=f"a finite {name}",
                    received=str(figures[name]),
                )
        assert self._started_s is not None, "an epoch ends that has not begun"
        trained_s = self._trained_s - self._started_s + self._earlier_s
        self.history.epochs.append(
            Epoch(
                self._stage,
                epoch + 1,
                figures,
                time.perf_counter() - self._started_s + self._earlier_s,
                step=(epoch + 1) * self._steps_per_epoch,
                learning_rate=read_learning_rate(self.model.optimizer),
                examples_per_s=self._examples_per_epoch / max(trained_s, 1e-9),
            )
        )
        self._started_s, self._earlier_s = None, 0.0


class KeepBest(Observer):
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

    def get_state(self) -> dict[str, Any]:
        """Returns the best score and loss."""
        return {"best": list(self._best) if self._best else None}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes the best score and loss of an earlier attempt."""
        self._best = (state["best"][0], state["best"][1]) if state["best"] else None

    def get_arrays(self) -> list[np.ndarray]:
        """Returns the best weights."""
        return self._weights

    def set_arrays(self, arrays: list[np.ndarray]) -> None:
        """Takes the best weights of an earlier attempt."""
        self._weights = arrays

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the weights if they are better."""
        figures = logs or {}
        score = (float(figures[self._score]), -float(figures["val_loss"]))
        if epoch >= self._first_epoch and (self._best is None or score > self._best):
            self._best, self._weights = score, self.model.get_weights()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the best weights back."""
        if self._best is not None:
            self.model.set_weights(self._weights)


class EarlyStopping(Observer):
    """Ends a training whose validation has not become better for some time.

    Args:
        metric: Of the validation split, such as `val_loss`.
        patience: Validations without a better one.
        min_change: A smaller improvement is none.
        say: Takes the sentence for the log.
    """

    def __init__(self, metric: str, patience: int, min_change: float, say: Callable[[str], None]) -> None:
        super().__init__()
        self._metric = metric
        self._patience = patience
        self._min_change = min_change
        self._say = say
        self._best: float | None = None
        self._waited = 0

    @property
    def has_ended(self) -> bool:
        """Whether patience is at its end."""
        return self._waited >= self._patience

    def get_state(self) -> dict[str, Any]:
        """Returns the best value, and how many validations ago it was."""
        return {"best": self._best, "waited": self._waited}

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes what an earlier attempt knew."""
        self._best, self._waited = state["best"], state["waited"]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at a validation.

        Raises:
            ConfigError: The metric was not measured.
        """
        value = self._read(logs or {})
        less = self._metric.endswith(_LESS_IS_BETTER)
        change = math.inf if self._best is None else (self._best - value if less else value - self._best)
        if change > self._min_change:
            self._best, self._waited = value, 0
        else:
            self._waited += 1
        if self.has_ended:
            self.model.stop_training = True
            self._say(
                f"stopped early: {self._metric} has not become better than {self._best:.4f} "
                f"in {self._waited} validation{'s' if self._waited > 1 else ''}"
            )

    def _read(self, logs: dict[str, Any]) -> float:
        if self._metric not in logs:
            known = sorted(name for name in logs if name.startswith("val_"))
            raise ConfigError(
                f"train.early_stopping.metric is '{self._metric}', but validation measures {', '.join(known)}."
                f"{suggest(self._metric, known)}",
                expected=f"one of {', '.join(known)}",
                received=self._metric,
            )
        return float(logs[self._metric])


def read_learning_rate(optimizer: Any) -> float:
    """Returns the rate of the step to come."""
    return float(keras.backend.get_value(optimizer.learning_rate))
