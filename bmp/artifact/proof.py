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
class Evidence:
    """What is known of an exported file before the choice; fields as in `manifest.Measurement`."""

    validation_score: float
    max_abs_diff: float
    sparsity: float
    size_bytes: int
    gzip_bytes: int


def load_runner(path: Path, signature: Signature) -> Runner:
    """Returns the engine that serves a variant's file."""
    if path.name == SAVED_MODEL_FILE:
        return SavedModelRunner(path.parent, signature)
    return LiteRTRunner(path, signature)


def prove(exports: Sequence[Export], validation: Split) -> dict[str, Evidence]:
    """Runs each exported file on the validation split, through the engine that serves it, against its Keras model.

    Raises:
        ProofError: A float32 file does not agree with its Keras model.
    """
    evidence = {}
    for export in exports:
        difference, meter = compare(export.load(), KerasRunner(export.model, export.signature), validation)
        if not export.is_quantized:
            check_parity(export.path.name, difference)
        packed = b"".join(path.read_bytes() for path in export.files())
        evidence[export.name] = Evidence(
            validation_score=meter.result()[OBJECTIVES[export.signature.objective].score],
            max_abs_diff=difference,
            sparsity=measure_sparsity(export),
            size_bytes=len(packed),
            gzip_bytes=len(gzip.compress(packed, compresslevel=9, mtime=0)),
        )
    return evidence


def measure(exports: Sequence[Export], evidence: Mapping[str, Evidence], test: Split) -> dict[str, Measurement]:
    """Completes the evidence for the report: metrics on the untouched test split, and latency."""
    runners = {export.name: export.load() for export in exports}
    few = test.take(slice(0, 32)).load().inputs
    batch1_ms = measure_latency_ms(runners, few, 1)
    batch32_ms = measure_latency_ms(runners, few, 32)
    measured = {}
    for name, runner in runners.items():
        metrics = evaluate(runner, test).result()
        measured[name] = Measurement(
            **asdict(evidence[name]),
            test_score=metrics[OBJECTIVES[runner.signature.objective].score],
            test_metrics=metrics,
            latency_batch1_ms=batch1_ms[name],
            latency_batch32_ms=batch32_ms[name],
        )
    return measured


def evaluate(runner: Runner, split: Split) -> Meter:
    """Runs a model over a split, batch by batch, and returns what was measured."""
    meter = OBJECTIVES[runner.signature.objective].meter(split.source.target.labels)
    for batch in split.batches(_BATCH_SIZE):
        meter.update(_sole(runner.run(batch.inputs)), batch.targets)
    return meter


def compare(runner: Runner, reference: Runner, split: Split) -> tuple[float, Meter]:
    """Runs two models over a split and returns their largest difference, and what was measured of the first."""
    difference, meter = 0.0, OBJECTIVES[runner.signature.objective].meter(split.source.target.labels)
    for batch in split.batches(_BATCH_SIZE):
        outputs = runner.run(batch.inputs)
        difference = max(difference, max_abs_diff(reference.run(batch.inputs), outputs))
        meter.update(_sole(outputs), batch.targets)
    return difference, meter


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
    """Returns the share of zeros among the kernel weights of an exported file, 0 to 1.

    In int8 kernels a zero weight is stored as 0: LiteRT quantizes weights symmetrically.
    """
    if export.is_litert:
        kernels = list(read_kernels(export.path).values())
    else:
        kernels = [weight for weight in export.model.get_weights() if weight.ndim > 1]
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


def _sole(outputs: Arrays) -> np.ndarray:
    (output,) = outputs.values()
    return output
