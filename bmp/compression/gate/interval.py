"""An interval, and the normal and t quantiles that its ends are found with."""

from typing import NamedTuple

from scipy import special

UNKNOWN_BELOW = 20
"""With fewer examples a mean is not told from its noise by anything but an exact method."""


class Interval(NamedTuple):
    """The least and the greatest plausible value; each holds with the confidence asked for, by itself."""

    low: float
    high: float


UNKNOWN = Interval(float("-inf"), float("inf"))
"""Nothing is known."""


def normal_quantile(confidence: float) -> float:
    """Returns how many standard errors a one-sided bound lies from a normal estimate."""
    return float(special.ndtri(confidence))


def t_quantile(confidence: float, examples: int) -> float:
    """Returns the same where the standard error is itself estimated, from so many examples."""
    return float(special.stdtrit(examples - 1, confidence))
