"""The warm-up of every schedule; imported only when one is built."""

from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("bmp")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A line from zero to a peak, then another schedule, which counts from the end of the line.

    Args:
        after: A schedule of Keras, or a rate that stays.
        steps: Of the line, at least one.
        peak: The rate at its end.

    Reference:
        Goyal et al.: Accurate, large minibatch SGD, 2017, section 2.2.
    """

    def __init__(self, after: Any, steps: int, peak: float) -> None:
        super().__init__()
        self.after, self.steps, self.peak = after, steps, peak

    def __call__(self, step: Any) -> tf.Tensor:
        """Returns the rate after `step` steps, float32 `()`."""
        step = tf.convert_to_tensor(step)
        rising = self.peak * tf.cast(step, tf.float32) / self.steps
        rest = tf.maximum(step - tf.cast(self.steps, step.dtype), 0)
        after = self.after(rest) if callable(self.after) else tf.constant(self.after, tf.float32)
        return tf.where(step < tf.cast(self.steps, step.dtype), rising, tf.cast(after, tf.float32))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        after = self.after
        after = keras.optimizers.schedules.serialize(after) if callable(after) else after
        return {"after": after, "steps": self.steps, "peak": self.peak}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        """Returns what `get_config` describes."""
        after = config["after"]
        after = keras.optimizers.schedules.deserialize(after) if isinstance(after, dict) else after
        return cls(**(config | {"after": after}))
