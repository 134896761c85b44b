"""The input pipeline: a split as a `tf.data.Dataset` of batches."""

import tensorflow as tf

from bmp.data.dataset import Split


def build_batches(split: Split, batch_size: int, *, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Returns batches of `(inputs by name, targets)`; the last one may be smaller.

    Args:
        split: The examples.
        batch_size: Examples a step consumes, over all replicas.
        shuffle_seed: Order of the first epoch, reshuffled in every later one; None keeps the given order.
    """
    batches = tf.data.Dataset.from_tensor_slices((split.inputs, split.targets))
    if shuffle_seed is not None:
        batches = batches.shuffle(len(split), seed=shuffle_seed, reshuffle_each_iteration=True)
    # Examples live in host memory: without this, tf.distribute would look for files to shard and warn.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.batch(batch_size).prefetch(tf.data.AUTOTUNE).with_options(options)
