"""What a contest puts into an artifact: the files of the finalists, their figures, and the evidence."""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import yaml

import bmp
from bmp.artifact.artifact import RECOMMENDED_FILE
from bmp.artifact.manifest import Measurement, PromiseEntry
from bmp.artifact.proof import evaluate
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.compression.chain import UNCOMPRESSED
from bmp.compression.evidence.kernels import report_kernels
from bmp.compression.evidence.measure import Measurer
from bmp.compression.gate import Promise, Verdict
from bmp.compression.report import REPORT_FILE, Report, plot_front, write_json, write_page
from bmp.compression.search.contest import Contest, promise_of
from bmp.compression.search.trial import Trial
from bmp.config import Recipe
from bmp.objectives import OBJECTIVES

if TYPE_CHECKING:
    from bmp.data import Dataset


@dataclass(frozen=True)
class Publication:
    """What `bmp.artifact.seal` asks for.

    Args:
        recommended: The variant in `model.tflite`.
        places: File of every variant that is kept.
        measured: Of every finalist.
        verdicts: On every finalist.
        promise: What was promised, and whether it is proven of the recommended variant; None where that is the
            original.
    """

    recommended: str
    places: Mapping[str, Path]
    measured: Mapping[str, Measurement]
    verdicts: Mapping[str, str]
    promise: PromiseEntry | None


def write_report(report: Report, directory: Path, pictures: Mapping[str, Path] = MappingProxyType({})) -> None:
    """Writes `compression.json`, `compression.png` and `compression.html` into a directory.

    Args:
        report: What was found.
        directory: Of the artifact, its `bmp/`.
        pictures: Further PNG files for the page, by heading.
    """
    write_json(report, directory / REPORT_FILE)
    front = directory / "plots" / "compression.png"
    front.parent.mkdir(exist_ok=True)
    plot_front(report, front)
    write_page(report, directory / "compression.html", {"The front": front, **pictures})


def describe(data: "Dataset", seed: int) -> dict[str, str]:
    """Returns what the figures of a report depend on besides the model."""
    splits = {"training": data.train, "validation": data.validation, "test": data.test}
    return {
        "seed": str(seed),
        "splits": ", ".join(f"{len(split):,} {name}" for name, split in splits.items()),
        "data": f"sha256 {data.digest}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread",
        "code": f"bmp {bmp.__version__}",
    }


def make_report(name: str, contest: Contest, measurer: Measurer, recipe: Recipe, facts: Mapping[str, str]) -> Report:
    """Returns all that a contest has found, with what runs each operation of the original and the recommended one."""
    outcome = contest.outcome
    shown = dict.fromkeys([UNCOMPRESSED, outcome.recommended])
    kernels = {trial: report_kernels(measurer.path_of(outcome.trial(trial))) for trial in shown}
    promise = replace(promise_of(recipe.compress), metric=measurer.metric)
    section = yaml.safe_dump({"compress": repeat(recipe, contest).compress.model_dump(mode="json")}, sort_keys=False)
    return Report(name, outcome, promise, recipe.compress.goal, contest.ending, section, kernels, facts)


def repeat(recipe: Recipe, contest: Contest) -> Recipe:
    """Returns the recipe that makes the recommended variant again, and nothing else."""
    chain = list(contest.outcome.trial(contest.outcome.recommended).spec)
    changes = {
        "chains": [chain] if chain else [],
        "time": None,
        "max_trials": None,
        "techniques": None,
        "student": None,
    }
    return recipe.model_copy(update={"compress": recipe.compress.model_copy(update=changes)})


def lay_out(contest: Contest, measurer: Measurer, promise: Promise, artifact: Path) -> Publication:
    """Copies the files that are worth keeping into an artifact, and runs every finalist on the test split.

    Kept are the original, and what keeps the promise on the validation split and was not found to break it.
    """
    outcome = contest.outcome
    finalists = [trial for trial in outcome.trials if trial.name in contest.finalists]
    kept = [trial for trial in finalists if _is_kept(trial, contest, promise)]
    places = {trial.name: _place(trial, outcome.recommended, measurer, artifact) for trial in kept}
    return Publication(
        outcome.recommended,
        places,
        {trial.name: _measure(trial, measurer) for trial in finalists},
        {trial.name: outcome.explain(trial, promise.max_drop, measurer.metric) for trial in finalists},
        _to_entry(outcome.verdicts.get(outcome.recommended), outcome.accepted),
    )


def _is_kept(trial: Trial, contest: Contest, promise: Promise) -> bool:
    verdict = contest.outcome.verdicts.get(trial.name)
    if verdict is not None and verdict.kind == "failed":
        return False
    return trial.keeps(promise.max_drop)


def _place(trial: Trial, recommended: str, measurer: Measurer, artifact: Path) -> Path:
    source = measurer.path_of(trial)
    if source.name == SAVED_MODEL_FILE:  # of a network that LiteRT cannot hold; it stands there already
        return artifact / SAVED_MODEL_FILE
    target = artifact / RECOMMENDED_FILE
    if trial.name != recommended:
        target = artifact / "variants" / f"{trial.name}.tflite"
        target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    return target


def _measure(trial: Trial, measurer: Measurer) -> Measurement:
    """Returns the figures of a finalist, with those on the test split."""
    assert trial.latency is not None, "finalists are timed"
    data = measurer.data
    metrics = evaluate(measurer.load(trial), data.test).result()
    validation = evaluate(measurer.load(trial), data.validation).result()
    score = OBJECTIVES[data.signature.objective].score
    return Measurement(
        validation_score=validation[score],
        test_score=metrics[score],
        test_metrics=metrics,
        max_abs_diff=trial.max_abs_diff,
        sparsity=trial.sparsity,
        size_bytes=trial.raw_bytes,
        gzip_bytes=trial.gzip_bytes,
        bits_bytes=trial.bits_bytes,
        latency_batch1_ms=trial.latency[1].p50_ms,
        latency_batch32_ms=trial.latency[32].p50_ms,
        latency_batch1_p95_ms=trial.latency[1].p95_ms,
        latency_batch32_p95_ms=trial.latency[32].p95_ms,
    )


def _to_entry(verdict: Verdict | None, accepted: bool) -> PromiseEntry | None:
    if verdict is None:
        return None
    return PromiseEntry(
        metric=verdict.metric,
        max_drop=verdict.max_drop,
        confidence=verdict.confidence,
        verdict=verdict.kind,
        drop=verdict.drop,
        low=verdict.low,
        high=verdict.high,
        examples=verdict.examples,
        needed=verdict.needed,
        method=verdict.method,
        accepted_unproven=accepted,
    )
