"""One-shot changes of a kernel, without training: what pruning, clustering and rounding do to it."""

import math

import numpy as np

_ROUNDS = 30
"""Of k-means; in one dimension it has settled by then."""


def zero_smallest(kernel: np.ndarray, share: float) -> np.ndarray:
    """Returns a kernel with so large a share of its weights, the smallest, at zero."""
    count = round(share * kernel.size)
    flat = kernel.ravel().copy()
    flat[np.argpartition(np.abs(flat), count - 1)[:count] if count else []] = 0
    return flat.reshape(kernel.shape)


def share_values(kernel: np.ndarray, count: int) -> np.ndarray:
    """Returns a kernel of so many different values: the centres of k-means, evenly spread at the start.

    Reference:
        Han, Mao, Dally: Deep compression, 2016, section 3.2 (the even start keeps large weights).
    """
    values = np.sort(kernel, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = np.linspace(values[0], values[-1], count)
    for _ in range(_ROUNDS):
        inner = np.searchsorted(values, _middle(centres))
        bounds = np.concatenate([[0], inner, [len(values)]])
        members = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(members, 1)
        centres = np.where(members > 0, means, centres)
    return centres[np.searchsorted(_middle(centres), kernel)].astype(kernel.dtype)


def round_to_int8(kernel: np.ndarray) -> np.ndarray:
    """Returns a kernel rounded to 255 steps about zero, the same on both sides, for each output (the last axis)."""
    largest = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)), keepdims=True)
    step = largest / 127
    step = np.where(step > 0, step, 1.0)
    return (np.round(kernel / step) * step).astype(kernel.dtype)


def saving_of(technique: str, level: float) -> float:
    """Returns the share of the bytes of a float32 kernel that a level saves, once it is coded."""
    if technique == "cluster":
        return 1 - math.log2(level) / 32
    return 1 - level / 32 if technique == "int8" else level


def _middle(centres: np.ndarray) -> np.ndarray:
    return (centres[1:] + centres[:-1]) / 2
