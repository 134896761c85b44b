"""The step of a model that brings a `train_step` of its own: Keras runs it, bmp gives it exact data and randomness."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras as keras

from bmp.config import TrainConfig
from bmp.errors import ConfigError
from bmp.training.step import Step, StepOptions


def has_own_step(model: keras.Model) -> bool:
    """Returns whether the class of a model overrides `train_step`."""
    return type(model).train_step is not keras.Model.train_step


def check_own_step(model: keras.Model, config: TrainConfig, *, has_teacher: bool = False) -> None:
    """Refuses what only bmp's step can do.

    Raises:
        ConfigError: The recipe asks for it, or there is a teacher.
    """
    if has_teacher:
        raise ConfigError(
            f"The model '{model.name}' has a train_step of its own, which alone knows its loss: it cannot learn from a "
            "teacher. Leave the distillation out, and do it in the model.",
            expected="a model without a train_step of its own",
            received=type(model).__name__,
        )
    asked = {
        "accumulate": config.accumulate > 1,
        "label_smoothing": config.label_smoothing > 0,
        "class_weights": config.class_weights is not None,
        "on_nonfinite": config.on_nonfinite == "skip",
    }
    for key, is_asked in asked.items():
        if is_asked:
            raise ConfigError(
                f"The model '{model.name}' has a train_step of its own, which alone knows its loss and gradient: "
                f"train.{key} cannot be done for it. Leave it out of the recipe, and do it in the model.",
                expected=f"no train.{key}",
                received=str(getattr(config, key)),
            )


class OwnStep(Step):
    """Runs the model's own `train_step`, its random layers drawing by step.

    Args:
        model: Compiled, within the scope of the strategy.
        strategy: Where its variables live.
        options: Of which only the seed and the losses of validation count.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy, options: StepOptions) -> None:
        super().__init__(model, strategy, options)
        own = type(model).train_step.__get__(model)  # not that of an earlier training

        def train_step(data: Any) -> Any:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            self.randomness.restart()
            with self.randomness.draws.of_step(self.counter, tf.cast(replica, tf.int32)):
                return own(data)

        model.train_step = train_step

    def make_train_function(self, *, jit: bool) -> Callable[[Any], Any]:
        """Returns what Keras makes of the model's own step."""
        self.model.jit_compile = jit
        self.model.train_function = None
        function = self.model.make_train_function(force=True)
        self._traced = [self.model.train_tf_function]
        return function


def to_keras_weights(replicas: int) -> Callable[..., tuple[Any, ...]]:
    """Returns what turns the weights of a batch, shares of the global mean, into `sample_weight` as Keras means it."""

    def scale(inputs: Any, targets: tf.Tensor, weights: tf.Tensor) -> tuple[Any, ...]:
        return inputs, targets, weights * tf.cast(tf.shape(weights)[0] * replicas, tf.float32)

    return scale
