"""Verdicts in words."""

import math

from bmp.compression.gate.agreement import Agreement
from bmp.compression.gate.classes import ClassDrop
from bmp.compression.gate.drop import Drop
from bmp.compression.gate.interval import UNKNOWN_BELOW
from bmp.compression.gate.promise import Promise
from bmp.objectives import METRICS

_MOST_NAMED = 3


def say_amount(metric: str, drop: float, digits: int = 2) -> str:
    """Returns a drop, its sign left out, with its unit: `0.52 points`, or `1.30 %` of the original's value."""
    size = abs(drop) * 100
    while digits < 4 and size and round(size, digits) == 0:
        digits += 1
    return f"{size:.{digits}f}{' %' if METRICS[metric].is_relative else ' points'}"


def say_drop(metric: str, drop: float) -> str:
    """Returns what happened to a metric: `accuracy falls by 0.52 points`."""
    if drop == 0:
        return f"{metric} stays the same"
    falls = (drop > 0) == METRICS[metric].greater_is_better
    return f"{metric} {'falls' if falls else 'rises'} by {say_amount(metric, drop)}"


def round_up(count: int) -> int:
    """Returns the next count of two significant digits: 2,900 for 2,817."""
    step = 10 ** max(len(str(count)) - 2, 0)
    return -(-count // step) * step


def say_failure(drop: Drop, promise: Promise) -> str:
    """Returns that even the least plausible drop is too much."""
    least = say_amount(promise.metric, drop.interval.low)
    return (
        f"{say_drop(promise.metric, drop.drop)}, by {least} at the least; "
        f"{say_amount(promise.metric, promise.max_drop)} are allowed"
    )


def say_proof(drop: Drop, promise: Promise) -> str:
    """Returns that even the greatest plausible drop is not too much."""
    high = drop.interval.high
    allowed = f"{say_amount(promise.metric, promise.max_drop)} are allowed"
    if high <= 0:
        return f"{say_drop(promise.metric, drop.drop)}, and by all that is plausible is not worse; {allowed}"
    most = say_amount(promise.metric, high)
    return f"{say_drop(promise.metric, drop.drop)}, and is worse by {most} at the most; {allowed}"


def say_doubt(drop: Drop, promise: Promise, examples: int, needed: int | None) -> str:
    """Returns why the drop is not proven to be small enough, and how many examples would prove it."""
    if math.isfinite(drop.interval.high):
        greatest = f"but may be worse by {say_amount(promise.metric, drop.interval.high)}"
    else:
        greatest = f"but fewer than {UNKNOWN_BELOW} examples (of each kind) say nothing about the rest"
    allowed = f"{say_amount(promise.metric, promise.max_drop)} are allowed"
    if needed is None:
        outlook = "No number of examples proves it while the drop seen is not smaller than that"
    else:
        more = round_up(needed - examples)
        outlook = f"If all stays as seen, about {more:,} more would prove it, {examples + more:,} in all"
    return f"{say_drop(promise.metric, drop.drop)}, {greatest}; {allowed}. {outlook}"


def say_fallen(fallen: tuple[ClassDrop, ...], class_floor: float) -> str:
    """Returns which classes lost more than they may."""
    named = [
        f"'{row.label}' ({row.lost:,} lost and {row.gained:,} gained of {row.examples:,})"
        for row in fallen[:_MOST_NAMED]
    ]
    more = f" and {len(fallen) - _MOST_NAMED:,} more" if len(fallen) > _MOST_NAMED else ""
    subject = "class loses" if len(fallen) == 1 else "classes lose"
    return f"{len(fallen)} {subject} over {class_floor * 100:g} points of recall: {', '.join(named)}{more}"


def say_agreement(agreement: Agreement, min_agreement: float) -> str:
    """Returns how often both decide alike, and how often they should."""
    return (
        f"{agreement.meaning} for {agreement.share:.2%} of the examples, plausibly {agreement.low:.2%} to "
        f"{agreement.high:.2%}; {min_agreement:.2%} are asked for"
    )
