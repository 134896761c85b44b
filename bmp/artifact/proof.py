"""Proof: an exported file is run through the engine that will serve it, and measured there."""

import gzip
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmp.artifact.formats import Runner
from bmp.artifact.h5 import KerasRunner
from bmp.artifact.litert import LiteRTRunner, read_kernels
from bmp.artifact.manifest import Measurement
from bmp.data import Split
from bmp.errors import ProofError
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
        path: The `.tflite` file.
        signature: Of the model.
        model: The Keras model it was exported from.
        is_quantized: Whether its outputs may differ from the Keras model's.
    """

    name: str
    path: Path
    signature: Signature
    model: "keras.Model"
    is_quantized: bool


@dataclass(frozen=True)
class Evidence:
    """What is known of an exported file before the choice; fields as in `manifest.Measurement`."""

    validation_accuracy: float
    max_abs_diff: float
    sparsity: float
    size_bytes: int
    gzip_bytes: int


def prove(exports: Sequence[Export], validation: Split) -> dict[str, Evidence]:
    """Runs each exported file on the validation split, through LiteRT, against its Keras model.

    Raises:
        ProofError: A float32 file does not agree with its Keras model.
    """
    evidence = {}
    for export in exports:
        outputs = run_batches(LiteRTRunner(export.path, export.signature), validation.inputs)
        expected = run_batches(KerasRunner(export.model, export.signature), validation.inputs)
        difference = max_abs_diff(expected, outputs)
        if not export.is_quantized:
            check_parity(export.path.name, difference)
        evidence[export.name] = Evidence(
            validation_accuracy=measure_accuracy(outputs, validation.targets),
            max_abs_diff=difference,
            sparsity=measure_sparsity(export.path),
            size_bytes=export.path.stat().st_size,
            gzip_bytes=len(gzip.compress(export.path.read_bytes(), compresslevel=9, mtime=0)),
        )
    return evidence


def measure(exports: Sequence[Export], evidence: Mapping[str, Evidence], test: Split) -> dict[str, Measurement]:
    """Completes the evidence for the report: accuracy on the untouched test split, and latency."""
    runners = {export.name: LiteRTRunner(export.path, export.signature) for export in exports}
    batch1_ms = measure_latency_ms(runners, test.inputs, 1)
    batch32_ms = measure_latency_ms(runners, test.inputs, 32)
    return {
        name: Measurement(
            **asdict(evidence[name]),
            test_accuracy=measure_accuracy(run_batches(runner, test.inputs), test.targets),
            latency_batch1_ms=batch1_ms[name],
            latency_batch32_ms=batch32_ms[name],
        )
        for name, runner in runners.items()
    }


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


def run_batches(runner: Runner, inputs: Arrays) -> Arrays:
    """Runs `(N, *shape)` inputs in batches of bounded size and returns `(N, *shape)` outputs."""
    count = len(next(iter(inputs.values())))
    parts = [
        runner.run({name: array[start : start + _BATCH_SIZE] for name, array in inputs.items()})
        for start in range(0, count, _BATCH_SIZE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def max_abs_diff(expected: Arrays, outputs: Arrays) -> float:
    """Returns the largest absolute difference over all outputs; infinity where one is not finite."""
    with np.errstate(invalid="ignore"):  # inf - inf; np.max, other than max, lets no NaN pass
        largest = float(np.max([np.max(np.abs(expected[name] - outputs[name])) for name in expected]))
    return largest if np.isfinite(largest) else float("inf")


def measure_accuracy(outputs: Arrays, targets: np.ndarray) -> float:
    """Returns the share of examples whose most probable class is the target, 0 to 1.

    Args:
        outputs: One output of probabilities `(N, classes)`.
        targets: Class index `(N,)`.
    """
    (probabilities,) = outputs.values()
    return float(np.mean(probabilities.argmax(axis=-1) == targets))


def measure_sparsity(path: Path) -> float:
    """Returns the share of zeros among the kernel weights of a `.tflite` file, 0 to 1.

    In int8 kernels a zero weight is stored as 0: LiteRT quantizes weights symmetrically.
    """
    kernels = read_kernels(path).values()
    size = sum(kernel.size for kernel in kernels)
    return sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels) / size if size else 0.0


def measure_latency_ms(
    runners: Mapping[str, Runner],
    inputs: Arrays,
    batch_size: int,
    *,
    turns: int = 10,
    runs: int = 30,
    limit_s: float = 10.0,
) -> dict[str, float]:
    """Returns the median time of one batch for each runner, in milliseconds.

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
    return {name: statistics.median(times) for name, times in times_ms.items()}
