"""A trained model as one of this process alone, in float32: what is exported, measured and published."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.training.precision import computing_in

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras


def needs_copy(strategy: "tf.distribute.Strategy", policy: str) -> bool:
    """Returns whether a model trained so is not what an exporter expects: spread over processes, or not float32."""
    spreads = getattr(strategy.extended, "_in_multi_worker_mode", lambda: False)()
    return bool(spreads) or strategy._should_use_with_coordinator or policy.startswith("mixed")


def copy_model(model: "keras.Model", rebuild: "Callable[[], keras.Model] | None") -> "keras.Model":
    """Returns a model with the same weights; all workers call it, since some weights are means over all of them.

    Args:
        model: Trained.
        rebuild: Builds it anew; None clones a functional model layer by layer.
    """
    import tf_keras as keras

    weights = model.get_weights()
    with computing_in("float32"):
        copy = rebuild() if rebuild is not None else keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(weights)
    return copy


def copy_layer(layer: Any) -> Any:
    """Returns a layer of the same configuration that computes in float32, without weights."""
    return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})


def digest_weights(weights: Sequence[np.ndarray]) -> str:
    """Returns the SHA-256 of weights: of the dtype, shape and bytes of each, in order."""
    digest = hashlib.sha256()
    for array in weights:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
