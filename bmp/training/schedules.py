"""Builders of learning-rate schedules, each for the highest rate and the clock of one training.

A schedule is a number, or a function of the steps taken so far and of nothing else, so that a resumed run goes on
with the right rate; `plateau` alone depends on validations. Durations are texts such as `5 epochs` or `10 percent`.
Every schedule but `plateau` takes `warmup`, from zero up in a line; its own course begins after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field, NonNegativeInt

from bmp.config import Duration
from bmp.durations import Clock
from bmp.errors import ConfigError

if TYPE_CHECKING:
    import tf_keras as keras

    Schedule: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule

Rate = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Plateau:
    """A rate that is lowered whenever validation no longer gets better; `PlateauSchedule` does it.

    Args:
        initial: The rate to begin with.
        factor: What the rate is multiplied by.
        patience_steps: Steps without a better validation after which it is.
        minimum: The rate goes no lower.
        metric: Of the validation split.
    """

    initial: float
    factor: float
    patience_steps: int
    minimum: float
    metric: str


def build_constant(learning_rate: float, clock: Clock, /, *, warmup: Duration = "0 steps") -> "Schedule":
    """The same rate at every step.

    Args:
        learning_rate: The rate.
        clock: Of the training.
        warmup: How long the rate takes to rise from zero.

    Raises:
        ConfigError: The warm-up is no duration in steps, or not shorter than the training.
    """
    return _warm_up(learning_rate, _read_warmup(warmup, clock), learning_rate)


def build_step(
    learning_rate: float,
    clock: Clock,
    /,
    *,
    factor: Factor = 0.1,
    every: Duration | None = None,
    at: Annotated[list[Duration], Field(min_length=1)] | None = None,
    warmup: Duration = "0 steps",
) -> "Schedule":
    """The rate falls by a factor, again and again: after every so many steps, or at certain moments.

    Args:
        learning_rate: The highest rate.
        clock: Of the training.
        factor: What the rate is multiplied by.
        every: How much lies between two falls; the first comes so long after the warm-up.
        at: Moments of the falls, counted from the beginning of the training.
        warmup: How long the rate takes to rise from zero.

    Raises:
        ConfigError: Neither or both of `every` and `at` are given, moments do not rise or lie within the warm-up.
    """
    import tf_keras as keras

    if (every is None) == (at is None):
        raise ConfigError(
            "The schedule 'step' needs either train.schedule_args.every, such as '10 epochs', or "
            "train.schedule_args.at, such as ['50 percent', '75 percent'].",
            expected="every or at",
            received="neither" if every is None else "both",
        )
    start = _read_warmup(warmup, clock)
    if every is not None:
        return _warm_up(_fall(learning_rate, _to_steps("every", every, clock, least=1), factor), start, learning_rate)
    moments = [_to_steps("at", moment, clock) for moment in at or ()]
    _check_rising(moments, start)
    # Keras changes the rate one step after a boundary.
    boundaries = [moment - start - 1 for moment in moments]
    rates = [learning_rate * factor**falls for falls in range(len(moments) + 1)]
    return _warm_up(keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates), start, learning_rate)


def build_exponential(
    learning_rate: float,
    clock: Clock,
    /,
    *,
    rate: Factor,
    every: Duration = "1 epoch",
    staircase: bool = False,
    warmup: Duration = "0 steps",
) -> "Schedule":
    """The rate is multiplied by `rate` over each `every`, all the time or at the end of it.

    Args:
        learning_rate: The highest rate.
        clock: Of the training.
        rate: What the rate is multiplied by.
        every: In which time.
        staircase: Whether it falls in steps.
        warmup: How long the rate takes to rise from zero.

    Raises:
        ConfigError: A duration is none in steps, or the warm-up is not shorter than the training.
    """
    steps = _to_steps("every", every, clock, least=1)
    return _warm_up(_fall(learning_rate, steps, rate, staircase), _read_warmup(warmup, clock), learning_rate)


def build_cosine(
    learning_rate: float,
    clock: Clock,
    /,
    *,
    final: Rate = 0.0,
    warmup: Duration | None = None,
    warmup_steps: NonNegativeInt | None = None,
) -> "Schedule":
    """Half a cosine from the rate down to `final`, at the last step of the training.

    Args:
        learning_rate: The highest rate.
        clock: Of the training.
        final: The rate at the last step.
        warmup: How long the rate takes to rise from zero.
        warmup_steps: The same as a number of steps.

    Raises:
        ConfigError: The warm-up is given twice, or not shorter than the training; the final rate is over the highest.

    Reference:
        Loshchilov and Hutter: SGDR, 2017, equation 5, without restarts.
    """
    import tf_keras as keras

    if warmup is not None and warmup_steps is not None:
        raise ConfigError(
            f"The schedule 'cosine' is given warmup: {warmup} and warmup_steps: {warmup_steps}; keep one of them.",
            expected="warmup or warmup_steps",
            received="both",
        )
    start = _read_warmup(warmup or f"{warmup_steps or 0} steps", clock)
    _check_final("cosine", final, learning_rate)
    down = keras.optimizers.schedules.CosineDecay(learning_rate, clock.total_steps - start, alpha=final / learning_rate)
    return _warm_up(down, start, learning_rate)


def build_linear(
    learning_rate: float, clock: Clock, /, *, final: Rate = 0.0, warmup: Duration = "0 steps"
) -> "Schedule":
    """A line from the rate down to `final`, at the last step of the training.

    Args:
        learning_rate: The highest rate.
        clock: Of the training.
        final: The rate at the last step.
        warmup: How long the rate takes to rise from zero.

    Raises:
        ConfigError: The warm-up is not shorter than the training, or the final rate is over the highest.
    """
    import tf_keras as keras

    start = _read_warmup(warmup, clock)
    _check_final("linear", final, learning_rate)
    down = keras.optimizers.schedules.PolynomialDecay(learning_rate, clock.total_steps - start, final, power=1.0)
    return _warm_up(down, start, learning_rate)


def build_plateau(
    learning_rate: float,
    clock: Clock,
    /,
    *,
    factor: Factor = 0.1,
    patience: Duration = "5 epochs",
    minimum: Rate = 0.0,
    metric: str = "val_loss",
) -> Plateau:
    """The rate falls by a factor whenever validation has not got better for some time.

    Args:
        learning_rate: The rate to begin with.
        clock: Of the training.
        factor: What the rate is multiplied by.
        patience: How long it stays without a better validation.
        minimum: The rate goes no lower.
        metric: Of the validation split; a loss or an error is better when it is less, any other when it is more.

    Raises:
        ConfigError: The patience is no duration in steps, the least rate is over the first, or the metric is not one
            of the validation split.
    """
    if not metric.startswith("val_"):
        raise ConfigError(
            f"The schedule 'plateau' looks at the validation split, but train.schedule_args.metric is '{metric}'; "
            f"name a metric of it, such as 'val_{metric}'.",
            expected="a name that begins with val_",
            received=metric,
        )
    if minimum > learning_rate:
        raise ConfigError(
            f"The schedule 'plateau' lowers the learning rate, {learning_rate:g}, to no less than "
            f"train.schedule_args.minimum, {minimum:g}; expected a minimum of at most the learning rate.",
            expected=f"at most {learning_rate:g}",
            received=f"{minimum:g}",
        )
    return Plateau(learning_rate, factor, _to_steps("patience", patience, clock, least=1), minimum, metric)


def _fall(learning_rate: float, steps: int, factor: float, staircase: bool = True) -> "Schedule":
    import tf_keras as keras

    return keras.optimizers.schedules.ExponentialDecay(learning_rate, steps, factor, staircase)


def _warm_up(after: "Schedule", steps: int, peak: float) -> "Schedule":
    """Returns a schedule that rises to the peak first; the same one where there are no steps for it."""
    if not steps:
        return after
    from bmp.training.warmup import WarmUp

    return WarmUp(after, steps, peak)


def _read_warmup(text: str, clock: Clock) -> int:
    """Returns the steps of a warm-up."""
    steps = _to_steps("warmup", text, clock)
    if steps and steps >= clock.total_steps:
        raise ConfigError(
            f"The warm-up takes {steps} steps of a training of {clock.total_steps}; expected a warm-up shorter than "
            "the training.",
            expected=f"less than {clock.total_steps} steps",
            received=f"{steps} steps",
        )
    return steps


def _to_steps(name: str, text: str, clock: Clock, least: int = 0) -> int:
    """Returns the steps of a duration, and names the argument where it has none."""
    try:
        steps = clock.to_steps(text)
    except ConfigError as error:
        raise ConfigError(
            f"train.schedule_args.{name}: {error.message}", expected=error.expected, received=error.received
        ) from error
    if steps < least:
        raise ConfigError(
            f"train.schedule_args.{name} is '{text}'; expected at least one step.",
            expected="at least one step",
            received=text,
        )
    return steps


def _check_rising(moments: Sequence[int], start: int) -> None:
    if any(later <= earlier for earlier, later in zip([start, *moments], moments, strict=False)):
        raise ConfigError(
            f"train.schedule_args.at names the steps {', '.join(map(str, moments))}, and the warm-up ends at step "
            f"{start}; expected moments after it, each later than the one before.",
            expected="rising moments after the warm-up",
            received=", ".join(map(str, moments)),
        )


def _check_final(name: str, final: float, learning_rate: float) -> None:
    if final > learning_rate:
        raise ConfigError(
            f"The schedule '{name}' goes from {learning_rate:g} down to {final:g}; expected a final rate of at most "
            "the learning rate.",
            expected=f"final at most {learning_rate:g}",
            received=f"{final:g}",
        )
