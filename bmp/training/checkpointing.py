"""When the state of a training is taken down, and what is in it."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tf_keras as keras

from bmp.durations import Clock, read_duration
from bmp.errors import StoppedError, TrainingError
from bmp.training.checkpoint import BackgroundWriter, Checkpoint, CheckpointStore
from bmp.training.observer import Observer
from bmp.training.state import TrainState
from bmp.training.step import Step
from bmp.training.stop import StopAgreement

_LOOK_S = 0.1


class Position:
    """Where a training starts: what Keras asks when `fit` begins.

    Args:
        epoch: From 0.
        step: Of that epoch, from 0.
    """

    def __init__(self, epoch: int = 0, step: int = 0) -> None:
        self.epoch = epoch
        self.step = step

    def maybe_load_initial_counters_from_ckpt(
        self, steps_per_epoch: int, initial_epoch: int, mode: str
    ) -> tuple[int, int]:
        """Returns epoch and step; the name is Keras', which has its own backup ask it."""
        return self.epoch, self.step

    @contextmanager
    def told_to(self, model: keras.Model) -> Iterator[None]:
        """Lets a model's `fit` ask this position, in place of Keras' own backup."""
        model._training_state = self
        try:
            yield
        finally:
            model._training_state = None


class Checkpointer(Observer):
    """Takes the state down when it is due, and ends the training when it was asked to. To be the last callback.

    Args:
        state: Of the training.
        writer: Where checkpoints go; None for a worker that is not the chief, or a run that keeps none.
        every: A duration: how often.
        clock: Of the training.
        steps_per_epoch: Steps before each validation: what Keras calls an epoch.
        observers: Callbacks whose state belongs to it.
        stop: Whether to end, and when.
        epochs: Of the training; the end of the last leaves no checkpoint, the finished training does.
        takes: Whether checkpoints are kept at all.
        settle: Waits until all steps begun are done, and looks whether they are sound.
    """

    def __init__(
        self,
        state: TrainState,
        writer: BackgroundWriter | None,
        *,
        every: str,
        clock: Clock,
        steps_per_epoch: int,
        observers: Sequence[Any],
        stop: StopAgreement,
        epochs: int,
        takes: bool,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        duration = read_duration(every)
        self._every_s = float(duration.amount) if duration.unit == "seconds" else None
        self._every_steps = None if self._every_s is not None else max(clock.to_steps(duration), 1)
        self._state = state
        self._writer = writer
        self._steps_per_epoch = steps_per_epoch
        self._observers = observers
        self._stop = stop
        self._epochs = epochs
        self.takes = takes
        self._settle = settle
        self._pending: dict[str, np.ndarray] = {}
        self._epoch = 0
        self._taken_step, self._taken_s = 0, time.monotonic()

    def resume(self, checkpoint: Checkpoint) -> Position:
        """Puts everything back but the metrics of the running epoch, which Keras would reset, and says where to start.

        In this order: weights and optimizer, since a schedule of an observer sets the learning rate; then observers.
        """
        self._state.put(checkpoint.arrays)
        put_observers(self._observers, checkpoint)
        self._pending = {name: array for name, array in checkpoint.arrays.items() if name.startswith("metric/")}
        self._taken_step = checkpoint.step
        return Position(*divmod(checkpoint.step, self._steps_per_epoch))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Gives the metrics of an epoch that was begun before their sums back."""
        self._epoch = epoch
        if self._pending:
            self._state.put_metrics(self._pending)
            self._pending = {}

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks whether it is time; the end of an epoch is left to `on_epoch_end`."""
        if batch + 1 < self._steps_per_epoch:
            self._look(self._epoch * self._steps_per_epoch + batch + 1, metrics=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks whether it is time, after all other observers have seen the epoch."""
        if epoch + 1 < self._epochs and not self.model.stop_training:
            self._look((epoch + 1) * self._steps_per_epoch, metrics=False)

    def _look(self, step: int, *, metrics: bool) -> None:
        exit_code = self._stop.exit_code(step)
        if not self.takes:
            if exit_code is not None:
                raise StoppedError("The run was asked to stop, and keeps no checkpoints.", exit_code=exit_code)
            return
        if exit_code is not None or self._is_due(step):
            self._take(step, metrics=metrics)
        if exit_code is not None:
            if self._writer is not None:
                self._writer.close()
            raise StoppedError(
                f"Stopped after step {step:,}, as asked; the checkpoint is written.", exit_code=exit_code
            )

    def _is_due(self, step: int) -> bool:
        if self._every_steps is not None:
            return step // self._every_steps > self._taken_step // self._every_steps
        return time.monotonic() - self._taken_s >= (self._every_s or 0)

    def _take(self, step: int, *, metrics: bool) -> None:
        self._settle()
        arrays = self._state.take(metrics=metrics)  # by all workers: they exchange what each keeps for itself
        if self._writer is not None:
            self._writer.submit(make_checkpoint(step, arrays, self._observers))
        self._taken_step, self._taken_s = step, time.monotonic()


def make_checkpoint(
    step: int, arrays: dict[str, np.ndarray], observers: Sequence[Any], *, finished: bool = False
) -> Checkpoint:
    """Returns the state of a training: its arrays, and what its observers know.

    Raises:
        TrainingError: A weight is not finite.
    """
    _check_finite(arrays, step)
    observers = [observer for observer in observers if hasattr(observer, "get_state")]
    states = {type(observer).__name__: observer.get_state() for observer in observers}
    for observer in observers:
        own = observer.get_arrays() if hasattr(observer, "get_arrays") else []
        arrays = arrays | {f"{type(observer).__name__}/{number:04d}": array for number, array in enumerate(own)}
    state = json.loads(json.dumps({"finished": finished, "observers": states}))  # as it will be read
    return Checkpoint(step, state, arrays)


def put_observers(observers: Sequence[Any], checkpoint: Checkpoint) -> None:
    """Gives observers what they knew; one that the run did not have then starts with nothing."""
    for observer in observers:
        name = type(observer).__name__
        if name in checkpoint.state["observers"] and hasattr(observer, "set_state"):
            observer.set_state(checkpoint.state["observers"][name])
        if hasattr(observer, "set_arrays"):
            observer.set_arrays(
                [checkpoint.arrays[key] for key in sorted(checkpoint.arrays) if key.startswith(f"{name}/")]
            )


def find_checkpoint(store: CheckpointStore, say: Callable[[str], None]) -> Checkpoint | None:
    """Returns the newest sound checkpoint of a stage, and says what is wrong with newer ones.

    Raises:
        CheckpointError: There are checkpoints, but none is sound.
    """
    checkpoint, problems = store.read_newest()
    for problem in problems:
        say(f"{problem} The one before it is used.")
    return checkpoint


class FiniteGuard(Observer):
    """Ends a training whose loss is no longer a finite number, before anything of it is written down.

    The step itself remembers its first bad one, so it is enough to ask now and then: several times a second, before
    every validation, and (`look`) before every checkpoint.

    Args:
        step: That notes the first bad one.
        stage: What is being done.
        steps_per_epoch: Steps before each validation: what Keras calls an epoch.
        find_examples: Step to the numbers of its examples in the source.
        max_skipped: How many batches may be left out; None where none is.
        say: Takes a sentence for the log.
    """

    def __init__(
        self,
        step: Step,
        *,
        stage: str,
        steps_per_epoch: int,
        find_examples: Callable[[int], np.ndarray],
        max_skipped: int | None,
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._step = step
        self._stage = stage
        self._steps_per_epoch = steps_per_epoch
        self._find_examples = find_examples
        self._max_skipped = max_skipped
        self._say = say
        self._skipped = 0
        self._looked_s = -math.inf

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks, if it is time; where batches may be left out, each of them is named."""
        if self._max_skipped is not None or time.monotonic() - self._looked_s >= _LOOK_S:
            self.look()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Looks at the last steps: nothing is validated that is not sound."""
        self.look()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the last steps, also of a training without validation."""
        self.look()

    def look(self) -> None:
        """Looks at the steps since the last look.

        Raises:
            TrainingError: The loss of one is not finite, or too many were left out.
        """
        self._looked_s = time.monotonic()
        if self._max_skipped is None:
            bad = self._step.bad_step()
            if bad is not None:
                raise TrainingError(
                    f"The loss is not finite at {self._name(bad)}; its weights were not kept. Lower the learning rate, "
                    "look at these examples, or leave such batches out with train.on_nonfinite: skip.",
                    expected="a finite loss",
                    received="nan or inf",
                )
            return
        skipped = self._step.skipped()
        if skipped > self._skipped:
            self._say(f"left out: a batch without a finite gradient, {self._name(self._step.last_skipped())}")
            self._skipped = skipped
        if skipped > self._max_skipped:
            raise TrainingError(
                f"{skipped} batches had no finite gradient; train.max_skipped allows {self._max_skipped}. The last: "
                f"{self._name(self._step.last_skipped())}. Lower the learning rate, or look at these examples.",
                expected=f"at most {self._max_skipped}",
                received=str(skipped),
            )

    def _name(self, step: int) -> str:
        epoch, batch = divmod(step, self._steps_per_epoch)
        numbers = self._find_examples(step)
        shown = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
        return f"step {step + 1:,} of stage '{self._stage}' (epoch {epoch + 1}, batch {batch + 1}: examples {shown})"


def _check_finite(arrays: dict[str, np.ndarray], step: int) -> None:
    """Keeps weights that are not finite from ever becoming the newest checkpoint."""
    for name, array in arrays.items():
        if name.startswith("weight/") and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise TrainingError(
                f"A weight is not finite after step {step:,}; the last checkpoint is from before. Lower the learning "
                "rate, or set train.on_nonfinite: skip.",
                expected="finite weights",
                received=name,
            )
