"""Few values for many weights: k-means in one dimension, started by k-means++."""

import numpy as np

_SAMPLE = 16_384
"""Weights that the start is drawn from: more tell no more of a distribution in one dimension."""
_ROUNDS = 100


def assign_clusters(
    kernel: np.ndarray, count: int, rng: np.random.Generator, *, keeps_zeros: bool, outputs_axis: int | None = None
) -> np.ndarray:
    """Returns the cluster of each weight, int64 of the same shape.

    Cluster 0 is that of zeros, which is empty unless zeros are kept; the others are numbered from 1.

    Args:
        kernel: Any shape.
        count: Of different values at most, zero among them where zeros are kept.
        rng: Of the start.
        keeps_zeros: Whether weights that are exactly zero stay so.
        outputs_axis: Along which each channel has clusters of its own; None for one set over all.
    """
    if outputs_axis is None:
        return _assign(kernel.ravel(), count, rng, keeps_zeros).reshape(kernel.shape)
    rows = np.moveaxis(kernel, outputs_axis, 0)  # (outputs, ...)
    index = np.stack([_assign(row.ravel(), count, rng, keeps_zeros) for row in rows])  # (outputs, weights)
    index += np.where(index > 0, count * np.arange(len(index))[:, None], 0)
    return np.moveaxis(index.reshape(rows.shape), 0, outputs_axis)


def index_values(kernel: np.ndarray, outputs_axis: int | None = None) -> np.ndarray:
    """Returns which weights share a value, int64 of the same shape, as `assign_clusters` numbers them."""
    if outputs_axis is None:
        values = np.unique(kernel[kernel != 0])
        index = np.searchsorted(values, kernel) + 1
        return np.where(kernel == 0, 0, index).astype(np.int64)
    rows = np.moveaxis(kernel, outputs_axis, 0)
    index = np.stack([index_values(row) for row in rows])
    starts = np.concatenate([[0], np.cumsum(index.reshape(len(index), -1).max(axis=1))[:-1]])
    index += np.where(index > 0, starts.reshape(-1, *[1] * (index.ndim - 1)), 0)
    return np.moveaxis(index, 0, outputs_axis)


def count_values(kernel: np.ndarray, outputs_axis: int | None = None) -> int:
    """Returns how many different values a kernel has; of its channels, the one that has most."""
    if outputs_axis is None:
        return len(np.unique(kernel))
    return max(len(np.unique(row)) for row in np.moveaxis(kernel, outputs_axis, 0))


def _assign(weights: np.ndarray, count: int, rng: np.random.Generator, keeps_zeros: bool) -> np.ndarray:
    """Returns the cluster of each of some weights, `(N,)`."""
    moves = weights != 0 if keeps_zeros else np.ones(len(weights), bool)
    index = np.zeros(len(weights), np.int64)
    if moves.any():
        centres = find_centres(weights[moves], count - keeps_zeros, rng)
        index[moves] = np.searchsorted(_middles(centres), weights[moves]) + 1
    return index


def find_centres(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns centres of clusters in ascending order, float64 `(at most count,)`.

    Reference:
        Arthur and Vassilvitskii: k-means++: the advantages of careful seeding, 2007; Lloyd: Least squares quantization
        in PCM, 1982. In one dimension a cluster is a stretch of the sorted weights, whose mean is a difference of two
        running sums.
    """
    values = np.sort(weights).astype(np.float64)
    distinct = np.unique(values)
    if len(distinct) <= count:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(values)])
    centres = _draw_centres(values, count, rng)
    for _ in range(_ROUNDS):
        bounds = np.concatenate([[0], np.searchsorted(values, _middles(centres)), [len(values)]])
        members = np.diff(bounds)
        means = np.diff(sums[bounds])[members > 0] / members[members > 0]
        if np.array_equal(means, centres):
            break
        centres = means
    return centres


def _draw_centres(values: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws centres, each with a chance that grows with the square of its distance from those before."""
    sample = values if len(values) <= _SAMPLE else rng.choice(values, _SAMPLE, replace=False)
    centres = [rng.choice(sample)]
    distances = (sample - centres[0]) ** 2
    while len(centres) < count and distances.any():
        centres.append(rng.choice(sample, p=distances / distances.sum()))
        distances = np.minimum(distances, (sample - centres[-1]) ** 2)
    return np.unique(centres)


def _middles(centres: np.ndarray) -> np.ndarray:
    return (centres[1:] + centres[:-1]) / 2
