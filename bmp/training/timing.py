"""How long a step of a model takes, measured."""

import time
from typing import TYPE_CHECKING

import numpy as np

from bmp.data.pipeline import Pipeline

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.training.trainer import Trainer

_MOST_STEPS = 10
_BUDGET_S = 1.0


def time_step(trainer: "Trainer", model: "keras.Model", *, jit: bool = False) -> float:
    """Returns the median seconds of a training step, on real batches; the first is not counted.

    Args:
        trainer: Whose data and options count.
        model: Built within the scope of its strategy; its weights change.
        jit: Whether XLA compiles the step.
    """
    trainer.compile(model, 1e-3)
    step = trainer.make_step(model)
    run = step.make_train_function(jit=jit)
    batches = iter(trainer.train_batches(Pipeline(trainer.data.train, trainer.batch_size)))
    run(batches)
    step.bad_step()
    samples: list[float] = []
    while len(samples) < _MOST_STEPS and sum(samples) < _BUDGET_S:
        start = time.perf_counter()
        run(batches)
        step.bad_step()  # a result: a GPU has only been told what to do when the call returns
        samples.append(time.perf_counter() - start)
    return float(np.median(samples))
