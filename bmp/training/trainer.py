"""The trainer: compiles a model under a strategy and fits it with `keras.Model.fit`."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from bmp.data import Dataset
from bmp.training.history import History

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras


class Trainer:
    """Fits models on one dataset under one strategy.

    Args:
        data: Its training split is fitted, its validation split measured after every epoch.
        strategy: Where the model's variables live.
        build_optimizer: An entry of OPTIMIZERS: learning rate to optimizer.
        batch_size: Examples a step consumes, over all replicas.
        seed: Of the order of examples.
        console: Where progress is shown.
    """

    def __init__(
        self,
        data: Dataset,
        strategy: "tf.distribute.Strategy",
        *,
        build_optimizer: Callable[[float], "keras.optimizers.Optimizer"],
        batch_size: int,
        seed: int,
        console: Console,
    ) -> None:
        self.data = data
        self.strategy = strategy
        self.batch_size = batch_size
        self._build_optimizer = build_optimizer
        self._seed = seed
        self._console = console

    @property
    def steps_per_epoch(self) -> int:
        """Steps one pass over the training split takes."""
        return math.ceil(len(self.data.train) / self.batch_size)

    def fit(
        self,
        model: "keras.Model",
        *,
        epochs: int,
        learning_rate: float,
        stage: str = "train",
        callbacks: Sequence["keras.callbacks.Callback"] = (),
    ) -> History:
        """Fits a classifier whose output is a probability for each class, and returns its epochs.

        Raises:
            TrainingError: The loss is no longer a finite number.
        """
        from bmp.data.pipeline import build_batches
        from bmp.training.callbacks import ProgressBar, Recorder

        with self.strategy.scope():
            model.compile(
                optimizer=self._build_optimizer(learning_rate),
                loss="sparse_categorical_crossentropy",
                metrics=["accuracy"],
            )
        bar = ProgressBar(stage, len(self.data.train), self.batch_size, self._console)
        recorder = Recorder(stage)
        try:
            model.fit(
                build_batches(self.data.train, self.batch_size, shuffle_seed=self._seed),
                validation_data=build_batches(self.data.validation, self.batch_size),
                epochs=epochs,
                callbacks=[*callbacks, recorder, bar],
                verbose=0,
            )
        finally:
            bar.close()
        return recorder.history
