"""Fine-tuning of a copy whose kernels are held to a pattern, from a plain model to a plain model."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bmp.compression.legalise.graph import rebuild
from bmp.compression.technique import Workshop
from bmp.compression.weights.kernels import Kernel
from bmp.errors import ExportError
from bmp.training.history import History

if TYPE_CHECKING:
    import tf_keras as keras


def copy_for_training(model: "keras.Model", workshop: Workshop) -> "keras.Model":
    """Returns a flat copy in float32, within the scope of the strategy.

    Raises:
        ExportError: The model is subclassed.
    """
    if not model._is_graph_network:
        raise ExportError(
            f"The model '{model.name}' is subclassed, so its layers cannot be worked on. Build it with the functional "
            "API of Keras.",
            expected="a functional or sequential model",
            received=type(model).__name__,
        )
    with workshop.trainer.strategy.scope():
        return rebuild(model)


def fine_tune_held(
    model: "keras.Model",
    workshop: Workshop,
    pairs: Sequence[tuple[Kernel, Any]],
    *,
    epochs: int | None,
    learning_rate: float | None,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    finish: Callable[[], None] = lambda: None,
) -> tuple["keras.Model", History]:
    """Fits a model with views of its kernels, and returns it as a plain one of this process alone, and its epochs.

    A model of which nothing is trainable is not fitted; the views settle its kernels all the same.

    Args:
        model: By `copy_for_training`.
        workshop: That fits.
        pairs: Kernels of the model and their views.
        epochs: Of the fine-tuning; those of the workshop, if None.
        learning_rate: The same.
        callbacks: Of the fine-tuning.
        finish: Done after it, before the kernels settle.

    Raises:
        TrainingError: The loss is not finite, or replicas ended with different views.
    """
    from bmp.compression.weights.replicas import check_replicas_agree
    from bmp.compression.weights.views import hold_all, settle_all

    history = History()
    hold_all(model, pairs)
    if model.trainable_weights:
        history = workshop.fine_tune(model, epochs=epochs, learning_rate=learning_rate, callbacks=callbacks)
    finish()
    settle_all(pairs)
    strategy = workshop.trainer.strategy
    check_replicas_agree(
        strategy,
        {f"the {view.variable.name.partition(':')[0]} of '{kernel.layer}'": view.variable for kernel, view in pairs}
        | {f"the kernel of '{kernel.layer}'": kernel.variable for kernel, _ in pairs},
    )
    return rebuild(model), history
