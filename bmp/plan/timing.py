"""How long a step of a model takes on this machine: a few real ones, timed."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

if TYPE_CHECKING:
    import tf_keras as keras

_FEWEST_STEPS = 3
_MOST_STEPS = 200


@dataclass(frozen=True)
class StepTime:
    """What a step takes.

    Args:
        wall_s: The median of the steps timed.
        cpu_s: Time of all cores together, a step, in this process.
        steps: How many were timed.
    """

    wall_s: float
    cpu_s: float
    steps: int


def measure_step(model: "keras.Model", batches: Sequence[Any], *, jit: bool, budget_s: float) -> StepTime:
    """Times training steps of a compiled model, whose weights they change; warm-up is not counted.

    Args:
        model: Compiled, its optimizer built.
        batches: `(inputs, targets)` in memory, all of one size, taken in turn.
        jit: Whether XLA compiles the step.
        budget_s: No step begins after that, from the third on.
    """
    step = tf.function(model.train_step, jit_compile=jit)
    for _ in range(2):  # the first traces and compiles, the second still warms up caches and threads
        _wait_for(step(batches[0]))
    walls: list[float] = []
    cpu_start, start = time.process_time(), time.perf_counter()
    while len(walls) < _FEWEST_STEPS or (time.perf_counter() - start < budget_s and len(walls) < _MOST_STEPS):
        begin = time.perf_counter()
        _wait_for(step(batches[len(walls) % len(batches)]))
        walls.append(time.perf_counter() - begin)
    return StepTime(statistics.median(walls), (time.process_time() - cpu_start) / len(walls), len(walls))


def _wait_for(results: dict[str, tf.Tensor]) -> None:
    """Returns when a step is over: its metrics are the last thing it writes."""
    for result in results.values():
        result.numpy()
