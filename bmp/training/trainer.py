"""The trainer: compiles a model under a strategy and fits it with `keras.Model.fit`, from wherever it was left."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from bmp.config import EarlyStoppingConfig, TrainConfig
from bmp.data import Dataset
from bmp.distribution.cluster import Cluster
from bmp.durations import Clock, read_duration
from bmp.errors import ConfigError
from bmp.objectives import OBJECTIVES
from bmp.training.class_weights import weigh_classes
from bmp.training.distillation import Distillation
from bmp.training.history import History
from bmp.training.schedules import Plateau
from bmp.training.stop import StopAgreement, StopRequest

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

    from bmp.data.pipeline import Pipeline
    from bmp.training.step import Step
    from bmp.training.teacher import Teacher


@dataclass(frozen=True)
class Place:
    """Where a training leaves its traces, and who takes part in it.

    Args:
        directory: Of the run; None keeps no checkpoints.
        cluster: This process and the others.
        report: Is told where the training is: phase, stage, steps done, steps to do, figures.
        stop: Whether the process was asked to stop.
    """

    directory: Path | None = None
    cluster: Cluster = field(default_factory=Cluster)
    report: Callable[[str, str, int, int, Mapping[str, float]], None] = lambda *_: None
    stop: StopRequest = field(default_factory=StopRequest)


class Trainer:
    """Fits models on one dataset under one strategy.

    Args:
        data: Its training split is fitted, its validation split measured after every epoch.
        strategy: Where the model's variables live.
        build_optimizer: An entry of OPTIMIZERS: learning rate, or schedule, and momentum of an average to optimizer.
        batch_size: Examples a step consumes, over all replicas.
        seed: Of the order of examples, of augmentation and of dropout.
        console: Where progress is shown.
        config: How steps are computed and kept; `epochs` and the learning rate are given to `fit`.
        place: Where checkpoints go.
    """

    def __init__(
        self,
        data: Dataset,
        strategy: "tf.distribute.Strategy",
        *,
        build_optimizer: Callable[..., "keras.optimizers.Optimizer"],
        batch_size: int,
        seed: int,
        console: Console,
        config: TrainConfig | None = None,
        place: Place | None = None,
    ) -> None:
        self.data = data
        self.strategy = strategy
        self.config = config or TrainConfig()
        self.place = place or Place()
        self.batch_size = min(batch_size, len(data.train))
        self.objective = OBJECTIVES[data.signature.objective]
        self.class_weights = weigh_classes(self.config.class_weights, data.target, _count_classes(data, self.config))
        self._build_optimizer = build_optimizer
        self._seed = seed
        self._console = console

    @property
    def steps_per_epoch(self) -> int:
        """Steps one pass over the training split takes."""
        return -(-len(self.data.train) // self.batch_size)

    @property
    def is_coordinated(self) -> bool:
        """Whether workers beside parameter servers read the examples, each for itself."""
        return bool(self.strategy._should_use_with_coordinator)

    def clock(self, epochs: int, steps_per_epoch: int | None = None) -> Clock:
        """Returns what durations of a training mean: an epoch is one pass, whatever lies between two validations."""
        return Clock(epochs * (steps_per_epoch or self.steps_per_epoch), self.steps_per_epoch)

    def fit(
        self,
        model: "keras.Model",
        *,
        epochs: int,
        learning_rate: Any,
        steps_per_epoch: int | None = None,
        stage: str = "train",
        callbacks: Sequence["keras.callbacks.Callback"] = (),
        average: float | None = None,
        early_stopping: EarlyStoppingConfig | None = None,
        exchanges: bool = False,
        teacher: "keras.Model | None" = None,
        distillation: Distillation | None = None,
    ) -> History:
        """Fits a model to the objective of the data, and returns its epochs.

        Where the run directory holds checkpoints of this stage, the training goes on from the newest sound one.

        Args:
            model: Built within the scope of the strategy.
            epochs: Validations, and the steps before each.
            learning_rate: A number, a schedule of Keras, or a `Plateau`.
            steps_per_epoch: By default one pass over the training split.
            stage: What is being done, as progress, history and checkpoints call it.
            callbacks: Further ones of Keras; those with `get_state` and `set_state` are resumed.
            average: Momentum of the moving average that the weights end as.
            early_stopping: When to end before the last epoch.
            exchanges: Whether layers of the model exchange values between replicas, as those of TF-MOT do: of several
                replicas none can then compute with XLA or in pieces.
            teacher: A trained model of the same signature, from whose answers the model learns as well as from the
                targets; its weights stay as they are. Validation measures the targets alone.
            distillation: What is learned from the teacher; by default `Distillation()`.

        Raises:
            ConfigError: The teacher does not fit.
            TrainingError: The loss is no longer a finite number.
            CheckpointError: The disk is full, or no checkpoint is sound.
            StoppedError: The process was asked to stop; a checkpoint is written.
            DataError: An example could not be read.
        """
        from bmp.training.fit import Fit

        rate = learning_rate.initial if isinstance(learning_rate, Plateau) else learning_rate
        self.compile(model, rate, average)
        fit = Fit(
            self,
            model,
            stage=stage,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch or self.steps_per_epoch,
            console=self._console,
            exchanges=exchanges,
            teacher=self._call_teacher(teacher, distillation, model),
        )
        if isinstance(learning_rate, Plateau):
            from bmp.training.plateau import PlateauSchedule

            fit.observe(PlateauSchedule(learning_rate))
        if early_stopping is not None:
            fit.observe(self._stop_early(early_stopping, fit))
        for callback in callbacks:
            fit.observe(callback)
        return fit.run()

    def compile(self, model: "keras.Model", learning_rate: Any, average: float | None = None) -> None:
        """Gives a model its optimizer, loss and metrics."""
        from bmp.training.precision import wrap_loss_scale

        with self.strategy.scope():
            optimizer = wrap_loss_scale(self._build_optimizer(learning_rate, average), _policy_of(model))
            model.compile(
                optimizer=optimizer,
                loss=self.objective.make_loss(),
                weighted_metrics=self.objective.make_metrics(),
                jit_compile=False,
            )

    def make_step(self, model: "keras.Model", *, whole: bool = False, teacher: "Teacher | None" = None) -> "Step":
        """Returns what one step of a compiled model does.

        Args:
            model: Compiled.
            whole: Whether a share is computed in one piece in any case.
            teacher: Whom the model learns from.
        """
        from bmp.training.own_step import OwnStep, check_own_step, has_own_step
        from bmp.training.step import Step, StepOptions

        smoothing = self.config.label_smoothing
        options = StepOptions(
            lambda targets, outputs: self.objective.example_losses(targets, outputs, smoothing),
            self.objective.example_losses,
            self.class_weights,
            1 if whole else self.config.accumulate,
            self.config.on_nonfinite == "skip",
            self._seed,
            self.data.signature.outputs[0].shape,
            teacher,
        )
        if has_own_step(model):
            check_own_step(model, self.config, has_teacher=teacher is not None)
            return OwnStep(model, self.strategy, options)
        return Step(model, self.strategy, options)

    def train_batches(self, pipeline: "Pipeline", first_step: int = 0, *, for_keras: bool = False) -> Any:
        """Returns endless training batches, each replica's share of every one of them on its own replica.

        Args:
            pipeline: Of the training split.
            first_step: Where to start.
            for_keras: Whether weights are to be those that a `train_step` of Keras expects.
        """
        from bmp.training.own_step import to_keras_weights

        replicas = self.strategy.num_replicas_in_sync

        def make(**share: int) -> "tf.data.Dataset":
            batches = pipeline.shuffled(self._seed, first_step=first_step, **share)
            return batches.map(to_keras_weights(replicas)) if for_keras and pipeline.weighs(replicas) else batches

        return self._distribute(make)

    def test_batches(self, pipeline: "Pipeline") -> Any:
        """Returns the batches of a split in order; for several replicas, again and again."""
        if self.strategy.num_replicas_in_sync == 1:
            return pipeline.in_order()
        return self._distribute(lambda **share: pipeline.in_order(**share).repeat())

    def examples_at(self, pipeline: "Pipeline", step: int) -> np.ndarray:
        """Returns the numbers in the source of the examples of a step, int64 `(B,)`."""
        return pipeline.numbers_at(self._seed, step)

    def agree_to_stop(self) -> StopAgreement:
        """Returns how the workers of this training stop at the same step."""
        cluster, directory = self.place.cluster, self.place.directory
        notes = directory / "control" if directory is not None and cluster.num_processes > 1 else None
        return StopAgreement(self.place.stop, notes, is_chief=cluster.is_chief, rank=cluster.rank)

    def _call_teacher(
        self, teacher: "keras.Model | None", distillation: Distillation | None, model: "keras.Model"
    ) -> "Teacher | None":
        from bmp.training.teacher import Teacher

        if teacher is None:
            if distillation is not None:
                raise ConfigError(
                    "A distillation needs a teacher: give a trained model, or leave the distillation out.",
                    expected="a teacher",
                    received="none",
                )
            return None
        how = distillation or Distillation()
        return Teacher(teacher, model, self.strategy, how, self.data.signature, self._seed)

    def _distribute(self, make: Callable[..., "tf.data.Dataset"]) -> Any:
        import tensorflow as tf

        replicas = self.strategy.num_replicas_in_sync
        if self.is_coordinated:
            import tf_keras as keras

            return keras.utils.experimental.DatasetCreator(lambda _: make())
        if replicas == 1:
            return make()

        def build(context: "tf.distribute.InputContext") -> "tf.data.Dataset":
            local = replicas // context.num_input_pipelines
            share = {"num_shares": replicas, "first_share": context.input_pipeline_id * local, "local_shares": local}
            # Of a dataset that may end, the replicas would ask each other at every step whether it has.
            return make(**share).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        return self.strategy.distribute_datasets_from_function(build)

    def _stop_early(self, config: EarlyStoppingConfig, fit: Any) -> "keras.callbacks.Callback":
        from bmp.training.callbacks import EarlyStopping

        metric = f"val_{self.objective.score}" if config.metric == "auto" else config.metric
        patience = max(1, math.ceil(fit.clock.to_steps(config.patience) / fit.steps_per_epoch))
        return EarlyStopping(metric, patience, config.min_change, fit.say)


def check_every(config: TrainConfig, num_processes: int) -> None:
    """Refuses intervals of time for several processes: each has a clock of its own.

    Raises:
        ConfigError: `train.checkpoint.every` is in seconds.
    """
    if num_processes > 1 and read_duration(config.checkpoint.every).unit == "seconds":
        raise ConfigError(
            f"train.checkpoint.every is '{config.checkpoint.every}', but {num_processes} processes take part, which "
            "have to write at the same step. Give it in steps, epochs or percent.",
            expected="steps, epochs or percent",
            received=config.checkpoint.every,
        )


def check_replicas(batch_size: int, replicas: int) -> None:
    """Refuses batches of which some replica would always have nothing.

    Raises:
        ConfigError: There are more replicas than examples in a batch.
    """
    if batch_size < replicas:
        raise ConfigError(
            f"A batch of {batch_size} cannot be dealt out to {replicas} replicas; raise data.batch_size, or choose "
            "distribution.strategy: one_device.",
            expected=f"at least {replicas}",
            received=str(batch_size),
        )


def _count_classes(data: Dataset, config: TrainConfig) -> np.ndarray:
    if config.class_weights is None or data.target.kind != "class":
        return np.zeros(0, np.int64)
    return np.bincount(np.asarray(data.train.targets()), minlength=len(data.labels))


def _policy_of(model: "keras.Model") -> str:
    """Returns the precision that layers of a model compute in, as Keras names it."""
    policies = {layer.dtype_policy.name for layer in model._flatten_layers() if hasattr(layer, "dtype_policy")}
    return next((name for name in sorted(policies) if name.startswith("mixed")), "float32")
