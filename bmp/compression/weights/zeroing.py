"""Zeros in kernels, more and more of them while the model is trained on: what pruning and 2:4 have in common."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from bmp.compression.technique import Pattern, Workshop
from bmp.compression.weights.fine_tuning import fine_tune_held
from bmp.compression.weights.kernels import GROUP, Kernel
from bmp.errors import ExportError
from bmp.training.history import History

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.compression.weights.masks import Choose

RAMP = 0.6
"""Share of the fine-tuning in which zeros become more; the rest lets the weights that stay settle."""


def zero_out(
    model: "keras.Model",
    kernels: Sequence[Kernel],
    choose: "Choose",
    workshop: Workshop,
    *,
    epochs: int | None,
    learning_rate: float | None,
    at_once: bool = False,
) -> tuple["keras.Model", History]:
    """Fine-tunes a model while kernels get zeros, and returns it as a plain one, and its epochs.

    Of the epochs at whose end all zeros are there, the one with the best validation score is kept.

    Args:
        model: By `copy_for_training`.
        kernels: Of it.
        choose: Says which weights stay.
        workshop: That fits.
        epochs: Of the fine-tuning; those of the workshop, if None.
        learning_rate: The same.
        at_once: Whether all zeros are there from the first step.

    Raises:
        TrainingError: The loss is not finite, or replicas ended with different masks.
    """
    from bmp.compression.weights.masks import GrowingMasks
    from bmp.compression.weights.views import Mask
    from bmp.training.callbacks import KeepBest

    trainer = workshop.trainer
    steps = trainer.steps_per_epoch
    with trainer.strategy.scope():
        pairs = [(kernel, Mask(kernel.read())) for kernel in kernels]
    ramp_steps = 0 if at_once else max(1, math.floor(RAMP * (epochs or workshop.epochs) * steps))
    masks = GrowingMasks(pairs, choose, ramp_steps=ramp_steps, steps_per_epoch=steps)
    return fine_tune_held(
        model,
        workshop,
        pairs,
        epochs=epochs,
        learning_rate=learning_rate,
        callbacks=[masks, KeepBest(trainer.objective.score, masks.first_full_epoch)],
        finish=masks.finish,
    )


def count_patterns(kernels: Sequence[Kernel], kind: Literal["zeros", "blocks", "two_of_four"]) -> list[Pattern]:
    """Returns a pattern for each layer, as it shows in that of its kernels which has least of it.

    Raises:
        ExportError: Some four weights have more than two that are not zero, where `kind` is `two_of_four`.
    """
    shares: dict[str, float] = {}
    for kernel in kernels:
        share = _SHARES[kind](kernel)
        shares[kernel.layer] = min(share, shares.get(kernel.layer, 1.0))
    return [Pattern(kind, layer, share) for layer, share in shares.items()]


def _share_of_zeros(kernel: Kernel) -> float:
    return float(np.mean(kernel.read() == 0))


def _share_of_blocks(kernel: Kernel) -> float:
    """Returns the share of weights that lie in runs of zeros, a last shorter run counted as one."""
    nonzeros, sizes = _count_groups(kernel)
    return float(((nonzeros == 0) * sizes).sum() / (nonzeros * 0 + sizes).sum())


def _share_of_two_of_four(kernel: Kernel) -> float:
    nonzeros, _ = _count_groups(kernel)
    if nonzeros.max() > GROUP // 2:
        raise ExportError(
            f"two_of_four: layer '{kernel.layer}' has {nonzeros.max()} of four weights that are not zero.",
            expected="at most two",
            received=str(nonzeros.max()),
        )
    return _share_of_zeros(kernel)


def _count_groups(kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights that are not zero in each group of inputs, `(..., groups)`, and the sizes of groups."""
    rows = kernel.to_rows(kernel.read())
    starts = np.arange(0, rows.shape[-1], GROUP)
    sizes = np.minimum(GROUP, rows.shape[-1] - starts)
    return np.add.reduceat((rows != 0).astype(np.int64), starts, axis=-1), sizes


_SHARES = {"zeros": _share_of_zeros, "blocks": _share_of_blocks, "two_of_four": _share_of_two_of_four}
