"""LAMB, which tf_keras has not; imported only when it is built."""

import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras


@keras.saving.register_keras_serializable("bmp")
class Lamb(keras.optimizers.Optimizer):
    """Adam whose step is scaled, layer by layer, to the norm of the weights: for batches of thousands.

    With m and v the bias-corrected means of gradients and of their squares, and x the weights of a layer:
    `r = m / (sqrt(v) + epsilon) + weight_decay * x`, and `x -= learning_rate * |x| / |r| * r`; the ratio is 1 where
    one of the norms is 0. What `exclude` names is neither decayed nor scaled, as in the authors' own experiments.

    Args:
        learning_rate: A number or a schedule of Keras.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
        epsilon: Keeps the quotient finite.
        weight_decay: Share of a weight that is added to its direction.
        exclude: Regular expressions, looked for in the names of variables.
        name: Of the optimizer.
        **kwargs: Clipping and averaging, as every optimizer of Keras takes them.

    Reference:
        You et al.: Large batch optimization for deep learning: training BERT in 76 minutes, 2020, algorithm 2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        exclude: Sequence[str] = (),
        name: str = "Lamb",
        **kwargs: Any,
    ) -> None:
        # Keras would decay the weights beside the step; here the decay is part of it.
        super().__init__(name=name, weight_decay=None, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.decay = weight_decay
        self.exclude = list(exclude)

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Makes the two means of each variable."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._means = [self.add_variable_from_reference(variable, "m") for variable in var_list]
        self._squares = [self.add_variable_from_reference(variable, "v") for variable in var_list]
        self._built = True

    def update_step(self, gradient: Any, variable: tf.Variable) -> None:
        """Moves one variable."""
        if isinstance(gradient, tf.IndexedSlices):  # the norm needs the whole of it
            gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, variable.shape[0])
        direction = self._move_means(gradient, variable)
        rate = tf.cast(self.learning_rate, variable.dtype)
        if self._is_excluded(variable):
            variable.assign_sub(rate * direction)
            return
        direction += self.decay * variable
        variable.assign_sub(rate * _ratio(tf.norm(variable), tf.norm(direction)) * direction)

    def _move_means(self, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
        """Returns Adam's direction after this gradient."""
        index = self._index_dict[self._var_key(variable)]
        mean, square = self._means[index], self._squares[index]
        mean.assign_add((gradient - mean) * (1 - self.beta_1))
        square.assign_add((tf.square(gradient) - square) * (1 - self.beta_2))
        step = tf.cast(self.iterations + 1, variable.dtype)
        of_mean = 1 - tf.pow(tf.cast(self.beta_1, variable.dtype), step)
        of_square = 1 - tf.pow(tf.cast(self.beta_2, variable.dtype), step)
        return mean / of_mean / (tf.sqrt(square / of_square) + self.epsilon)

    def _is_excluded(self, variable: tf.Variable) -> bool:
        return any(re.search(pattern, variable.name) for pattern in self.exclude)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return super().get_config() | {
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "weight_decay": self.decay,
            "exclude": self.exclude,
        }


def _ratio(weights: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """Returns the quotient of two norms, or 1 where one of them is 0."""
    both = tf.logical_and(weights > 0, direction > 0)
    return tf.where(both, weights / tf.where(both, direction, 1.0), 1.0)
