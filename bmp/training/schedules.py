"""Builders of learning-rate schedules, each for a peak rate and the steps of the whole training."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeInt

from bmp.errors import ConfigError

if TYPE_CHECKING:
    import tf_keras as keras


def build_constant(learning_rate: float, total_steps: int, /) -> float:
    """The same rate at every step."""
    return learning_rate


def build_cosine(
    learning_rate: float,
    total_steps: int,
    /,
    *,
    final: Annotated[float, Field(ge=0)] = 0.0,
    warmup_steps: NonNegativeInt = 0,
) -> "keras.optimizers.schedules.LearningRateSchedule":
    """Half a cosine from the rate down to `final`, after a linear warm-up from zero.

    Args:
        learning_rate: The highest rate.
        total_steps: Of the training, warm-up included.
        final: The rate at the last step.
        warmup_steps: Steps of the warm-up.

    Raises:
        ConfigError: The warm-up is longer than the training, or the final rate is over the highest.

    Reference:
        Loshchilov and Hutter: SGDR, 2017, equation 5, without restarts.
    """
    import tf_keras as keras

    if warmup_steps >= total_steps or final > learning_rate:
        raise ConfigError(
            f"The schedule 'cosine' warms up for {warmup_steps} of {total_steps} steps and goes from {learning_rate:g} "
            f"to {final:g}; expected a warm-up shorter than the training, and a final rate of at most the learning "
            "rate.",
            expected=f"warmup_steps below {total_steps}, final at most {learning_rate:g}",
            received=f"{warmup_steps}, {final:g}",
        )
    warmup = {"warmup_target": learning_rate, "warmup_steps": warmup_steps} if warmup_steps else {}
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup_steps else learning_rate, total_steps - warmup_steps, alpha=final / learning_rate, **warmup
    )
