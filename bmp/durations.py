"""Durations as people write them: `3 epochs`, `500 steps`, `10 percent`, `30 seconds`."""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from bmp.errors import ConfigError, suggest

Unit = Literal["steps", "epochs", "percent", "seconds"]

_UNITS: dict[str, tuple[Unit, int]] = {
    "step": ("steps", 1),
    "steps": ("steps", 1),
    "epoch": ("epochs", 1),
    "epochs": ("epochs", 1),
    "percent": ("percent", 1),
    "%": ("percent", 1),
    "second": ("seconds", 1),
    "seconds": ("seconds", 1),
    "s": ("seconds", 1),
    "minute": ("seconds", 60),
    "minutes": ("seconds", 60),
    "min": ("seconds", 60),
    "m": ("seconds", 60),
    "hour": ("seconds", 3600),
    "hours": ("seconds", 3600),
    "h": ("seconds", 3600),
}
_FORM = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,9})?|\.[0-9]{1,9})\s*([A-Za-z]+|%)\s*")
_TOO_LONG = 10**15
_WORDS = "steps, epochs, percent, seconds, minutes or hours"


@dataclass(frozen=True)
class Duration:
    """A length of training, exactly as it was written: no rounding until it becomes steps.

    Args:
        amount: How many of the unit, 0 or more.
        unit: `percent` is of the whole training.
    """

    amount: Fraction
    unit: Unit

    def __str__(self) -> str:
        # Digits alone, never 1e+15: read_duration reads what is written here.
        number = f"{(Decimal(self.amount.numerator) / self.amount.denominator).normalize():f}"
        return f"{number} {self.unit}" if number != "1" or self.unit == "percent" else f"1 {self.unit[:-1]}"


def read_duration(text: str) -> Duration:
    """Reads `3 epochs`, `0.5 epochs`, `500 steps`, `10 percent`, `10%`, `30 seconds`, `5 minutes`, `1 hour`.

    Raises:
        ConfigError: The text is no duration.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"'{text}' is no duration; expected a number and a unit ({_WORDS}), such as '3 epochs'.",
            expected="a number and a unit",
            received=text,
        )
    number, word = match.groups()
    if word.lower() not in _UNITS:
        raise ConfigError(
            f"'{text}' has no unit of time that bmp knows; expected {_WORDS}.{suggest(word.lower(), _UNITS)}",
            expected=_WORDS,
            received=word,
        )
    unit, scale = _UNITS[word.lower()]
    amount = Fraction(number) * scale
    if unit == "percent" and amount > 100:
        raise ConfigError(
            f"'{text}' is more than the whole training; expected at most 100 percent.",
            expected="at most 100 percent",
            received=text,
        )
    if amount >= _TOO_LONG:
        raise ConfigError(
            f"'{text}' is longer than bmp can count; expected less than {_TOO_LONG:,} {unit}.",
            expected=f"less than {_TOO_LONG} {unit}",
            received=text,
        )
    return Duration(amount, unit)


@dataclass(frozen=True)
class Clock:
    """What an epoch and the whole of one training are, in steps.

    Args:
        total_steps: Of the training.
        steps_per_epoch: Of one pass over the training split.
    """

    total_steps: int
    steps_per_epoch: int

    def to_steps(self, duration: str | Duration) -> int:
        """Returns the steps of a duration, rounded to the nearest, halves to even; 0 only for a duration of zero.

        Raises:
            ConfigError: It is no duration, or one of seconds, which are no number of steps.
        """
        found = read_duration(duration) if isinstance(duration, str) else duration
        if found.unit == "seconds":
            raise ConfigError(
                f"'{found}' cannot be counted in steps before they are timed; write steps, epochs or percent.",
                expected="steps, epochs or percent",
                received=str(found),
            )
        of_unit = {
            "steps": Fraction(1),
            "epochs": Fraction(self.steps_per_epoch),
            "percent": Fraction(self.total_steps, 100),
        }
        steps = found.amount * of_unit[found.unit]
        return max(round(steps), 1) if steps > 0 else 0
