"""Twin of the step for image files."""

import numpy as np
import tensorflow as tf

from bmp.data.twins.tabular import Tensors
from bmp.transforms.image import GREY, JPEG_START, PNG_START, Image


def decode_and_resize(step: Image, columns: Tensors) -> Tensors:
    """Of `Image`. libjpeg's exact integer DCT and fancy upsampling are what Pillow uses: equal pixels."""

    def run_file(data: tf.Tensor) -> tf.Tensor:
        image = _decode(data)
        if step.channels == 1:
            image = tf.tensordot(tf.cast(image, tf.float32), np.array(GREY, np.float32)[:, None], 1)
        return resize(image, step.height, step.width)

    shape = tf.TensorSpec((step.height, step.width, step.channels), tf.float32)
    pixels = tf.map_fn(run_file, columns[step.field], fn_output_signature=shape)
    scale, mean, std = step.constants
    return columns | {step.field: (pixels * scale - mean) / std}


def _decode(data: tf.Tensor) -> tf.Tensor:
    """Returns uint8 `(H, W, 3)`; refuses what `decode_image` refuses for its kind."""
    is_jpeg = tf.strings.substr(data, 0, len(JPEG_START)) == JPEG_START
    is_png = tf.strings.substr(data, 0, len(PNG_START)) == PNG_START
    known = tf.debugging.Assert(is_jpeg | is_png, ["An image is no PNG or JPEG file."])
    with tf.control_dependencies([known]):
        # A PNG passes for 3 channels: its header is not read.
        channels = tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(data)[2], lambda: 3)
    usable = tf.debugging.Assert(channels < 4, ["A JPEG file has printing colours (CMYK); save it as RGB."])
    with tf.control_dependencies([usable]):  # this operation reads PNG as well
        return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE", fancy_upscaling=True)


def resize(image: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Resizes `(H, W, C)` of any size to float32 `(height, width, C)`; see `bmp.transforms.resize`."""
    rows = _resize_rows(tf.cast(image, tf.float32), height)
    return tf.transpose(_resize_rows(tf.transpose(rows, (1, 0, 2)), width), (1, 0, 2))


def _resize_rows(image: tf.Tensor, to_size: int) -> tf.Tensor:
    size, width, channels = tf.unstack(tf.shape(image))

    def run() -> tf.Tensor:
        weights = _weigh(size, to_size)  # (to_size, H), nearly all zeros
        rows = tf.sparse.sparse_dense_matmul(weights, tf.reshape(image, (size, width * channels)))
        return tf.reshape(rows, (to_size, width, channels))

    return tf.cond(size == to_size, lambda: image, run)


def _weigh(size: tf.Tensor, to_size: int) -> tf.SparseTensor:
    """Of `compute_weights`, step by step."""
    ratio = tf.cast(size, tf.float64) / to_size
    stretch = tf.maximum(ratio, 1.0)
    taps = tf.minimum(tf.cast(size, tf.int64), 2 * tf.cast(tf.math.ceil(stretch), tf.int64) + 1)
    centres = (tf.range(to_size, dtype=tf.float64) + 0.5) * ratio
    starts = tf.cast(tf.math.floor(centres - stretch), tf.int64)
    starts = tf.clip_by_value(starts, 0, tf.cast(size, tf.int64) - taps)
    pixels = starts[:, None] + tf.range(taps)  # (to_size, taps)
    weights = tf.maximum(1.0 - tf.abs(tf.cast(pixels, tf.float64) + 0.5 - centres[:, None]) / stretch, 0.0)
    weights = tf.cast(weights / tf.reduce_sum(weights, axis=1, keepdims=True), tf.float32)
    rows = tf.broadcast_to(tf.range(to_size, dtype=tf.int64)[:, None], tf.shape(pixels))
    indices = tf.stack([tf.reshape(rows, (-1,)), tf.reshape(pixels, (-1,))], axis=1)
    return tf.SparseTensor(indices, tf.reshape(weights, (-1,)), (to_size, tf.cast(size, tf.int64)))
