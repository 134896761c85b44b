"""The plan of a training: what it costs, where it fits, how fast it will be; nothing is trained or written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from rich.console import Console

from bmp.builders import look_up
from bmp.config import Recipe, load_recipe
from bmp.data import Split, load_data
from bmp.data.pipeline import Pipeline
from bmp.durations import Clock
from bmp.plan.cost import Cost, count_cost
from bmp.plan.fit import Fit, Load, judge
from bmp.plan.line import draw_line
from bmp.plan.machine import Machine, read_free_bytes, read_machine, read_own_bytes
from bmp.plan.model import build_compiled
from bmp.plan.network import Network, measure_loopback
from bmp.plan.scaling import Pace, Prediction, choose_replicas, predict_strong, predict_weak
from bmp.plan.timing import StepTime, measure_step
from bmp.training.trainer import check_replicas

if TYPE_CHECKING:
    import tf_keras as keras

_BATCHES_TIMED = 3
_BUDGET_S = 2.0
"""For the steps of one size; two sizes are timed."""
_BYTES_A_READ = 4 << 20
_BYTES_OF_VALIDATION = 64 << 20
"""What the input pipeline reads at a time, and the largest validation split that it keeps."""


@dataclass(frozen=True)
class Speed:
    """How fast the training will be.

    Args:
        pace: Of this machine.
        network: Between replicas.
        steps_timed: How many real steps that is from.
        strong: The same global batch over more and more replicas.
        weak: The same batch a replica.
        best: Of `strong`, what is recommended.
    """

    pace: Pace
    network: Network
    steps_timed: int
    strong: list[Prediction]
    weak: list[Prediction]
    best: Prediction


@dataclass(frozen=True)
class Plan:
    """All that is known of a training before it starts.

    Args:
        recipe: What is planned.
        model: Its name.
        batch: Examples of a step, over all replicas.
        replicas: On this machine, as the recipe is written.
        total_steps: Of the training; 0 where the builder fits the model itself.
        pieces: `train.accumulate` as planned: the recipe's, or the least that fits.
        machine: This one.
        cost: Of the model.
        batch_bytes: Of a batch, inputs and targets.
        pipeline_bytes: On their way to the model, at most.
        process_bytes: Held by Python, TensorFlow and the data, beside the model.
        fits: A verdict for each device the recipe would use, then for the others.
        speed: None where there is nothing to train, or where it fits nowhere.
    """

    recipe: Recipe
    model: str
    batch: int
    replicas: int
    total_steps: int
    pieces: int
    machine: Machine
    cost: Cost
    batch_bytes: int
    pipeline_bytes: int
    process_bytes: int
    fits: list[Fit]
    speed: Speed | None

    @property
    def fits_as_written(self) -> bool:
        """Whether every device that the recipe would use has room for it."""
        return all(fit.fits_as_written for fit in self.fits if fit.is_used)

    @property
    def share(self) -> int:
        """Examples of a step on one replica."""
        return -(-self.batch // self.replicas)


def make_plan(
    recipe: Recipe | str, *, most_replicas: int = 8, network: Network | None = None, console: Console | None = None
) -> Plan:
    """Plans what a recipe describes: reads its data, builds its model, traces it and times a few steps.

    Args:
        recipe: A recipe, or the name or path of one.
        most_replicas: The last row of the predictions.
        network: Between machines like this one; by default workers are on this machine, and loopback is measured.
        console: Where progress is shown; None shows nothing.

    Raises:
        ConfigError: The recipe cannot be carried out.
        DataError: The examples cannot be used.
        TrainingError: Weights and optimizer alone are more than the memory there is.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    build = look_up(recipe)
    machine = read_machine()
    data = load_data(build.data, recipe.data, recipe.seed, console=console)
    pipeline = Pipeline(data.train, len(data.train) if recipe.data.batch_size == "all" else recipe.data.batch_size)
    replicas = _count_replicas(recipe, machine, pipeline.batch_size)
    total_steps = recipe.train.steps or recipe.train.epochs * pipeline.steps_per_epoch
    clock = Clock(total_steps, pipeline.steps_per_epoch)
    batches = _take_batches(pipeline, recipe.seed)
    process_bytes = read_own_bytes()
    model = build_compiled(recipe, build, data, clock=clock, free_bytes=read_free_bytes())

    share = -(-pipeline.batch_size // replicas)
    cost = count_cost(model, batches[0], share, averages=recipe.train.weight_average is not None)
    batch_bytes = _count_bytes(batches[0])
    pipeline_bytes = _bound_pipeline(batch_bytes, data.validation, batch_bytes / pipeline.batch_size, machine.cores)
    load = Load(share, min(recipe.train.accumulate, share), replicas, process_bytes + pipeline_bytes)
    fits = _judge_all(machine, cost, load)
    pieces = _choose_pieces(fits)
    return Plan(
        recipe=recipe,
        model=model.name,
        batch=pipeline.batch_size,
        replicas=replicas,
        total_steps=total_steps if cost.trainable else 0,
        pieces=pieces or load.pieces,
        machine=machine,
        cost=cost,
        batch_bytes=batch_bytes,
        pipeline_bytes=pipeline_bytes,
        process_bytes=process_bytes,
        fits=fits,
        speed=_predict(
            cost,
            _time_pieces(model, batches, -(-share // pieces), jit=recipe.train.jit is True),
            machine,
            network or measure_loopback(),
            batch=pipeline.batch_size,
            pieces=pieces,
            most=most_replicas,
        )
        if pieces and cost.trainable
        else None,
    )


def _count_replicas(recipe: Recipe, machine: Machine, batch: int) -> int:
    """Returns the replicas of this process, as the recipe is written."""
    mirrored = recipe.distribution.strategy != "one_device"
    replicas = recipe.distribution.cpu_replicas or (max(len(machine.gpus), 1) if mirrored else 1)
    check_replicas(batch, replicas)
    return replicas


def _take_batches(pipeline: Pipeline, seed: int) -> list[tuple[Any, Any]]:
    """Reads the first batches of the training, as it will see them; all of one size."""
    full = min(_BATCHES_TIMED, max(len(pipeline.split) // pipeline.batch_size, 1))
    with pipeline.naming_failures():
        return [(batch[0], batch[1]) for batch in pipeline.shuffled(seed).take(full)]


def _count_bytes(batch: Any) -> int:
    arrays = [array for array in tf.nest.flatten(batch) if array.dtype != tf.string]
    return sum(int(np.prod(array.shape)) * array.dtype.size for array in arrays)


def _bound_pipeline(batch_bytes: int, validation: Split, example_bytes: float, cores: float) -> int:
    """Returns what the input pipeline holds at most: a read for each core, as read and as transformed, one batch
    waiting, and the validation split where it is small enough to be kept.
    """
    kept = len(validation) * example_bytes
    reads = 2 * math.ceil(cores) * max(batch_bytes, min(_BYTES_A_READ, 512 * example_bytes))
    return int(reads + batch_bytes + (kept if kept <= _BYTES_OF_VALIDATION else 0))


def _judge_all(machine: Machine, cost: Cost, load: Load) -> list[Fit]:
    """Returns a verdict for each device: replicas are on the GPUs where there are any, else in memory."""
    if not machine.gpus:
        return [judge(machine.memory, cost, load)]
    beside = Load(load.examples, load.pieces, 0, load.beside_bytes)  # the process, beside its replicas on the GPUs
    on_gpu = Load(load.examples, load.pieces)
    fits = [judge(gpu, cost, on_gpu, is_used=place < load.replicas) for place, gpu in enumerate(machine.gpus)]
    return [*fits, judge(machine.memory, cost, beside)]


def _choose_pieces(fits: list[Fit]) -> int | None:
    """Returns the pieces in which a share fits into every device that is used; None if it does not at all."""
    used = [fit for fit in fits if fit.is_used]
    return max(fit.pieces or 1 for fit in used) if all(fit.fits_as_written or fit.pieces for fit in used) else None


def _time_pieces(model: "keras.Model", batches: Sequence[Any], piece: int, *, jit: bool) -> dict[int, StepTime]:
    """Times steps of a piece, and of a smaller one, to tell what a step costs at all events from what examples cost."""
    sizes = sorted({max(piece // 4, 1), piece})
    return {size: measure_step(model, _cut(batches, size), jit=jit, budget_s=_BUDGET_S) for size in sizes}


def _predict(
    cost: Cost,
    times: dict[int, StepTime],
    machine: Machine,
    network: Network,
    *,
    batch: int,
    pieces: int,
    most: int,
) -> Speed:
    pace = Pace(
        draw_line({size: found.wall_s for size, found in times.items()}),
        draw_line({size: max(found.cpu_s, found.wall_s) for size, found in times.items()}),
        machine.cores if network.is_local and not machine.gpus else None,
    )
    if network.is_local and machine.gpus:
        most = min(most, len(machine.gpus))
    strong = predict_strong(cost, pace, network, batch=batch, pieces=pieces, most=most)
    weak = predict_weak(cost, pace, network, batch=batch, pieces=pieces, most=most)
    steps_timed = sum(found.steps for found in times.values())
    return Speed(pace, network, steps_timed, strong, weak, choose_replicas(strong))


def _cut(batches: Sequence[Any], examples: int) -> list[Any]:
    return [tf.nest.map_structure(lambda array: array[:examples], batch) for batch in batches]
