"""Intervals for shares: of one sample, and for the difference of two on the same examples."""

import math
from collections.abc import Callable

from scipy import optimize

from bmp.compression.gate.interval import Interval, normal_quantile

_MOST = 10**12
"""Examples; more are never said to be needed."""


def tango(lost: float, gained: float, count: float, confidence: float) -> Interval:
    """Returns the score interval for the drop of a share between two measurements of the same examples.

    Args:
        lost: Examples that only the first has right.
        gained: Examples that only the second has right.
        count: All examples.
        confidence: Of each end.

    Reference:
        Tango: Equivalence test and confidence interval for the difference in proportions for the paired-sample
        design, Statistics in Medicine 17, 1998, page 891, section 3.
    """
    z, drop = normal_quantile(confidence), (lost - gained) / count
    return Interval(
        -_find_end(gained, lost, count, z, -drop),  # the mirror image
        _find_end(lost, gained, count, z, drop),
    )


def _find_end(lost: float, gained: float, count: float, z: float, drop: float) -> float:
    """Returns the largest difference that the score test does not refuse."""

    def distance(difference: float) -> float:
        return lost - gained - count * difference + z * _score_deviation(lost, gained, count, difference)

    start = drop + 1e-12  # with no change at all the distance is 0 at the estimate and grows from there
    if start >= 1 or distance(start) <= 0:
        return min(start, 1.0)
    return float(optimize.brentq(distance, start, 1.0, xtol=1e-12))


def _score_deviation(lost: float, gained: float, count: float, difference: float) -> float:
    """Returns the standard deviation of `lost - gained` if the true difference of the shares were this one."""
    linear = (2 * count - lost + gained) * difference - lost - gained
    constant = -gained * difference * (1 - difference)
    root = math.sqrt(max(linear**2 - 8 * count * constant, 0.0))
    share_gained = (root - linear) / (4 * count)  # the most likely one under that difference
    return math.sqrt(max(count * (2 * share_gained + difference * (1 - difference)), 0.0))


def count_needed(lost: float, gained: float, count: int, max_drop: float, confidence: float) -> int | None:
    """Returns of how many examples the interval would end within a drop, changes being as frequent as here.

    None where no number is enough: the drop seen is not smaller than `max_drop`.
    """
    if (lost - gained) / count >= max_drop:
        return None

    def excess(factor: float) -> float:
        return tango(lost * factor, gained * factor, count * factor, confidence).high - max_drop

    return _smallest(excess, count)


def _smallest(excess: Callable[[float], float], count: int) -> int | None:
    low, high = 1 / count, 2.0
    while excess(high) > 0:
        low, high = high, high * 4
        if high * count > _MOST:
            return None
    while high / low > 1.0005:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return math.ceil(high * count)


def wilson(hits: float, count: float, confidence: float) -> Interval:
    """Returns the score interval for a share.

    Reference:
        Wilson: Probable inference, the law of succession, and statistical inference, JASA 22, 1927, page 209.
    """
    z2 = normal_quantile(confidence) ** 2
    share = hits / count
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * share * (1 - share) / count + z2**2 / (4 * count**2)) / (1 + z2 / count)
    return Interval(max(centre - half, 0.0), min(centre + half, 1.0))
