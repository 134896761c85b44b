"""Twins of the steps for numbers and categories."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from bmp.errors import DataError
from bmp.transforms.categories import Lookup
from bmp.transforms.fill import Fill
from bmp.transforms.tabular import Join, MinMax, Standardise

Tensors = dict[str, tf.Tensor]
"""A batch by feature name."""

_BUCKETS = 2**63 - 1


def fill(step: Fill, columns: Tensors) -> Tensors:
    """Of `Fill`."""
    return columns | {name: _fill(columns[name], step.filling(name)) for name in step.fields}


def _fill(column: tf.Tensor, filling: str | tuple[float, ...]) -> tf.Tensor:
    if isinstance(filling, str):
        return tf.where(column == "", filling, column)
    numbers = np.asarray(filling, column.dtype.as_numpy_dtype)
    return tf.where(tf.math.is_nan(column), numbers.reshape(column.shape[1:] if numbers.size > 1 else ()), column)


def scale(step: Standardise | MinMax, columns: Tensors) -> Tensors:
    """Of `Standardise` and `MinMax`."""
    return columns | {name: _scale(columns[name], *step.constants(name)) for name in step.fields}


def _scale(column: tf.Tensor, offset: Sequence[float], divisor: Sequence[float]) -> tf.Tensor:
    offsets, divisors = (np.reshape(numbers, column.shape[1:]) for numbers in (offset, divisor))
    return tf.cast((tf.cast(column, tf.float64) - offsets) / divisors, tf.float32)


def one_hot(step: Lookup, columns: Tensors) -> Tensors:
    """Of `OneHot`."""
    indices = vocabulary(step, {name: columns[name] for name in step.fields})
    return columns | {name: tf.one_hot(column, step.size(name)) for name, column in indices.items()}


def vocabulary(step: Lookup, columns: Tensors) -> Tensors:
    """Of `Vocabulary`."""
    assert step.vocabulary is not None, "not fitted"
    return columns | {
        name: look_up(columns[name], step.vocabulary[name], range(1, step.size(name)), 0) for name in step.fields
    }


def join(step: Join, columns: Tensors) -> Tensors:
    """Of `Join`."""
    parts = [_flatten(columns[name]) for name in step.fields]
    rest = {name: column for name, column in columns.items() if name not in step.fields}
    return rest | {step.name: tf.concat(parts, axis=1)}


def _flatten(column: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.reshape(column, (-1, int(np.prod(column.shape[1:])))), tf.float32)  # (B, D)


def look_up(texts: tf.Tensor, known: Sequence[str], numbers: Sequence[int], unknown: int) -> tf.Tensor:
    """Looks texts up without a table, which would be a resource that somebody must keep alive: by binary search among
    the hashes of what is known, then a comparison with the text itself.

    Args:
        texts: tf.string `(N,)`.
        known: Different texts, at least one.
        numbers: Of each of them.
        unknown: Of everything else.

    Returns:
        int32 `(N,)`.

    Raises:
        DataError: Two known texts have the same hash, which chance does not bring about.
    """
    encoded = np.array([text.encode() for text in known], object)
    with tf.init_scope():  # now, not whenever the graph runs
        hashes = tf.strings.to_hash_bucket_fast(encoded, _BUCKETS).numpy()
    order = np.argsort(hashes)
    if (np.diff(hashes[order]) == 0).any():
        raise DataError("Two values of a vocabulary have the same 63-bit hash; leave one of them out.")
    places = tf.searchsorted(hashes[order], tf.strings.to_hash_bucket_fast(texts, _BUCKETS))
    places = tf.minimum(places, len(known) - 1)
    is_known = tf.gather(tf.constant(encoded[order]), places) == texts
    return tf.where(is_known, tf.gather(np.asarray(numbers, np.int32)[order], places), unknown)
