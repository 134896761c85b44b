"""Magnitude pruning with TF-MOT: weights of small magnitude go to zero while the model is fine-tuned."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.config import PruningConfig
from bmp.errors import ExportError

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.training import History, Trainer

_RAMP = 0.6
"""Share of the fine-tuning during which sparsity rises; the rest lets the kept weights settle."""


def prune(model: "keras.Model", config: PruningConfig, trainer: "Trainer") -> tuple["keras.Model", "History"]:
    """Returns a pruned, fine-tuned copy of a functional model, and the epochs that took.

    The kernels of dense and convolutional layers are pruned; everything else stays as it is. Of the epochs
    at full sparsity, the one with the best validation score is kept. The model given is not touched.

    Raises:
        ExportError: The model has no layer that can be pruned, or a kernel is not as sparse as asked.

    Reference:
        Zhu and Gupta: To prune, or not to prune, 2017, section 3 (the polynomial schedule).
    """
    import tensorflow_model_optimization as tfmot
    import tf_keras as keras

    from bmp.training.callbacks import KeepBest
    from bmp.training.copies import copy_layer, in_float32

    obstacle = find_obstacle(model)
    if obstacle:
        raise ExportError(f"{obstacle} Set compress.pruning: null.")
    ramp_steps = max(2, round(_RAMP * config.epochs * trainer.steps_per_epoch))
    frequency = max(1, min(100, ramp_steps // 20))
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        initial_sparsity=0.0,
        final_sparsity=config.sparsity,
        begin_step=0,
        end_step=ramp_steps - ramp_steps % frequency,  # at another step the last update would not happen
        frequency=frequency,
    )

    copies: dict[str, Any] = {}

    def wrap(layer: Any) -> Any:
        # The wrapper shares the layer it is given, so it is given a copy.
        copy = copies[layer.name] = copy_layer(layer)
        if isinstance(layer, _prunable_layers(keras)):
            return tfmot.sparsity.keras.prune_low_magnitude(copy, pruning_schedule=schedule)
        return copy

    with trainer.strategy.scope(), in_float32():  # TF-MOT multiplies masks in no other precision
        wrapped = keras.models.clone_model(model, clone_function=wrap)
    for layer in model.layers:
        if layer.name in copies:  # all but the inputs
            copies[layer.name].set_weights(layer.get_weights())
    history = trainer.fit(
        wrapped,
        stage="prune",
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        exchanges=True,
        # In this order: what the last update moved goes back to zero before the weights are remembered.
        callbacks=[
            tfmot.sparsity.keras.UpdatePruningStep(),
            KeepBest(trainer.objective.score, math.ceil(_RAMP * config.epochs)),
        ],
    )
    stripped = tfmot.sparsity.keras.strip_pruning(wrapped)
    _check_sparsity(stripped, config.sparsity)
    return stripped, history


def find_obstacle(model: "keras.Model") -> str | None:
    """Returns why a model cannot be pruned, in one sentence, or None."""
    import tf_keras as keras

    if not model._is_graph_network:
        return f"The model '{model.name}' is subclassed; pruning needs a functional or sequential one."
    prunable: list[Any] = [layer for layer in model.layers if isinstance(layer, _prunable_layers(keras))]
    if not any(layer.trainable_weights for layer in prunable):
        return f"The model '{model.name}' has no dense or convolutional layer to prune."
    return None


def _prunable_layers(keras: Any) -> tuple[type, ...]:
    return (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def _check_sparsity(model: "keras.Model", sparsity: float) -> None:
    import tf_keras as keras

    layers: list[Any] = [layer for layer in model.layers if isinstance(layer, _prunable_layers(keras))]
    kernels = {layer.name: layer.kernel.numpy() for layer in layers}
    for name, kernel in kernels.items():
        zeros = int(np.count_nonzero(kernel == 0))
        if zeros < int(sparsity * kernel.size) - 1:
            raise ExportError(
                f"Layer '{name}' came out of pruning with {zeros / kernel.size:.1%} zeros instead of {sparsity:.1%}. "
                "Give it more steps: raise compress.pruning.epochs.",
                expected=f"{sparsity:.1%}",
                received=f"{zeros / kernel.size:.1%}",
            )
