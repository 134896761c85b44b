"""Proof: an exported file is run through the engine that will serve it, and measured there."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmp.artifact.formats import Runner
from bmp.artifact.graph import read_graph
from bmp.artifact.litert import LiteRTRunner
from bmp.artifact.saved_model import SAVED_MODEL_FILE, SavedModelRunner
from bmp.data import Split
from bmp.errors import ProofError
from bmp.objectives import OBJECTIVES, Meter
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

PARITY_TOLERANCE = 1e-4
"""Largest accepted difference of a float32 output, absolute, from the Keras model it was exported from."""

_BATCH_SIZE = 256


@dataclass(frozen=True)
class Export:
    """A variant in its file.

    Args:
        name: Of the variant.
        path: The `.tflite` file, or the `saved_model.pb` where LiteRT cannot hold the model.
        signature: Of the model.
        model: The Keras model it was exported from.
        is_quantized: Whether its outputs may differ from the Keras model's.
    """

    name: str
    path: Path
    signature: Signature
    model: "keras.Model"
    is_quantized: bool

    @property
    def is_litert(self) -> bool:
        """Whether the file is LiteRT's."""
        return self.path.name != SAVED_MODEL_FILE

    def load(self) -> Runner:
        """Returns the engine that will serve the file."""
        return load_runner(self.path, self.signature)

    def files(self) -> list[Path]:
        """Returns every file that the variant consists of."""
        if self.is_litert:
            return [self.path]
        return [self.path, *sorted(path for path in (self.path.parent / "variables").iterdir() if path.is_file())]


@dataclass(frozen=True)
class Latency:
    """How long one batch takes: the median, and what nineteen of twenty stay below."""

    p50_ms: float
    p95_ms: float


def load_runner(path: Path, signature: Signature) -> Runner:
    """Returns the engine that serves a variant's file."""
    if path.name == SAVED_MODEL_FILE:
        return SavedModelRunner(path.parent, signature)
    return LiteRTRunner(path, signature)


def evaluate(runner: Runner, split: Split) -> Meter:
    """Runs a model over a split, batch by batch, and returns what was measured."""
    meter = OBJECTIVES[runner.signature.objective].meter(split.source.target.labels)
    for batch in split.batches(_BATCH_SIZE):
        meter.update(_sole(runner.run(batch.inputs)), batch.targets)
    return meter


def compare(runner: Runner, reference: Runner, split: Split) -> float:
    """Runs two models over a split and returns their largest difference, see `max_abs_diff`."""
    difference = 0.0
    for batch in split.batches(_BATCH_SIZE):
        difference = max(difference, max_abs_diff(reference.run(batch.inputs), runner.run(batch.inputs)))
    return difference


def check_parity(what: str, difference: float) -> None:
    """Checks the largest absolute difference of a float32 file from its Keras model.

    Raises:
        ProofError: It is over PARITY_TOLERANCE.
    """
    if difference > PARITY_TOLERANCE:
        raise ProofError(
            f"{what} differs from the Keras model by up to {difference:.3g}; at most {PARITY_TOLERANCE:g} is "
            "accepted. Nothing was published.",
            expected=f"at most {PARITY_TOLERANCE:g}",
            received=f"{difference:.3g}",
        )


def max_abs_diff(expected: Arrays, outputs: Arrays) -> float:
    """Returns the largest absolute difference over all outputs; infinity where one is not finite."""
    with np.errstate(invalid="ignore"):  # inf - inf; np.max, other than max, lets no NaN pass
        largest = float(np.max([np.max(np.abs(expected[name] - outputs[name])) for name in expected]))
    return largest if np.isfinite(largest) else float("inf")


def measure_sparsity(export: Export) -> float:
    """Returns the share of zeros among the kernel weights of an exported file, 0 to 1."""
    if export.is_litert:
        kernels = [kernel.centred() for kernel in read_graph(export.path).kernels]
    else:
        kernels = [weight for weight in export.model.get_weights() if weight.ndim > 1]
    size = sum(kernel.size for kernel in kernels)
    return sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels) / size if size else 0.0


def measure_latency(
    runners: Mapping[str, Runner],
    inputs: Arrays,
    batch_size: int,
    *,
    turns: int = 10,
    runs: int = 30,
    limit_s: float = 10.0,
) -> dict[str, Latency]:
    """Returns the time of one batch for each runner.

    The runners take turns, so that a busy moment of the machine falls on all of them alike.

    Args:
        runners: By name.
        inputs: Examples the batch is made of.
        batch_size: Of the batch.
        turns: Of each runner.
        runs: In a turn.
        limit_s: A slow model has fewer turns, three at the least, and shorter ones, so that it takes about
            this long in all.
    """
    batch = {name: np.resize(array, (batch_size, *array.shape[1:])) for name, array in inputs.items()}
    times_ms: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        runner.run(batch)  # allocates
    clock = time.perf_counter
    deadline, turn_s = clock() + limit_s, limit_s / (turns * len(runners))
    for turn in range(turns):
        if turn >= 3 and clock() > deadline:
            break
        for name, runner in runners.items():
            end_of_turn = clock() + turn_s
            for _ in range(runs):
                start = clock()
                runner.run(batch)
                times_ms[name].append((clock() - start) * 1e3)
                if clock() > end_of_turn:
                    break
    return {name: Latency(*map(float, np.percentile(times, (50, 95)))) for name, times in times_ms.items()}


def _sole(outputs: Arrays) -> np.ndarray:
    (output,) = outputs.values()
    return output
