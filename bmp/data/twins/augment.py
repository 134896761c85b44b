"""Variation of training examples, by TensorFlow; every draw follows from the seed of its example."""

import tensorflow as tf

from bmp.data.twins.image import resize
from bmp.data.twins.tabular import Tensors
from bmp.errors import ConfigError
from bmp.transforms.augment import Augment
from bmp.transforms.preprocessing import Preprocessing

_MIXUP = 1_000_000
"""What is folded into the seeds for mixup; steps fold in their number."""


def augments(preprocessing: Preprocessing) -> bool:
    """Returns whether training varies examples."""
    return any(isinstance(step, Augment) for step in preprocessing.steps)


def mixup_alpha(preprocessing: Preprocessing) -> float:
    """Returns the parameter of mixup; 0 is without.

    Raises:
        ConfigError: Two steps give different ones.
    """
    alphas = {step.mixup for step in preprocessing.steps if isinstance(step, Augment) and step.mixup}
    if len(alphas) > 1:
        raise ConfigError(
            f"The augment transforms give different values of mixup ({', '.join(map(str, sorted(alphas)))}); "
            "it blends whole examples, so give it once."
        )
    return next(iter(alphas), 0.0)


def augment(step: Augment, columns: Tensors, seeds: tf.Tensor, number: int) -> Tensors:
    """Varies one feature, each example by itself.

    Args:
        step: What is done.
        columns: `(B, …)` by name.
        seeds: int32 `(B, 2)`.
        number: Of the step, so that two steps draw differently.
    """
    column = columns[step.field]

    def vary(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        return tf.ensure_shape(_vary(step, *example, number), column.shape[1:])

    shape = tf.TensorSpec(column.shape[1:], column.dtype)
    return columns | {step.field: tf.map_fn(vary, (column, seeds), fn_output_signature=shape)}


def _vary(step: Augment, values: tf.Tensor, seed: tf.Tensor, number: int) -> tf.Tensor:
    seed, noise_seed = tf.unstack(tf.random.split(tf.random.fold_in(seed, number), 2))
    if step.is_for_images:
        values = _vary_image(step, values, tf.random.stateless_uniform((4,), seed, alg="philox"))
    if step.noise:
        values += step.noise * tf.random.stateless_normal(
            tf.shape(values), noise_seed, dtype=values.dtype, alg="philox"
        )
    return values


def _vary_image(step: Augment, image: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Flips and crops `(H, W)` or `(H, W, C)` by four draws from 0 to 1."""
    shape = image.shape
    image = tf.reshape(image, (*shape[:2], -1))
    if step.flip_horizontal:
        image = tf.cond(draws[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
    if step.flip_vertical:
        image = tf.cond(draws[1] < 0.5, lambda: tf.reverse(image, [0]), lambda: image)
    height, width = shape[:2]
    if isinstance(step.crop, float):
        window = [max(1, round(step.crop * side)) for side in (height, width)]
        cut = _cut(image, window, draws[2:])
        image = tf.cast(resize(cut, height, width), image.dtype)
    elif step.crop:
        border = [step.crop, step.crop]
        image = _cut(tf.pad(image, [border, border, [0, 0]]), [height, width], draws[2:])
    return tf.reshape(image, shape)


def _cut(image: tf.Tensor, window: list[int], draws: tf.Tensor) -> tf.Tensor:
    """Cuts a window `(height, width)` out, every place equally likely."""
    room = tf.shape(image)[:2] - window
    start = tf.minimum(tf.cast(draws * tf.cast(room + 1, draws.dtype), tf.int32), room)
    return tf.slice(image, tf.concat([start, [0]], 0), [*window, -1])


@tf.autograph.experimental.do_not_convert
def mix_up(
    inputs: Tensors, targets: tf.Tensor, num_classes: int, alpha: float, seeds: tf.Tensor
) -> tuple[Tensors, tf.Tensor]:
    """Blends each example with the next one of the batch, the last with the first.

    Args:
        inputs: `(B, …)` by name, floats.
        targets: int64 `(B,)`, classes.
        num_classes: C.
        alpha: The share of the example itself is from Beta(alpha, alpha).
        seeds: int32 `(B, 2)`.

    Returns:
        The inputs, and float32 targets `(B, C)`.

    Raises:
        ConfigError: An input holds whole numbers, which cannot be blended.

    Reference:
        Zhang, Cisse, Dauphin, Lopez-Paz: mixup: Beyond empirical risk minimization, 2018, (1).
    """
    for name, column in inputs.items():
        if not column.dtype.is_floating:
            raise ConfigError(
                f"mixup blends examples, but the input '{name}' holds {column.dtype.name}, which cannot be blended. "
                "Leave augment.mixup out."
            )
    shares = tf.map_fn(lambda seed: _draw_share(alpha, seed), seeds, fn_output_signature=tf.TensorSpec((), tf.float32))

    def blend(column: tf.Tensor) -> tf.Tensor:
        share = tf.cast(tf.reshape(shares, (-1, *[1] * (column.shape.rank - 1))), column.dtype)
        return share * column + (1 - share) * tf.roll(column, -1, axis=0)

    return {name: blend(column) for name, column in inputs.items()}, blend(tf.one_hot(targets, num_classes))


def _draw_share(alpha: float, seed: tf.Tensor) -> tf.Tensor:
    seed = tf.random.fold_in(seed, _MIXUP)
    # In float64: a small alpha gives numbers near the least of float32, and 0 / 0.
    first, second = tf.unstack(tf.random.stateless_gamma((2,), seed, alpha, dtype=tf.float64))
    return tf.cast(first / (first + second), tf.float32)
