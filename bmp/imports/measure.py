"""The second task of an import, inside a sandbox of its own: what was written is checked, run and measured.

The process has never seen the file that was imported: whatever that did to the first one, it cannot vouch for itself.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from bmp.artifact.formats import FORMATS, Runner
from bmp.artifact.graph import read_graph
from bmp.artifact.manifest import Measurement
from bmp.artifact.proof import Latency, measure_latency
from bmp.artifact.samples import Samples, write_samples
from bmp.artifact.sizes import measure_sizes
from bmp.errors import ArtifactError, ExportError, ProofError
from bmp.imports.convert import EXAMPLES_FILE
from bmp.imports.parity import allowed_difference, measure_difference
from bmp.objectives import OBJECTIVES
from bmp.signature import Arrays, Signature

_BATCH_SIZE = 64
_NUM_SAMPLES = 16
_LATENCY_LIMIT_S = 2.0
SERVED = ("litert", "saved_model")
"""Formats that engines serve, the first choice first."""


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Runs every format that was written on the examples, and compares it with what the file's own engine answered.

    Args:
        request: `source` (the directory that `convert` wrote), `target` (a directory for the samples), `signature`,
            `labels`, `formats` and `trust`.

    Returns:
        `served`, the format to serve, `differences` by format, `left_out`, why others are not good, and `measured`, as
        `Measurement` takes it.

    Raises:
        ProofError: No format that can be served does what the file does.
    """
    source = Path(request["source"])
    signature = Signature.from_dict(request["signature"])
    inputs, expected, targets = _read_examples(source / EXAMPLES_FILE)
    runners, differences, left_out = _compare(source, request, signature, inputs, expected)
    served = next((form for form in SERVED if form in runners), None)
    if served is None:
        reasons = " ".join(f"{form}: {left_out[form]}" for form in SERVED if form in left_out)
        raise ProofError(f"The model cannot be served; nothing was published. {reasons}")
    outputs = _run(runners[served], inputs)
    few = slice(0, _NUM_SAMPLES)
    samples = Samples(
        {name: array[few] for name, array in inputs.items()},
        {name: array[few] for name, array in outputs.items()},
        None if targets is None else targets[few],
    )
    write_samples(samples, Path(request["target"]))
    metrics = _score(signature, request["labels"], outputs, targets)
    measured = _describe(source, served, runners[served], samples.inputs, differences[served], metrics, signature)
    return {"served": served, "differences": differences, "left_out": left_out, "measured": measured.model_dump()}


def _read_examples(path: Path) -> tuple[Arrays, Arrays, np.ndarray | None]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            inputs, outputs = (
                {name.removeprefix(kind): arrays[name] for name in arrays if name.startswith(kind)}
                for kind in ("input.", "output.")
            )
            return inputs, outputs, arrays.get("targets")
    except (OSError, ValueError, BadZipFile, zlib.error) as error:
        raise ArtifactError(f"The examples cannot be read back: {error}.") from error


def _compare(
    source: Path, request: Mapping[str, Any], signature: Signature, inputs: Arrays, expected: Arrays
) -> tuple[dict[str, Runner], dict[str, float], dict[str, str]]:
    runners: dict[str, Runner] = {}
    differences: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for form in request["formats"]:
        path = source / FORMATS[form].path
        try:
            if not request["trust"]:
                _check(form, path)
            runner = FORMATS[form].load(path, signature)
            difference = measure_difference(expected, _run(runner, inputs))
            _check_difference(difference, allowed_difference(expected))
        except (ArtifactError, ExportError, ProofError) as error:
            left_out[form] = error.message
        else:
            runners[form], differences[form] = runner, difference
    return runners, differences, left_out


def _check(form: str, path: Path) -> None:
    from bmp.artifact.guard import check_h5, check_litert, check_saved_model

    {"h5": check_h5, "litert": check_litert, "saved_model": check_saved_model}[form](path)


def _check_difference(difference: float, allowed: float) -> None:
    if difference > allowed:
        raise ProofError(
            f"Its outputs differ from those of the file by up to {difference:.3g}; at most {allowed:.3g} is accepted.",
            expected=f"at most {allowed:.3g}",
            received=f"{difference:.3g}",
        )


def _run(runner: Runner, inputs: Arrays) -> Arrays:
    """Runs all examples, the first of them once by itself: what works for many has to work for one.

    Raises:
        ProofError: The file does not run on them.
    """
    count = len(next(iter(inputs.values())))
    starts = [0, *range(1, count, _BATCH_SIZE)]
    try:
        parts = [
            runner.run({name: array[start:stop] for name, array in inputs.items()})
            for start, stop in zip(starts, [*starts[1:], count], strict=True)
        ]
    except (RuntimeError, ValueError, TypeError) as error:  # of an engine, about shapes
        raise ProofError(f"It does not run: {' '.join(str(error).split())[:300]}") from error
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _score(signature: Signature, labels: list[str], outputs: Arrays, targets: np.ndarray | None) -> dict[str, float]:
    if targets is None:
        return {}
    meter = OBJECTIVES[signature.objective].meter(tuple(labels))
    (answers,) = outputs.values()
    meter.update(answers, targets)
    return meter.result()


def _describe(
    source: Path,
    form: str,
    runner: Runner,
    inputs: Arrays,
    difference: float,
    metrics: dict[str, float],
    signature: Signature,
) -> Measurement:
    files = _list_files(source, form)
    sizes = measure_sizes(files)
    one, many = (_time(runner, inputs, size) for size in (1, 32))
    return Measurement(
        validation_score=None,
        test_score=metrics.get(OBJECTIVES[signature.objective].score),
        test_metrics=metrics,
        max_abs_diff=difference,
        sparsity=_measure_sparsity(files[0]) if form == "litert" else 0.0,
        size_bytes=sizes.raw_bytes,
        gzip_bytes=sizes.gzip_bytes,
        bits_bytes=sizes.bits_bytes,
        latency_batch1_ms=one.p50_ms,
        latency_batch32_ms=many.p50_ms,
        latency_batch1_p95_ms=one.p95_ms,
        latency_batch32_p95_ms=many.p95_ms,
    )


def _list_files(source: Path, form: str) -> list[Path]:
    path = source / FORMATS[form].path
    if form == "litert":
        return [path]
    return [source / "saved_model.pb", *sorted((source / "variables").iterdir())]


def _measure_sparsity(path: Path) -> float:
    kernels = [kernel.centred() for kernel in read_graph(path).kernels]
    size = sum(kernel.size for kernel in kernels)
    return sum(int(np.count_nonzero(kernel == 0)) for kernel in kernels) / size if size else 0.0


def _time(runner: Runner, inputs: Arrays, batch_size: int) -> Latency:
    return measure_latency({"it": runner}, inputs, batch_size, limit_s=_LATENCY_LIMIT_S)["it"]
