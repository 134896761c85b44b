"""Twin of the step for sound files."""

import numpy as np
import tensorflow as tf

from bmp.data.twins.tabular import Tensors
from bmp.transforms.audio import LogMel
from bmp.transforms.resample import BLOCK, ROLLOFF, ZERO_CROSSINGS


def log_mel(step: LogMel, columns: Tensors) -> Tensors:
    """Of `LogMel`. The file itself is read by the same library: TensorFlow's own reader knows 16 bits only."""

    def read(data: bytes) -> tuple[np.ndarray, np.int64]:
        samples, rate = step.read(data)
        return samples, np.int64(rate)

    def run_file(data: tf.Tensor) -> tf.Tensor:
        samples, rate = tf.numpy_function(read, [data], (tf.float64, tf.int64), stateful=False)
        samples.set_shape((None,))
        rate.set_shape(())
        samples = resample(samples, rate, step.sample_rate, step.samples)
        frames = tf.signal.frame(samples, step.frame_samples, step.hop_samples)
        spectrum = tf.signal.rfft(frames * step.window, [step.fft_size])  # (frames, fft_size / 2 + 1)
        power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
        return tf.cast(tf.math.log(power @ step.mel_weights + step.floor), tf.float32)

    shape = tf.TensorSpec((step.frames, step.bands), tf.float32)
    return columns | {step.field: tf.map_fn(run_file, columns[step.field], fn_output_signature=shape)}


def resample(samples: tf.Tensor, rate: tf.Tensor, to_rate: int, count: int) -> tf.Tensor:
    """Returns the first `count` samples at another rate, float64; see `bmp.transforms.resample`.

    Args:
        samples: float64 `(n,)`.
        rate: Theirs, int64.
        to_rate: That of the result.
        count: Samples of the result.
    """
    common = _gcd(rate, to_rate)
    step, phases = rate // common, to_rate // common
    cutoff = tf.minimum(to_rate / rate, 1.0) * ROLLOFF
    reach = tf.cast(tf.math.ceil(ZERO_CROSSINGS / cutoff), tf.int64)
    needed = count * step // phases + reach + 1
    samples = samples[:needed]
    padded = tf.pad(samples, [[reach - 1, needed - tf.size(samples, tf.int64) + 1]])

    def run() -> tf.Tensor:
        table = _weigh(step, phases, cutoff, reach)

        def run_block(first: tf.Tensor) -> tf.Tensor:
            places = tf.minimum(first + tf.range(BLOCK, dtype=tf.int64), count - 1)  # the last block repeats its last
            windows = tf.gather(padded, (places * step // phases)[:, None] + tf.range(2 * reach))  # (BLOCK, taps)
            return tf.reduce_sum(tf.gather(table, places % phases) * windows, axis=1)

        blocks = tf.map_fn(run_block, tf.range(0, count, BLOCK, tf.int64), fn_output_signature=tf.float64)
        return tf.reshape(blocks, (-1,))[:count]

    out = tf.cond(rate == to_rate, lambda: padded[reach - 1 :][:count], run)
    return tf.ensure_shape(out, (count,))


def _weigh(step: tf.Tensor, phases: tf.Tensor, cutoff: tf.Tensor, reach: tf.Tensor) -> tf.Tensor:
    """Of `compute_table`, step by step: float64 `(phases, taps)`."""
    after = tf.range(phases) * step % phases / phases
    times = tf.cast(tf.range(2 * reach) - (reach - 1), tf.float64) - after[:, None]
    width = tf.cast(reach, tf.float64)
    window = tf.where(tf.abs(times) < width, 0.5 + 0.5 * tf.cos(np.pi * times / width), 0.0)
    angles = np.pi * cutoff * times
    sinc = tf.where(angles != 0, tf.sin(angles) / tf.where(angles != 0, angles, 1.0), 1.0)
    return cutoff * sinc * window


def _gcd(a: tf.Tensor, b: int) -> tf.Tensor:
    """Euclid's."""
    return tf.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (a, tf.constant(b, tf.int64)))[0]
