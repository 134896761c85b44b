"""One training of one model, put together: steps, observers, checkpoints, and `keras.Model.fit` around them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tf_keras as keras
from rich.console import Console

from bmp.data.pipeline import Pipeline
from bmp.errors import ConfigError
from bmp.training.callbacks import EarlyStopping, Recorder
from bmp.training.checkpoint import BackgroundWriter, Checkpoint, CheckpointStore
from bmp.training.checkpointing import (
    Checkpointer,
    FiniteGuard,
    Position,
    find_checkpoint,
    make_checkpoint,
    put_observers,
)
from bmp.training.history import History
from bmp.training.lone_device import unwrapped
from bmp.training.observer import Observer
from bmp.training.own_step import has_own_step
from bmp.training.progress import ProgressBar
from bmp.training.pulse import Pulse
from bmp.training.randomness import find_stateful_draws
from bmp.training.state import TrainState
from bmp.training.step import Step
from bmp.training.teacher import Teacher
from bmp.training.tensorboard import TensorBoardWriter
from bmp.training.tuning import Tuner, guess_xla_gain

if TYPE_CHECKING:
    from bmp.training.trainer import Trainer


class Fit:
    """A training about to be run.

    Args:
        trainer: Whose options, data and strategy it has.
        model: Compiled.
        stage: What is being done.
        epochs: Validations, and the steps before each.
        steps_per_epoch: Steps before each validation.
        console: Where progress is shown.
        exchanges: Whether layers of the model exchange values between replicas.
        teacher: Whom the model learns from.
    """

    def __init__(
        self,
        trainer: "Trainer",
        model: keras.Model,
        *,
        stage: str,
        epochs: int,
        steps_per_epoch: int,
        console: Console,
        exchanges: bool = False,
        teacher: Teacher | None = None,
    ) -> None:
        self.trainer = trainer
        self.model = model
        self.stage = stage
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = epochs * steps_per_epoch
        self.clock = trainer.clock(epochs, steps_per_epoch)
        self._console = console
        self._train = Pipeline(trainer.data.train, trainer.batch_size, keeps=not trainer.is_coordinated)
        self._validation = Pipeline(trainer.data.validation, trainer.batch_size)
        passes = steps_per_epoch == trainer.steps_per_epoch
        self._examples_per_epoch = len(trainer.data.train) if passes else steps_per_epoch * trainer.batch_size
        self._recorder = Recorder(stage, steps_per_epoch, self._examples_per_epoch)
        self._is_bound = exchanges and trainer.strategy.num_replicas_in_sync > 1
        self._step = trainer.make_step(model, whole=self._is_bound, teacher=teacher)
        self._guard = self._make_guard()
        self._tuner = self._make_tuner()
        self._observers: list[keras.callbacks.Callback] = [self._tuner]
        self._bar: ProgressBar | None = None

    def observe(self, callback: keras.callbacks.Callback) -> None:
        """Adds a callback; it sees an epoch after those added before, and before it is written down."""
        self._observers.append(callback)

    def say(self, line: str) -> None:
        """Shows a line, above the bar where there is one."""
        if self._bar is not None:
            self._bar.say(line)
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def run(self) -> History:
        """Trains from the newest checkpoint to the end; returns all epochs, also those of earlier attempts."""
        store = self._make_store()
        checkpoint = None if store is None else find_checkpoint(store, self.say)
        self._observers.append(self._recorder)
        if checkpoint is not None and checkpoint.state["finished"]:
            return self._take_over(checkpoint)
        writer = BackgroundWriter(store) if store is not None and self.trainer.place.cluster.is_chief else None
        try:
            checkpointer = self._make_checkpointer(writer, takes=store is not None)
            position = Position() if checkpoint is None else checkpointer.resume(checkpoint)
            if checkpoint is not None:
                self.say(f"resumed: stage '{self.stage}' from step {checkpoint.step:,} of {self.total_steps:,}")
            self._fit(position, checkpointer)
            if checkpointer.takes:
                self._finish(writer)
        finally:
            if writer is not None:
                writer.close()
        return self._recorder.history

    def _fit(self, position: Position, checkpointer: Checkpointer) -> None:
        first_step = position.epoch * self.steps_per_epoch + position.step
        ended = any(isinstance(one, EarlyStopping) and one.has_ended for one in self._observers)
        self._bar = self._make_bar(first_step)
        self.model.test_function = self._step.make_test_function()
        coordinated = self._step.is_coordinated
        first = _CoordinatorValidation(self._step, self._validation) if coordinated else self._guard
        watchers = [
            _Starter(self._step, first_step, self.trainer.config.deterministic, self.say),
            first,
            *self._make_watchers(first_step),
            self._bar,
        ]
        try:
            with (
                self._train.naming_failures(),
                self._validation.naming_failures(),
                self._step.randomness.installed(),
                position.told_to(self.model),
                unwrapped(self.model, self.trainer.strategy),
            ):
                self.model.fit(
                    self.trainer.train_batches(self._train, first_step, for_keras=has_own_step(self.model)),
                    steps_per_epoch=self.steps_per_epoch,
                    validation_data=None if coordinated else self.trainer.test_batches(self._validation),
                    validation_steps=self._validation.steps_per_epoch,
                    initial_epoch=position.epoch,
                    epochs=position.epoch if ended else self.epochs,
                    callbacks=[*watchers, *self._observers, checkpointer],
                    verbose=0,
                )
        finally:
            self._bar.close()
            self._bar = None

    def _finish(self, writer: BackgroundWriter | None) -> None:
        """Writes down that the stage is done, and with which weights."""
        arrays = self._make_state().take_weights()
        if writer is not None:
            done = self._recorder.history.epochs[-1].step or self.total_steps
            writer.submit(make_checkpoint(done, arrays, self._observers, finished=True))

    def _take_over(self, checkpoint: Checkpoint) -> History:
        self._make_state().put_weights(checkpoint.arrays)
        put_observers(self._observers, checkpoint)
        self.say(f"resumed: stage '{self.stage}' was finished before")
        return self._recorder.history

    def _make_state(self) -> TrainState:
        return TrainState(self.model, self.trainer.strategy, self._step.others)

    def _make_store(self) -> CheckpointStore | None:
        directory = self.trainer.place.directory
        if directory is None:
            return None
        return CheckpointStore(directory / "checkpoints" / self.stage, self.trainer.config.checkpoint.keep)

    def _make_checkpointer(self, writer: BackgroundWriter | None, *, takes: bool) -> Checkpointer:
        return Checkpointer(
            self._make_state(),
            writer,
            every=self.trainer.config.checkpoint.every,
            clock=self.clock,
            steps_per_epoch=self.steps_per_epoch,
            observers=self._observers,
            stop=self.trainer.agree_to_stop(),
            epochs=self.epochs,
            takes=takes,
            settle=self._settle,
        )

    def _settle(self) -> None:
        """Waits for the steps begun, and looks at them: what follows writes down what they left."""
        self._step.settle()
        if not self._step.is_coordinated:
            self._guard.look()

    def _make_tuner(self) -> Tuner:
        config, coordinated = self.trainer.config, self._step.is_coordinated  # whose calls only give steps to workers
        coordinated = coordinated or has_own_step(self.model)
        fixed = config.deterministic or coordinated
        return Tuner(
            self._step,
            jit=False if self._is_bound or (fixed and config.jit == "auto") else config.jit,
            steps_per_execution=1
            if coordinated and config.steps_per_execution == "auto"
            else config.steps_per_execution,
            total_steps=self.total_steps,
            last_differs=len(self.trainer.data.train) % self.trainer.batch_size > 0,
            say=self.say,
            xla_gain=guess_xla_gain(self.model, self.trainer.strategy.extended.worker_devices),
        )

    def _make_guard(self) -> FiniteGuard:
        config = self.trainer.config
        return FiniteGuard(
            self._step,
            stage=self.stage,
            steps_per_epoch=self.steps_per_epoch,
            find_examples=lambda step: self.trainer.examples_at(self._train, step),
            max_skipped=config.max_skipped if config.on_nonfinite == "skip" else None,
            say=self.say,
        )

    def _make_watchers(self, first_step: int) -> list[keras.callbacks.Callback]:
        """Returns those that tell others, and change nothing."""
        place, rate = self.trainer.place, self._examples_per_epoch / self.steps_per_epoch
        pulse = Pulse(
            self.stage,
            place.report,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
            examples_per_step=rate,
            is_tuning=lambda: self._tuner.is_searching,
        )
        if place.directory is None or not place.cluster.is_chief:
            return [pulse]
        board = TensorBoardWriter(
            place.directory / "tensorboard",
            self.stage,
            steps_per_epoch=self.steps_per_epoch,
            examples_per_step=rate,
            first_step=first_step,
            say=self.say,
        )
        return [pulse, board]

    def _make_bar(self, first_step: int) -> ProgressBar:
        return ProgressBar(
            self.stage,
            self._console,
            examples_per_step=self._examples_per_epoch / self.steps_per_epoch,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            epochs=self.epochs,
            first_step=first_step,
        )


class _CoordinatorValidation(Observer):
    """Measures the validation split in the process of the coordinator: `fit` with parameter servers does not."""

    def __init__(self, step: Step, validation: Pipeline) -> None:
        super().__init__()
        self._step = step
        self._batches = validation.in_order()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Adds its figures to those of the epoch, for the callbacks that follow."""
        assert logs is not None, "Keras gives the figures of an epoch"
        logs.update({f"val_{name}": value for name, value in self._step.evaluate(self._batches).items()})


class _Starter(Observer):
    """Counts steps from where the training goes on: Keras sets its counter to 0 when `fit` begins.

    After the first step it looks whether the model draws random numbers in a way that cannot be resumed.

    Args:
        step: Of the training.
        first_step: Where it goes on.
        is_exact: Whether the recipe asks for the same weights to the last bit.
        say: Takes a sentence for the log.
    """

    def __init__(self, step: Step, first_step: int, is_exact: bool, say: Callable[[str], None]) -> None:
        super().__init__()
        self._step = step
        self._first_step = first_step
        self._is_exact = is_exact
        self._say = say
        self._has_looked = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Sets the counter."""
        self._step.counter.assign(self._first_step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Looks at the traced step, once.

        Raises:
            ConfigError: The recipe asks for exactness, and the model cannot have it.
        """
        if self._has_looked:
            return
        self._has_looked = True
        kinds = find_stateful_draws(self._step.traced())
        if not kinds:
            return
        words = (
            f"the model draws random numbers by {', '.join(kinds)}, whose state no checkpoint can hold; use Keras' "
            "random layers, such as Dropout and GaussianNoise, or tf.random.stateless_uniform and its like"
        )
        if self._is_exact:
            raise ConfigError(
                f"train.deterministic is true, but {words}.",
                expected="stateless random numbers",
                received=", ".join(kinds),
            )
        self._say(f"note: {words}: a resumed run draws others")
