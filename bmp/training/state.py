"""The state of a training in the memory of its devices: taken down as arrays, and put back exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from bmp.errors import CheckpointError


class TrainState:
    """Weights, optimizer and running metrics of a model.

    What each replica keeps for itself (statistics of batch normalisation, sums of metrics) is taken down for each
    replica. All workers of a cluster have to call `take` and `put` at the same step: they exchange such values.

    Args:
        model: Compiled; its optimizer is built here.
        strategy: Where its variables live.
        others: What is trained beside the weights of the model.
    """

    def __init__(
        self, model: keras.Model, strategy: tf.distribute.Strategy, others: Sequence[tf.Variable] = ()
    ) -> None:
        self.model = model
        self.strategy = strategy
        self._others = others
        self._gatherers: dict[tuple[str, ...], Any] = {}
        with strategy.scope():
            model.optimizer.build([*model.trainable_variables, *others])

    def take(self, *, metrics: bool) -> dict[str, np.ndarray]:
        """Returns copies of all values by name; `metrics` says whether those of the running epoch are among them."""
        named = self._variables(metrics)
        own = {name: variable for name, variable in named.items() if self._is_local(variable)}
        arrays = {name: variable.numpy() for name, variable in named.items() if name not in own}
        return arrays | self._gather(own)

    def put(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives weights and optimizer the values that `take` returned.

        Raises:
            CheckpointError: They are of another model or optimizer.
        """
        named = self._variables(False)
        _check(named, arrays, ("weight/", "optimizer/", "other/"))
        self._assign(named, arrays)

    def take_weights(self) -> dict[str, np.ndarray]:
        """Returns copies of the weights alone, by name."""
        return {name: array for name, array in self.take(metrics=False).items() if name.startswith("weight/")}

    def put_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives the weights the values that `take_weights` returned.

        Raises:
            CheckpointError: They are of another model.
        """
        named = {name: variable for name, variable in self._variables(False).items() if name.startswith("weight/")}
        _check(named, arrays, ("weight/",))
        self._assign(named, arrays)

    def put_metrics(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives the metrics of the running epoch their values back, after Keras has reset them."""
        named = self._variables(True)
        self._assign({name: named[name] for name in arrays if name.startswith("metric/")}, arrays)

    def _assign(self, named: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        own = {name: variable for name, variable in named.items() if self._is_local(variable)}
        for name, variable in named.items():
            if name not in own:
                variable.assign(_spread(arrays[name], variable, 1)[0])
        self._scatter(own, arrays)

    def _variables(self, metrics: bool) -> dict[str, Any]:
        groups: dict[str, Sequence[Any]] = {
            "weight": self.model.weights,
            "optimizer": _find_optimizer_variables(self.model.optimizer),
            "other": self._others,
        }
        if metrics:
            groups["metric"] = [variable for metric in self.model.metrics for variable in metric.variables]
        return {
            f"{group}/{number:04d}": variable
            for group, variables in groups.items()
            for number, variable in enumerate(variables)
        }

    def _is_local(self, variable: Any) -> bool:
        return (
            self.strategy.num_replicas_in_sync > 1
            and variable.synchronization == tf.VariableSynchronization.ON_READ
            and hasattr(variable, "values")
        )

    def _gather(self, own: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns `(replicas, …)` for each variable."""
        if not own:
            return {}

        def collect() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            return [context.all_gather(variable.read_value()[None], axis=0) for variable in own.values()]

        names = tuple(own)
        if names not in self._gatherers:  # a new trace at every checkpoint would cost more than the checkpoint
            self._gatherers[names] = tf.function(lambda: self.strategy.run(collect))
        rows = self._gatherers[names]()
        return {
            name: self.strategy.experimental_local_results(row)[0].numpy() for name, row in zip(own, rows, strict=True)
        }

    def _scatter(self, own: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Gives each replica its row."""
        if not own:
            return
        count = self.strategy.num_replicas_in_sync
        rows = [_spread(arrays[name], variable, count) for name, variable in own.items()]

        def assign() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            for variable, values in zip(own.values(), rows, strict=True):
                variable.assign(tf.gather(tf.constant(values), replica))

        tf.function(lambda: self.strategy.run(assign))()


def _find_optimizer_variables(optimizer: Any) -> list[Any]:
    """Returns everything an optimizer remembers; `variables` alone leaves out the rate and the scale of the loss."""
    variables = list(optimizer.variables)
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner._learning_rate, tf.Variable):
        variables.append(inner._learning_rate)
    if inner is not optimizer:
        scale = optimizer._loss_scale
        variables += [scale.current_loss_scale, scale.counter]
    return variables


def _check(named: Mapping[str, Any], arrays: Mapping[str, np.ndarray], groups: tuple[str, ...]) -> None:
    """Refuses arrays of these groups that are not those of the variables; what else there is belongs to others."""
    known = {name: array for name, array in arrays.items() if name.startswith(groups)}
    for name in named.keys() | known.keys():
        variable, found = named.get(name), known.get(name)
        shape = None if variable is None else tuple(variable.shape)
        if found is not None and shape is not None and shape in (found.shape, found.shape[1:]):
            continue
        wanted = "nothing" if variable is None else f"{variable.name} {shape}"
        received = "nothing" if found is None else f"shape {found.shape}"
        raise CheckpointError(
            f"The checkpoint does not fit: at {name} it has {received} where the run has {wanted}. Resume with the "
            "model and optimizer that the run began with, or name a new run directory.",
            expected=wanted,
            received=received,
        )


def _spread(saved: np.ndarray, variable: Any, count: int) -> np.ndarray:
    """Returns a row for each of `count` replicas, `(count, …)`, of what was saved as `(replicas, …)` or `(…)`.

    For another number of replicas than before, sums go to the first, and means to all.
    """
    rows = saved if saved.ndim == len(variable.shape) + 1 else saved[None]
    if len(rows) == count:
        return rows
    if variable.aggregation == tf.VariableAggregation.SUM:
        rest = np.zeros((count - 1, *rows.shape[1:]), rows.dtype)
        return np.concatenate([rows.sum(axis=0, dtype=rows.dtype)[None], rest])
    return np.repeat(rows.mean(axis=0).astype(rows.dtype)[None], count, axis=0)
