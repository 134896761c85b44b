"""A copy of a model whose kernels are changed, measured and put back. All of this is TensorFlow."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tf_keras as keras

from bmp.compression.sensitivity.rounding import RoundedInput
from bmp.data import Dataset
from bmp.objectives import OBJECTIVES
from bmp.training.copies import copy_layer
from bmp.training.precision import computing_in

_BATCH = 256

Changes = Mapping[str, list[np.ndarray]]
"""By name of a layer: its new weights."""


class Outcome(NamedTuple):
    """What was measured."""

    score: float
    loss: float


class Probe:
    """Measures a model with other weights than its own.

    Args:
        model: Functional or sequential; it is copied.
        data: Its validation split is measured on, and calibrated on.
        index: Positions of the examples that are used.
        rounded: Layers whose input can be rounded.
    """

    def __init__(self, model: keras.Model, data: Dataset, index: np.ndarray, rounded: Collection[str]) -> None:
        def copy(layer: Any) -> Any:
            return RoundedInput(copy_layer(layer)) if layer.name in rounded else copy_layer(layer)

        with computing_in("float32"):
            self._model = keras.models.clone_model(model, clone_function=copy)
        self._objective, self._labels = OBJECTIVES[data.signature.objective], data.labels
        self._rounding = {name: self._model.get_layer(name) for name in rounded}
        self._weights = {layer.name: layer.get_weights() for layer in model.layers}
        self._batches = [
            (tf.nest.map_structure(tf.constant, _pack(batch.inputs)), tf.constant(batch.targets))
            for batch in data.validation.take(index).batches(_BATCH)
        ]
        self._set(self._weights)
        self._observe()
        self._forward = tf.function(self._compute, reduce_retracing=True)

    def measure(self, changes: Changes, rounded: Collection[str] = ()) -> Outcome:
        """Returns score and loss with some changes; the model is then as it was.

        Args:
            changes: Of weights.
            rounded: Layers whose input is rounded meanwhile.
        """
        self._set(changes)
        for name in rounded:
            self._rounding[name].rounds.assign(True)
        try:
            return self._measure()
        finally:
            self._set({name: self._weights[name] for name in changes})
            for name in rounded:
                self._rounding[name].rounds.assign(False)

    def _measure(self) -> Outcome:
        meter = self._objective.meter(self._labels)
        losses = []
        for inputs, targets in self._batches:
            outputs, batch_losses = self._forward(inputs, targets)
            meter.update(outputs.numpy(), targets.numpy())
            losses.append(batch_losses.numpy())
        return Outcome(meter.result()[self._objective.score], float(np.concatenate(losses).mean()))

    def _compute(self, inputs: Any, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        (outputs,) = tf.nest.flatten(self._model(inputs, training=False))
        return outputs, self._objective.example_losses(targets, outputs)

    def _set(self, changes: Changes) -> None:
        for name, weights in changes.items():
            layer = self._model.get_layer(name) if weights else None
            if layer is not None:
                (layer.layer if isinstance(layer, RoundedInput) else layer).set_weights(weights)

    def _observe(self) -> None:
        for layer in self._rounding.values():
            layer.observes = True
        for inputs, _ in self._batches:
            self._model(inputs, training=False)
        for layer in self._rounding.values():
            layer.observes = False


def _pack(inputs: Mapping[str, np.ndarray]) -> Any:
    """Returns one input by itself, several by name: how Keras models are called everywhere in bmp."""
    return dict(inputs) if len(inputs) > 1 else next(iter(inputs.values()))
