"""Builders of optimizers, each for a learning rate or a schedule of it."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

if TYPE_CHECKING:
    import tf_keras as keras

Decay = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def build_adam(
    learning_rate: Any,
    /,
    *,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    global_clipnorm: Positive | None = None,
) -> "keras.optimizers.Optimizer":
    """Adam (Kingma and Ba, 2015).

    Args:
        learning_rate: A number or a schedule of Keras.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
        global_clipnorm: Largest norm of all gradients together; longer ones are scaled down.
    """
    import tf_keras as keras

    return keras.optimizers.Adam(learning_rate, beta_1, beta_2, global_clipnorm=global_clipnorm)


def build_adamw(
    learning_rate: Any,
    /,
    *,
    weight_decay: Annotated[float, Field(ge=0)] = 0.01,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
    global_clipnorm: Positive | None = None,
) -> "keras.optimizers.Optimizer":
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); biases, gains and offsets do not decay.

    Args:
        learning_rate: A number or a schedule of Keras.
        weight_decay: Share of a weight, times the learning rate, taken off at each step.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
        global_clipnorm: Largest norm of all gradients together; longer ones are scaled down.
    """
    import tf_keras as keras

    optimizer = keras.optimizers.AdamW(
        learning_rate, weight_decay=weight_decay, beta_1=beta_1, beta_2=beta_2, global_clipnorm=global_clipnorm
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def build_rmsprop(learning_rate: Any, /) -> "keras.optimizers.Optimizer":
    """RMSprop (Hinton, 2012)."""
    import tf_keras as keras

    return keras.optimizers.RMSprop(learning_rate)


def build_sgd(learning_rate: Any, /, *, momentum: Decay = 0.9, nesterov: bool = True) -> "keras.optimizers.Optimizer":
    """Stochastic gradient descent, by default with Nesterov momentum 0.9.

    Args:
        learning_rate: A number or a schedule of Keras.
        momentum: Share of the last update that is kept; 0 is plain descent.
        nesterov: Whether the gradient is looked at ahead of the momentum.
    """
    import tf_keras as keras

    return keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov)
