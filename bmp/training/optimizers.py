"""Builders of optimizers.

Every entry is called with `(learning_rate, ema_momentum=None)`, a rate or a schedule of Keras and the momentum of a
moving average of the weights, and takes the same arguments for clipping: `_optimizer` adds them.
"""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from bmp.errors import ConfigError

if TYPE_CHECKING:
    import tf_keras as keras

Decay = Annotated[float, Field(ge=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]

NOT_DECAYED = r"(^|/)(bias|gamma|beta)(/replica_\d+)?(:\d+)?$"
"""Names of biases, gains and offsets, also those of a replica's copy: they shift and scale, and do not overfit."""

Settings = dict[str, Any]
"""What every optimizer of Keras takes by name: the rate, the average of the weights, clipping."""


def _optimizer(build: "Callable[..., keras.optimizers.Optimizer]") -> "Callable[..., keras.optimizers.Optimizer]":
    """Turns `build(settings, /, *, …)` into an entry that takes the house's arguments and those of clipping."""

    @functools.wraps(build, assigned=("__module__", "__name__", "__qualname__", "__doc__"))  # its own annotations
    def build_with_settings(
        learning_rate: Any,
        ema_momentum: float | None = None,
        /,
        *,
        global_clipnorm: Positive | None = None,
        clipnorm: Positive | None = None,
        clipvalue: Positive | None = None,
        **args: Any,
    ) -> "keras.optimizers.Optimizer":
        clipping = {"global_clipnorm": global_clipnorm, "clipnorm": clipnorm, "clipvalue": clipvalue}
        return _clip_sums(build(_to_settings(learning_rate, ema_momentum, clipping), **args))

    build_with_settings.__signature__ = _join_signatures(build_with_settings, build)  # type: ignore[attr-defined]
    return build_with_settings


def _to_settings(learning_rate: Any, ema_momentum: float | None, clipping: dict[str, float | None]) -> Settings:
    given = {name: limit for name, limit in clipping.items() if limit is not None}
    if len(given) > 1:
        raise ConfigError(
            f"The optimizer is given {' and '.join(given)}; it clips in one way. global_clipnorm limits the norm of "
            "all gradients together, clipnorm that of each, clipvalue each number: keep one of them.",
            expected="at most one of global_clipnorm, clipnorm, clipvalue",
            received=", ".join(given),
        )
    # RMSprop would overwrite the weights every 100 steps; the average is what they end as, not what they go on from.
    average = {"use_ema": True, "ema_momentum": ema_momentum} if ema_momentum is not None else {}
    return {"learning_rate": learning_rate, "ema_overwrite_frequency": None, **average, **given}


def _clip_sums(optimizer: "keras.optimizers.Optimizer") -> "keras.optimizers.Optimizer":
    """Lets an optimizer sum up the pieces of an embedding's gradient before it clips; Keras clips each piece.

    A row that is looked up three times has three pieces: their norms together are not the norm of their sum.
    """
    clip = optimizer._clip_gradients
    optimizer._clip_gradients = lambda gradients: clip(optimizer._deduplicate_sparse_grad(gradients))
    return optimizer


def _join_signatures(outer: Callable[..., Any], inner: Callable[..., Any]) -> inspect.Signature:
    """Returns the parameters of both, but for what only hands them on."""
    ours = inspect.signature(outer, follow_wrapped=False)
    own = [one for one in inspect.signature(inner).parameters.values() if one.kind is one.KEYWORD_ONLY]
    common = [one for one in ours.parameters.values() if one.kind is not one.VAR_KEYWORD]
    return ours.replace(parameters=sorted([*common, *own], key=lambda one: one.kind))


@_optimizer
def build_sgd(
    settings: Settings,
    /,
    *,
    momentum: Decay = 0.9,
    nesterov: bool = True,
    weight_decay: NotNegative = 0.0,
) -> "keras.optimizers.Optimizer":
    """Stochastic gradient descent, by default with Nesterov momentum 0.9.

    Args:
        settings: Of every optimizer.
        momentum: Share of the last update that is kept; 0 is plain descent.
        nesterov: Whether the gradient is looked at ahead of the momentum.
        weight_decay: Share of a weight, times the learning rate, taken off at each step.
    """
    import tf_keras as keras

    return _decay(keras.optimizers.SGD(**settings, momentum=momentum, nesterov=nesterov), weight_decay)


@_optimizer
def build_adam(settings: Settings, /, *, beta_1: Decay = 0.9, beta_2: Decay = 0.999) -> "keras.optimizers.Optimizer":
    """Adam (Kingma and Ba, 2015).

    Args:
        settings: Of every optimizer.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
    """
    import tf_keras as keras

    return keras.optimizers.Adam(**settings, beta_1=beta_1, beta_2=beta_2)


@_optimizer
def build_adamw(
    settings: Settings,
    /,
    *,
    weight_decay: NotNegative = 0.01,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
) -> "keras.optimizers.Optimizer":
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019); biases, gains and offsets do not decay.

    Args:
        settings: Of every optimizer.
        weight_decay: Share of a weight, times the learning rate, taken off at each step.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
    """
    import tf_keras as keras

    return _decay(keras.optimizers.AdamW(**settings, beta_1=beta_1, beta_2=beta_2), weight_decay)


@_optimizer
def build_adamax(settings: Settings, /, *, beta_1: Decay = 0.9, beta_2: Decay = 0.999) -> "keras.optimizers.Optimizer":
    """Adam with the largest gradient in place of the mean square (Kingma and Ba, 2015, section 7.1).

    Args:
        settings: Of every optimizer.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the largest gradient.
    """
    import tf_keras as keras

    return keras.optimizers.Adamax(**settings, beta_1=beta_1, beta_2=beta_2)


@_optimizer
def build_lion(
    settings: Settings,
    /,
    *,
    weight_decay: NotNegative = 0.0,
    beta_1: Annotated[float, Field(gt=0, le=1)] = 0.9,
    beta_2: Decay = 0.99,
) -> "keras.optimizers.Optimizer":
    """The sign of a mean of gradients (Chen et al.: Symbolic discovery of optimization algorithms, 2023).

    It wants a learning rate 3 to 10 times smaller than Adam's, and a weight decay as much larger.

    Args:
        settings: Of every optimizer.
        weight_decay: Share of a weight, times the learning rate, taken off at each step.
        beta_1: Share of the mean in what the sign is taken of.
        beta_2: Decay of the mean of gradients.
    """
    import tf_keras as keras

    return _decay(keras.optimizers.Lion(**settings, beta_1=beta_1, beta_2=beta_2), weight_decay)


@_optimizer
def build_lamb(
    settings: Settings,
    /,
    *,
    weight_decay: NotNegative = 0.01,
    beta_1: Decay = 0.9,
    beta_2: Decay = 0.999,
) -> "keras.optimizers.Optimizer":
    """Adam with steps in proportion to each layer's weights, for large batches (You et al., 2020).

    Biases, gains and offsets are neither decayed nor scaled.

    Args:
        settings: Of every optimizer.
        weight_decay: Share of a weight that is added to its direction.
        beta_1: Decay of the mean of gradients.
        beta_2: Decay of the mean of squared gradients.
    """
    from bmp.training.lamb import Lamb

    return Lamb(**settings, beta_1=beta_1, beta_2=beta_2, weight_decay=weight_decay, exclude=[NOT_DECAYED])


@_optimizer
def build_rmsprop(
    settings: Settings, /, *, rho: Decay = 0.9, momentum: Decay = 0.0, centered: bool = False
) -> "keras.optimizers.Optimizer":
    """RMSprop (Hinton, 2012).

    Args:
        settings: Of every optimizer.
        rho: Decay of the mean of squared gradients.
        momentum: Share of the last update that is kept.
        centered: Whether gradients are measured by their variance, in place of their mean square.
    """
    import tf_keras as keras

    return keras.optimizers.RMSprop(**settings, rho=rho, momentum=momentum, centered=centered)


@_optimizer
def build_adagrad(settings: Settings, /, *, initial_accumulator: NotNegative = 0.1) -> "keras.optimizers.Optimizer":
    """Adagrad (Duchi, Hazan and Singer, 2011): rates that fall with the sum of squared gradients.

    Args:
        settings: Of every optimizer.
        initial_accumulator: What the sum starts from.
    """
    import tf_keras as keras

    return keras.optimizers.Adagrad(**settings, initial_accumulator_value=initial_accumulator)


@_optimizer
def build_adafactor(settings: Settings, /, *, clip_threshold: Positive = 1.0) -> "keras.optimizers.Optimizer":
    """Adafactor (Shazeer and Stern, 2018): of the mean squares of a matrix only those of rows and columns are kept.

    The learning rate is relative to the size of the weights, and at most 1 / sqrt(step).

    Args:
        settings: Of every optimizer.
        clip_threshold: Largest root mean square of an update before it is scaled by the rate.
    """
    import tf_keras as keras

    return keras.optimizers.Adafactor(**settings, clip_threshold=clip_threshold)


def _decay(optimizer: "keras.optimizers.Optimizer", weight_decay: float) -> "keras.optimizers.Optimizer":
    """Sets the decoupled weight decay of all but biases, gains and offsets."""
    optimizer.weight_decay = weight_decay or None
    optimizer.exclude_from_weight_decay(var_names=[NOT_DECAYED])
    return optimizer
