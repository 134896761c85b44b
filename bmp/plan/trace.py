"""A model's graphs, traced and not run: of the forward pass, and of a training step in its three parts."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from bmp.plan.tensors import count_bytes

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class StepGraph:
    """The graph of one training step, its operations in the order in which they were made.

    Args:
        graph: All of it.
        forward_end: Operations before this one compute the loss.
        backward_end: Those from there to this one the gradients, the rest the new weights.
        pushed_bytes: Of the gradients as they are: of a gathered embedding only the rows that were looked up.
    """

    graph: Any
    forward_end: int
    backward_end: int
    pushed_bytes: int


def resize(batch: Any, examples: int) -> Any:
    """Returns the specification of a batch like this one, with so many examples."""
    return tf.nest.map_structure(lambda array: tf.TensorSpec((examples, *array.shape[1:]), array.dtype), batch)


def trace_forward(model: "keras.Model", inputs: Any) -> Any:
    """Returns the graph of a prediction."""
    function = tf.function(lambda given: model(given, training=False), autograph=False)
    return function.get_concrete_function(inputs).graph


def trace_step(model: "keras.Model", inputs: Any, targets: tf.TensorSpec) -> StepGraph:
    """Returns the graph of a training step of a compiled model whose optimizer is built."""
    marks: list[int] = []
    pushed: list[Any] = []

    def step(x: Any, y: tf.Tensor) -> None:
        graph = tf.compat.v1.get_default_graph()
        marks.clear()  # the last tracing is the one that counts
        pushed.clear()
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        marks.append(len(graph.get_operations()))
        gradients = tape.gradient(loss, model.trainable_variables)
        found = zip(gradients, model.trainable_variables, strict=True)
        pairs = [(gradient, weight) for gradient, weight in found if gradient is not None]
        marks.append(len(graph.get_operations()))
        pushed.extend(gradient for gradient, _ in pairs)
        model.optimizer.apply_gradients(pairs)

    graph = tf.function(step, autograph=False).get_concrete_function(inputs, targets).graph
    return StepGraph(graph, marks[0], marks[1], sum(map(_count_gradient, pushed)))


def _count_gradient(gradient: Any) -> int:
    if isinstance(gradient, tf.IndexedSlices):
        return count_bytes(gradient.values) + count_bytes(gradient.indices)
    return count_bytes(gradient)
