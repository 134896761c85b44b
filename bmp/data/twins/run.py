"""TWINS, and a whole preprocessing by TensorFlow."""

from collections.abc import Callable

import tensorflow as tf

from bmp.catalog import Catalog
from bmp.data.twins.audio import log_mel
from bmp.data.twins.augment import augment
from bmp.data.twins.image import decode_and_resize
from bmp.data.twins.tabular import Tensors, fill, join, one_hot, scale, vocabulary
from bmp.data.twins.text import tokenize
from bmp.transforms import Preprocessing
from bmp.transforms.augment import Augment

TWINS: Catalog[Callable[..., Tensors]] = Catalog(
    "TensorFlow twin of a transform",
    {
        "augment": lambda step, columns: columns,  # needs seeds, see run_twins
        "fill": fill,
        "image": decode_and_resize,
        "join": join,
        "log_mel": log_mel,
        "min_max": scale,
        "one_hot": one_hot,
        "standardise": scale,
        "tokenize": tokenize,
        "vocabulary": vocabulary,
    },
)
"""By kind of step: a function of the step and of the columns before it, which returns those after it."""


@tf.autograph.experimental.do_not_convert  # no Python here depends on values
def run_twins(preprocessing: Preprocessing, columns: Tensors, seeds: tf.Tensor | None, *, num_done: int = 0) -> Tensors:
    """Turns a raw batch into the model's inputs, in a graph, as `preprocessing.run` does; and varies it for training.

    Args:
        preprocessing: Fitted.
        columns: `(B, …)` by name: numbers float32, categories, texts and files tf.string, tensors as they are.
        seeds: int32 `(B, 2)`, one for each example and epoch, for augmentation: what becomes of an example depends on
            its seed alone. None varies nothing.
        num_done: Steps that `columns` have behind them, by `run_fixed_twins`.

    Returns:
        `(B, *shape)` by name, in the order of `preprocessing.outputs`, with static shapes.

    Raises:
        UnknownNameError: A step of the user's own has no twin.
        tf.errors.InvalidArgumentError: When the graph runs: a file cannot be used.
    """
    for number, step in enumerate(preprocessing.steps[num_done:], start=num_done):
        if isinstance(step, Augment) and seeds is not None:
            columns = augment(step, columns, seeds, number)
        else:
            columns = TWINS[step.kind](step, columns)
    return {
        spec.name: tf.ensure_shape(tf.cast(columns[spec.name], spec.dtype), (None, *spec.shape))
        for spec in preprocessing.outputs
    }


@tf.autograph.experimental.do_not_convert  # no Python here depends on values
def run_fixed_twins(preprocessing: Preprocessing, columns: Tensors) -> Tensors:
    """Runs the steps before the first that varies examples: what they leave is the same in every epoch.

    Args:
        preprocessing: See `run_twins`; the same below.
        columns: See preprocessing.
    """
    for step in preprocessing.steps[: count_fixed(preprocessing)]:
        columns = TWINS[step.kind](step, columns)
    return columns


def count_fixed(preprocessing: Preprocessing) -> int:
    """Returns how many steps come before the first that varies examples."""
    varying = (number for number, step in enumerate(preprocessing.steps) if isinstance(step, Augment))
    return next(varying, len(preprocessing.steps))
