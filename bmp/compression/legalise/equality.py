"""The proof that a rewrite changed no answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.signature import Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

MAX_DIFFERENCE = 1e-5
"""Above it a rewrite is refused. Of outputs that are larger than 1, a share of the largest one."""
_DRAWN = 16
_FREE_SIZE = 12
"""Of a dimension that may have any size."""


def draw_inputs(signature: Signature, *, count: int = _DRAWN, seed: int = 0) -> Arrays:
    """Returns random inputs `(count, *shape)` by name: normal numbers, bytes, or tokens of the vocabulary."""
    random = np.random.default_rng(seed)
    return {spec.name: _draw(spec, count, random) for spec in signature.inputs}


def _draw(spec: TensorSpec, count: int, random: np.random.Generator) -> np.ndarray:
    shape = (count, *(size or _FREE_SIZE for size in spec.shape))
    kind = np.dtype(spec.dtype).kind
    if kind == "b":
        return random.random(shape) < 0.5
    if kind in "iu":
        return random.integers(spec.vocabulary or (256 if spec.dtype == "uint8" else 8), size=shape).astype(spec.dtype)
    return random.normal(size=shape).astype(spec.dtype)


def answer(model: "keras.Model", batches: Sequence[Arrays]) -> list[np.ndarray]:
    """Returns what a model says to each batch, every output of it."""
    import tensorflow as tf

    found = []
    for batch in batches:
        given = dict(batch) if len(batch) > 1 else next(iter(batch.values()))
        found += [np.asarray(output) for output in tf.nest.flatten(model(given, training=False))]
    return found


def measure_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """Returns the largest absolute difference of answers, over the largest answer where that is above 1.

    Infinite where the answers are not numbers, or not of the same shape.
    """
    worst = 0.0
    for old, new in zip(before, after, strict=True):
        if old.shape != new.shape or not np.isfinite(new).all():
            return float("inf")
        old, new = old.astype(np.float64), new.astype(np.float64)
        worst = max(worst, _largest(old - new) / max(1.0, _largest(old)))
    return worst


def _largest(array: Any) -> float:
    return float(np.abs(array).max(initial=0.0))
