"""Sound brought to another sample rate: the one definition, which training's twin follows to the letter.

Every output sample is a sum of input samples weighted by a sinc under a Hann window around its place in time, with
its cutoff below the lower of the two Nyquist frequencies.

Reference:
    J. O. Smith: Digital Audio Resampling Home Page, https://ccrma.stanford.edu/~jos/resample/, "Theory of
    ideal bandlimited interpolation".
"""

import math
from dataclasses import dataclass

import numpy as np

ZERO_CROSSINGS = 16
"""Of the sinc on each side."""
ROLLOFF = 0.95
"""The cutoff as a share of the Nyquist frequency."""
BLOCK = 8192
"""Output samples that are computed at a time: all at once would take taps times the memory."""


@dataclass(frozen=True)
class Filter:
    """How to get from one rate to another; both are in lowest terms, so that phases repeat.

    Args:
        step: Input samples that `phases` output samples are apart.
        phases: Output samples until the weights repeat.
        cutoff: 0 to 1, of the input's Nyquist frequency.
        reach: Input samples on each side that an output sample weighs.
    """

    step: int
    phases: int
    cutoff: float
    reach: int

    @property
    def taps(self) -> int:
        """Input samples that an output sample weighs."""
        return 2 * self.reach


def plan_filter(rate: int, to_rate: int) -> Filter:
    """Returns the filter from one sample rate to another, in Hz."""
    common = math.gcd(rate, to_rate)
    cutoff = min(1.0, to_rate / rate) * ROLLOFF
    return Filter(rate // common, to_rate // common, cutoff, math.ceil(ZERO_CROSSINGS / cutoff))


def count_needed(rate: int, to_rate: int, count: int) -> int:
    """Returns how many input samples `count` output samples can weigh, counted from the start."""
    filter = plan_filter(rate, to_rate)
    return count * filter.step // filter.phases + filter.reach + 1


def compute_table(filter: Filter) -> np.ndarray:
    """Returns the weights of each phase, float64 `(phases, taps)`."""
    phases = np.arange(filter.phases)
    after = phases * filter.step % filter.phases / filter.phases  # of the place after the input sample before it
    times = np.arange(filter.taps) - (filter.reach - 1) - after[:, None]  # (phases, taps), in input samples
    window = np.where(np.abs(times) < filter.reach, 0.5 + 0.5 * np.cos(np.pi * times / filter.reach), 0.0)
    return filter.cutoff * np.sinc(filter.cutoff * times) * window


def resample(samples: np.ndarray, rate: int, to_rate: int, count: int) -> np.ndarray:
    """Returns the first `count` samples at another rate, silence after the end.

    Args:
        samples: float64 `(n,)`.
        rate: Theirs, in Hz.
        to_rate: That of the result, in Hz.
        count: Samples of the result.

    Returns:
        float64 `(count,)`.
    """
    filter = plan_filter(rate, to_rate)
    needed = count_needed(rate, to_rate, count)
    fitting = samples[:needed]
    padded = np.pad(fitting, (filter.reach - 1, needed - len(fitting) + 1))
    if rate == to_rate:
        return padded[filter.reach - 1 :][:count]
    table = compute_table(filter)
    windows = np.lib.stride_tricks.sliding_window_view(padded, filter.taps)
    out = np.empty(count)
    for first in range(0, count, BLOCK):
        places = np.arange(first, min(first + BLOCK, count))
        weights = table[places % filter.phases]  # (BLOCK, taps)
        out[places] = np.einsum("nt,nt->n", weights, windows[places * filter.step // filter.phases])
    return out
