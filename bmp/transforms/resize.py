"""Images brought to one size: the one definition, which training's twin follows to the letter.

Every output pixel is a weighted mean of the input pixels under a triangle around its centre; where the image shrinks,
the triangle widens by as much, so that nothing is skipped (antialiasing). Rows first, then columns.

Reference:
    Heckbert: Fundamentals of texture mapping and image warping, 1989, 3.5: the separable resampling filter of unit
    triangle, stretched for minification.
"""

import math

import numpy as np

_BLOCK = 16


def count_taps(size: int, to_size: int) -> int:
    """Returns how many input pixels an output pixel may weigh."""
    return min(size, 2 * math.ceil(max(size / to_size, 1.0)) + 1)


def compute_weights(size: int, to_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which input pixels make an output pixel, along one side.

    Args:
        size: Pixels before.
        to_size: Pixels after.

    Returns:
        The first one of each, int64 `(to_size,)`, and the weights from there on, float32 `(to_size, taps)`.
    """
    stretch = max(size / to_size, 1.0)
    taps = count_taps(size, to_size)
    centres = (np.arange(to_size) + 0.5) * (size / to_size)
    starts = np.clip(np.floor(centres - stretch).astype(np.int64), 0, size - taps)
    pixels = starts[:, None] + np.arange(taps) + 0.5  # (to_size, taps), the middle of each
    weights = np.maximum(0.0, 1.0 - np.abs(pixels - centres[:, None]) / stretch)
    return starts, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes an image `(H, W, C)` of any numbers to float32 `(height, width, C)`."""
    rows = _resize_rows(image, height)
    return np.ascontiguousarray(_resize_rows(rows.transpose(1, 0, 2), width).transpose(1, 0, 2))


def _resize_rows(image: np.ndarray, to_size: int) -> np.ndarray:
    size, width, channels = image.shape
    if size == to_size:  # every weight is 1 or 0
        return image.astype(np.float32)
    starts, weights = compute_weights(size, to_size)
    taps = weights.shape[1]
    out = np.empty((to_size, width * channels), np.float32)
    # A matrix of all weights would be nearly all zeros; block by block, most of it counts.
    for top in range(0, to_size, _BLOCK):
        first, rows = starts[top], np.arange(len(starts[top : top + _BLOCK]))
        span = starts[top + rows[-1]] + taps - first
        matrix = np.zeros((len(rows), span), np.float32)
        matrix[rows[:, None], starts[top + rows, None] - first + np.arange(taps)] = weights[top + rows]
        pixels = image[first : first + span].reshape(span, -1).astype(np.float32)
        np.matmul(matrix, pixels, out=out[top : top + _BLOCK])
    return out.reshape(to_size, width, channels)
