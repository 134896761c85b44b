"""Builders of optimizers, each for a learning rate."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tf_keras as keras


def build_adam(learning_rate: float, /) -> "keras.optimizers.Optimizer":
    """Adam (Kingma and Ba, 2015)."""
    import tf_keras as keras

    return keras.optimizers.Adam(learning_rate)


def build_rmsprop(learning_rate: float, /) -> "keras.optimizers.Optimizer":
    """RMSprop (Hinton, 2012)."""
    import tf_keras as keras

    return keras.optimizers.RMSprop(learning_rate)


def build_sgd(learning_rate: float, /) -> "keras.optimizers.Optimizer":
    """Stochastic gradient descent with Nesterov momentum 0.9."""
    import tf_keras as keras

    return keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True)
