"""The measuring of trials: each form exported, checked and run, as the user of its file will run it."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bmp.artifact.artifact import export_variant
from bmp.artifact.formats import Runner
from bmp.artifact.h5 import KerasRunner
from bmp.artifact.proof import (
    Export,
    Latency,
    check_parity,
    compare,
    load_runner,
    measure_latency,
    measure_sparsity,
)
from bmp.artifact.sizes import measure_sizes
from bmp.compression.chain import UNCOMPRESSED, Chain
from bmp.compression.evidence.integrity import check_patterns
from bmp.compression.gate import Paired, Record, measure_metric, point_drop, record
from bmp.compression.search.trial import Trial
from bmp.compression.search.workbench import Made
from bmp.compression.technique import Form, Workshop
from bmp.errors import ArtifactError, ExportError, ProofError
from bmp.objectives import pick_metric
from bmp.storage import write_atomically
from bmp.training.precision import full_float32

if TYPE_CHECKING:
    from bmp.data import Dataset

BATCH_SIZES = (1, 32)


class Measurer:
    """Exports forms into a directory and measures them on the validation split.

    Args:
        data: Whose validation split is run.
        workshop: Draws the examples that calibrate.
        metric: That the promise speaks of; `auto` is the score of the objective.
        directory: For the exported files, and for what is kept for a later call.

    Raises:
        UnknownNameError: The objective has no such metric.
    """

    def __init__(self, data: "Dataset", workshop: Workshop, metric: str, directory: Path) -> None:
        self.data = data
        self.metric = pick_metric(metric, data.signature.objective, data.labels)
        self.directory = directory
        self._workshop = workshop
        self._export: Export | None = None
        self._original: Record | None = None

    def measure_original(self, export: Export) -> Trial:
        """Measures the uncompressed model, which all others are held against; comes first.

        Raises:
            ProofError: The file does not do what the model does.
        """
        self._export = export
        self._original = record(export.load(), self.data.validation)
        return self._describe(export, self._original, Trial(UNCOMPRESSED))

    def measure(self, made: Made, key: str, *, is_final: bool = True, is_timed: bool = False) -> Trial:
        """Exports a form and measures the file.

        Args:
            made: What was made of a chain.
            key: Digest that the result is found by again.
            is_final: Whether it had all its epochs.
            is_timed: Whether its latency is wanted now, beside that of the original.
        """
        began = time.perf_counter()
        if made.form is None:
            return self._fail(made, made.failure or "", is_final)
        try:
            export = self._write(made.chain, made.form, key)
            check_patterns(export.path, made.form.patterns, made.form.model)
            found = record(export.load(), self.data.validation)
            plan = Trial(made.chain.name, tuple(made.chain.to_spec()), epochs=made.epochs, notes=made.form.notes)
            trial = replace(self._describe(export, found, plan), is_final=is_final)
        except (ExportError, ProofError, ArtifactError) as error:
            return self._fail(made, error.message, is_final)
        if is_timed:
            trial = trial.timed(self._time(export))
        trial = replace(trial, duration_s=time.perf_counter() - began)
        self._keep(trial, key)
        return trial

    def recall(self, key: str) -> Trial | None:
        """Returns the trial of an earlier call, if its file is still there."""
        try:
            trial = Trial.from_json(json.loads(self._note_of(key).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # it is measured anew
        found = trial.file is not None and (self.directory / "variants" / trial.file).is_file()
        return replace(trial, duration_s=0.0) if found else None

    def load(self, trial: Trial) -> Runner:
        """Returns the engine that runs the file of a trial."""
        return load_runner(self.path_of(trial), self.data.signature)

    def path_of(self, trial: Trial) -> Path:
        """Returns the exported file of a trial."""
        assert trial.file is not None and self._export is not None, "a failure has no file"
        return self._export.path if trial.name == UNCOMPRESSED else self.directory / "variants" / trial.file

    def _write(self, chain: Chain, form: Form, key: str) -> Export:
        storage = form.storage
        calibration = self._workshop.calibration(storage.calibration_examples) if storage.is_calibrated else None
        name = f"{chain.name}-{key[:8]}"
        return export_variant(name, form.model, self.data.signature, self.directory, storage, calibration)

    def _describe(self, export: Export, found: Record, plan: Trial) -> Trial:
        """Returns a trial with the figures of its file.

        Raises:
            ProofError: Its outputs are not finite, or those of a float32 file are not the model's.
        """
        with full_float32():
            difference = compare(export.load(), KerasRunner(export.model, self.data.signature), self.data.validation)
        if not export.is_quantized:
            check_parity(export.path.name, difference)
        assert self._original is not None, "the original is measured first"
        drop = point_drop(Paired(self._original, found), self.metric)
        if not math.isfinite(drop):
            raise ProofError(f"The file {export.path.name} gives outputs that are not finite.")
        sizes = measure_sizes(export.files())
        return replace(
            plan,
            file=export.path.name,
            score=measure_metric(found, self.metric),
            drop=drop,
            max_abs_diff=difference,
            sparsity=measure_sparsity(export),
            raw_bytes=sizes.raw_bytes,
            gzip_bytes=sizes.gzip_bytes,
            bits_bytes=sizes.bits_bytes or sizes.raw_bytes,
        )

    def _time(self, export: Export) -> dict[int, Latency]:
        """Times a file beside the original, which tells a slow moment of the machine from a slow file."""
        assert self._export is not None, "the original is measured first"
        few = self.data.validation.take(slice(0, BATCH_SIZES[-1])).load().inputs
        runners = {"original": self._export.load(), "trial": export.load()}
        return {size: measure_latency(runners, few, size, turns=5, limit_s=1.0)["trial"] for size in BATCH_SIZES}

    def _keep(self, trial: Trial, key: str) -> None:
        write_atomically(self._note_of(key), json.dumps(trial.to_json()).encode())

    def _note_of(self, key: str) -> Path:
        """Returns where the figures of a trial are kept, which are another for each metric."""
        return self.directory / f"{key}-{self.metric}.json"

    def _fail(self, made: Made, failure: str, is_final: bool) -> Trial:
        spec = tuple(made.chain.to_spec())
        return Trial(made.chain.name, spec, epochs=made.epochs, is_final=is_final, failure=failure)


def time_all(runners: Mapping[str, Runner], data: "Dataset") -> dict[str, dict[int, Latency]]:
    """Returns the latency of each file by batch size, all of them taking turns, one thread each."""
    few = data.validation.take(slice(0, BATCH_SIZES[-1])).load().inputs
    by_size = {size: measure_latency(runners, few, size) for size in BATCH_SIZES}
    return {name: {size: by_size[size][name] for size in BATCH_SIZES} for name in runners}
