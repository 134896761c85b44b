"""Whether all replicas of a training have ended with the same masks, clusters and ranges."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from bmp.errors import TrainingError


def check_replicas_agree(strategy: tf.distribute.Strategy, variables: Mapping[str, tf.Variable]) -> None:
    """Compares variables over all replicas, those of other workers among them; all workers have to call it.

    Args:
        strategy: Of the training.
        variables: By what they are called in the error.

    Raises:
        TrainingError: One differs.
    """
    if strategy.num_replicas_in_sync == 1 or not variables:
        return

    def gather() -> tf.Tensor:
        digests = tf.stack([_digest(variable) for variable in variables.values()])
        return tf.distribute.get_replica_context().all_gather(digests[None], axis=0)  # (replicas, variables)

    found: Any = tf.function(lambda: strategy.run(gather))()
    digests = strategy.experimental_local_results(found)[0].numpy()
    for name, column in zip(variables, digests.T, strict=True):
        if (column != column[0]).any():
            raise TrainingError(
                f"The replicas ended with different values of {name}, so there is no one model to export. Train it on "
                "one device: distribution.strategy: one_device.",
                expected="the same on every replica",
                received=f"{len(set(column.tolist()))} different ones on {len(column)} replicas",
            )


def _digest(variable: tf.Variable) -> tf.Tensor:
    """Returns a number that any change of a value, or of their order, changes; int64 scalar."""
    values = tf.reshape(tf.convert_to_tensor(variable), [-1])
    bits = tf.cast(tf.bitcast(values, tf.int32) if values.dtype == tf.float32 else values, tf.int64)
    places = 2 * tf.range(tf.size(bits, tf.int64), dtype=tf.int64) + 1
    return tf.reduce_sum(bits * places * tf.constant(0x9E3779B97F4A7C1, tf.int64))  # overflow is part of it
