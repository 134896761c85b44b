"""tf.distribute strategies for one machine."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


def build_mirrored() -> "tf.distribute.Strategy":
    """One replica on each GPU, or one on the CPU where there is none; gradients are averaged every step."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy([gpu.name for gpu in gpus] or ["/cpu:0"])


def build_one_device() -> "tf.distribute.Strategy":
    """Everything on the first GPU, or on the CPU where there is none."""
    import tensorflow as tf

    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.OneDeviceStrategy(gpus[0].name if gpus else "/cpu:0")
