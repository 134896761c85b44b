"""The trainer: compiles a model under a strategy and fits it with `keras.Model.fit`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bmp.data import Dataset
from bmp.objectives import OBJECTIVES
from bmp.training.history import History

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

    from bmp.data.pipeline import Pipeline


class Trainer:
    """Fits models on one dataset under one strategy.

    Args:
        data: Its training split is fitted, its validation split measured after every epoch.
        strategy: Where the model's variables live.
        build_optimizer: An entry of OPTIMIZERS: learning rate, or schedule, to optimizer.
        batch_size: Examples a step consumes, over all replicas.
        seed: Of the order of examples, and of augmentation.
        console: Where progress is shown.
        jit_compile: Whether XLA compiles the step.
    """

    def __init__(
        self,
        data: Dataset,
        strategy: "tf.distribute.Strategy",
        *,
        build_optimizer: Callable[[Any], "keras.optimizers.Optimizer"],
        batch_size: int,
        seed: int,
        console: Console,
        jit_compile: bool = False,
    ) -> None:
        self.data = data
        self.strategy = strategy
        self.batch_size = min(batch_size, len(data.train))
        self.objective = OBJECTIVES[data.signature.objective]
        self._build_optimizer = build_optimizer
        self._seed = seed
        self._console = console
        self._jit_compile = jit_compile

    @property
    def steps_per_epoch(self) -> int:
        """Steps one pass over the training split takes."""
        return -(-len(self.data.train) // self.batch_size)

    def fit(
        self,
        model: "keras.Model",
        *,
        epochs: int,
        learning_rate: Any,
        steps_per_epoch: int | None = None,
        stage: str = "train",
        callbacks: Sequence["keras.callbacks.Callback"] = (),
    ) -> History:
        """Fits a model to the objective of the data, and returns its epochs.

        Args:
            model: Built within the scope of the strategy.
            epochs: Validations, and the steps before each.
            learning_rate: A number or a schedule of Keras.
            steps_per_epoch: By default one pass over the training split.
            stage: What is being done, as progress and history call it.
            callbacks: Further ones of Keras.

        Raises:
            TrainingError: The loss is no longer a finite number.
            DataError: An example could not be read.
        """
        from bmp.data.pipeline import Pipeline
        from bmp.training.callbacks import ProgressBar, Recorder

        with self.strategy.scope():
            model.compile(
                optimizer=self._build_optimizer(learning_rate),
                loss=self.objective.make_loss(),
                metrics=self.objective.make_metrics(),
                jit_compile=self._jit_compile,
            )
        steps = steps_per_epoch or self.steps_per_epoch
        train, validation = Pipeline(self.data.train, self.batch_size), Pipeline(self.data.validation, self.batch_size)
        seen = len(self.data.train) if steps_per_epoch is None else steps * self.batch_size
        bar, recorder = ProgressBar(stage, seen, steps, self._console), Recorder(stage)
        try:
            with train.naming_failures(), validation.naming_failures():
                model.fit(
                    self._distribute(train),
                    steps_per_epoch=steps,
                    validation_data=validation.in_order(),
                    epochs=epochs,
                    callbacks=[*callbacks, recorder, bar],
                    verbose=0,
                )
        finally:
            bar.close()
        return recorder.history

    def _distribute(self, pipeline: "Pipeline") -> Any:
        """Returns the training batches, each replica's share of every one of them on its own replica."""
        replicas = self.strategy.num_replicas_in_sync
        if replicas == 1:
            return pipeline.shuffled(self._seed)

        def build(context: "tf.distribute.InputContext") -> "tf.data.Dataset":
            local = replicas // context.num_input_pipelines
            return pipeline.shuffled(
                self._seed,
                num_shares=replicas,
                first_share=context.input_pipeline_id * local,
                local_shares=local,
            )

        return self.strategy.distribute_datasets_from_function(build)
