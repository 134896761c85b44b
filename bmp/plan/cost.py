"""What a model costs: numbers of weights, computation, bytes in memory and on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from bmp.errors import TrainingError
from bmp.plan.flops import Flops, count_flops
from bmp.plan.footprint import Footprint, measure_footprint
from bmp.plan.line import Line, draw_line
from bmp.plan.trace import resize, trace_forward, trace_step
from bmp.plan.units import say_bytes

if TYPE_CHECKING:
    import tf_keras as keras

BACKWARD = 2
"""The backward pass computes this many times the forward pass: a gradient for the inputs, one for the weights."""


@dataclass(frozen=True)
class Cost:
    """What a model and its optimizer cost.

    Args:
        trainable: Numbers that training changes.
        frozen: Numbers of the model that gradients do not change: statistics of normalisation, a fitted model.
        weights_bytes: Of both.
        gradient_bytes: Of the trainable ones, as dense tensors.
        optimizer_bytes: State of the optimizer, and a moving average of the weights where there is one.
        forward: Floating-point operations of a prediction for one example.
        kept: Bytes of activations kept for the backward pass, by examples.
        working: Most bytes held at a time beside weights and optimizer, by examples: activations, gradients, passing.
        pushed: Bytes of the gradients as they are, by examples: of an embedding only the rows looked up.
    """

    trainable: int
    frozen: int
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    forward: Flops
    kept: Line
    working: Line
    pushed: Line

    @property
    def checkpoint_bytes(self) -> int:
        """Weights and the state of the optimizer, on disk."""
        return self.weights_bytes + self.optimizer_bytes

    def step_flops(self, examples: int) -> int:
        """Returns the operations of a training step: forward and backward, not the update."""
        return (1 + BACKWARD) * self.forward.total * examples if self.trainable else 0

    def replica_bytes(self, examples: int, pieces: int = 1) -> int:
        """Returns the most a replica holds at a time.

        Args:
            examples: Its share of a batch.
            pieces: In which it computes the share; from two on, the sum of the gradients is held beside.
        """
        if not self.trainable:
            return self.weights_bytes
        piece = -(-examples // pieces)
        added = self.gradient_bytes if pieces > 1 else 0
        return int(self.weights_bytes + self.optimizer_bytes + self.working.at(piece) + added)


def count_cost(model: "keras.Model", batch: tuple[Any, Any], examples: int, *, averages: bool) -> Cost:
    """Counts what a model costs; its graphs are traced, no step is run.

    Args:
        model: Compiled, its optimizer built.
        batch: A batch of `(inputs, targets)`, for the shapes.
        examples: Of a batch as trained; what grows with it is looked at for this size and for a smaller one.
        averages: Whether a moving average of the weights is kept as well.
    """
    inputs, targets = batch
    prints = {size: _trace_footprint(model, inputs, targets, size) for size in {max(examples // 4, 1), examples}}
    gradient_bytes = _count_variables(model.trainable_weights)
    state = model.optimizer.variables() if callable(model.optimizer.variables) else model.optimizer.variables
    return Cost(
        trainable=_count_numbers(model.trainable_weights),
        frozen=_count_numbers(model.non_trainable_weights),
        weights_bytes=_count_variables(model.weights),
        gradient_bytes=gradient_bytes,
        optimizer_bytes=_count_variables(state) + (gradient_bytes if averages else 0),
        forward=count_flops(trace_forward(model, resize(inputs, 1))),
        kept=draw_line({size: found.kept_bytes for size, found in prints.items()}),
        working=draw_line({size: found.working_bytes for size, found in prints.items()}),
        pushed=draw_line({size: found.pushed_bytes for size, found in prints.items()}),
    )


def _trace_footprint(model: "keras.Model", inputs: Any, targets: Any, examples: int) -> Footprint:
    if not model.trainable_weights:
        return Footprint(0, 0, 0)
    return measure_footprint(trace_step(model, resize(inputs, examples), resize(targets, examples)))


def _count_numbers(variables: Any) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)


def _count_variables(variables: Any) -> int:
    return sum(int(np.prod(variable.shape)) * variable.dtype.size for variable in variables)


@contextmanager
def refuse_over(limit_bytes: int) -> Iterator[None]:
    """Stops the making of variables before they take more memory than there is, which would end this process.

    Raises:
        TrainingError: The next variable would go over the limit.
    """
    made_bytes = 0

    def create(make: Any, **options: Any) -> Any:
        nonlocal made_bytes
        made_bytes += _expect_bytes(options)
        if made_bytes > limit_bytes:
            raise TrainingError(
                f"This DOES NOT FIT: the weights and the state of the optimizer alone are {say_bytes(made_bytes)} or "
                f"more, and {say_bytes(limit_bytes)} are free. Nothing was started. Make the model smaller, or plan it "
                "on a machine with more memory.",
                expected=f"at most {say_bytes(limit_bytes)}",
                received=f"{say_bytes(made_bytes)} or more",
            )
        return make(**options)

    with tf.variable_creator_scope(create):
        yield


def _expect_bytes(options: dict[str, Any]) -> int:
    """Returns the bytes of a variable that is about to be made."""
    shape, dtype, value = options.get("shape"), options.get("dtype"), options.get("initial_value")
    if shape is None and not callable(value) and value is not None:
        value = tf.convert_to_tensor(value)
        shape, dtype = value.shape, value.dtype
    if shape is None or tf.TensorShape(shape).num_elements() is None:
        return 0  # made by a function whose result nobody knows before
    return tf.TensorShape(shape).num_elements() * tf.as_dtype(dtype or tf.float32).size
