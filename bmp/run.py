"""The whole flow, one line a stage: load, train, compress, export, prove, choose, publish."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from bmp.artifact.artifact import RECIPE_FILE, export_variant, seal, write_uncompressed
from bmp.artifact.formats import Runner
from bmp.artifact.manifest import Manifest
from bmp.artifact.plots import plot_confusion
from bmp.artifact.proof import Export, evaluate
from bmp.artifact.table import build_table, explain_verdicts, say_metrics, to_rows
from bmp.attempt import Attempt, find_attempt
from bmp.builders import Builders, check_alone, look_up
from bmp.compression.chain import UNCOMPRESSED, Chain, read_chains
from bmp.compression.evidence.measure import Measurer
from bmp.compression.evidence.publication import describe, lay_out, make_report, write_report
from bmp.compression.search.contest import hold_contest, promise_of
from bmp.compression.search.space import plan_search
from bmp.compression.search.workbench import Made, Workbench, open_workbench
from bmp.config import Recipe, TrainConfig, load_recipe
from bmp.data import Dataset, load_data
from bmp.distribution.cluster import Cluster
from bmp.distribution.strategies import Chosen, describe_devices, serve_cluster
from bmp.durations import Clock
from bmp.errors import ConfigError, ExportError
from bmp.models import build_model
from bmp.objectives import OBJECTIVES, pick_metric
from bmp.registry import Registry, Version
from bmp.runs import RunDirectory
from bmp.training import History, Trainer
from bmp.training.copies import copy_model, digest_weights, needs_copy
from bmp.training.history import plot_history, write_history
from bmp.training.precision import full_float32
from bmp.training.trainer import Place, check_every, check_replicas

if TYPE_CHECKING:
    import tf_keras as keras


@dataclass(frozen=True)
class Run:
    """What a run leaves behind.

    Args:
        directory: Resolved recipe, history (CSV and PNG) and the table of variants (JSON).
        version: What was published.
        manifest: Of that version; `manifest.variants` is the table.
        history: Every epoch, fine-tuning included.
        data: The examples, split.
        model: The uncompressed Keras model.
        exit_code: What the process should end with: 130 or 143 where a signal ended the search, with the best so far
            published; otherwise 0.
    """

    directory: Path
    version: Version
    manifest: Manifest
    history: History
    data: Dataset
    model: "keras.Model"
    exit_code: int = 0


def run(
    recipe: Recipe | str,
    *,
    run_dir: str | Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> Run | None:
    """Trains, compresses, proves and publishes what a recipe describes.

    In a cluster every process calls it; all train, the chief alone exports and publishes.

    Args:
        recipe: A recipe, or the name or path of one.
        run_dir: A new or empty directory, or that of a run that ended early, which then goes on; by default a new one
            under `runs/`.
        resume: Whether to go on with the last unfinished run of this model.
        console: Where progress is shown; by default standard output.

    Returns:
        What the run leaves behind; None in a process that is not the chief.

    Raises:
        ConfigError: The recipe cannot be carried out; nothing has been written.
        DataError: The examples cannot be used; nothing has been written.
        TrainingError: The loss is no longer finite.
        CheckpointError: The disk is full, or no checkpoint can be read.
        StoppedError: The process was asked to stop; what it had done is on the disk.
        ExportError: The model cannot be exported.
        ProofError: An exported file does not do what the model does; nothing was published.
        RegistryError: The registry cannot be written to.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    build = look_up(recipe)
    chains = read_chains(recipe.compress.chains)
    candidates = plan_search(recipe.compress)
    attempt = find_attempt(recipe, run_dir, resume, console)
    if candidates is not None:
        check_alone(attempt.cluster)
    if attempt.serves:
        serve_cluster(attempt.cluster, lambda: _open_for_worker(recipe, build, attempt.cluster))
    data = load_data(build.data, recipe.data, recipe.seed, console=attempt.console)
    pick_metric(recipe.compress.metric, data.signature.objective, data.labels)  # refused now, or after the training
    chosen = _start_tensorflow(recipe, build, attempt)
    trainer = Trainer(
        data,
        chosen.strategy,
        build_optimizer=build.optimizer,
        batch_size=len(data.train) if recipe.data.batch_size == "all" else recipe.data.batch_size,
        seed=recipe.seed,
        console=attempt.console,
        config=recipe.train,
        place=Place(attempt.directory.path, attempt.cluster, attempt.report, attempt.stop),
    )
    check_replicas(trainer.batch_size, chosen.strategy.num_replicas_in_sync)
    policy = _choose_precision(recipe, build, attempt, trainer, chosen)
    model = _build_model(recipe, build, trainer, policy)
    epochs, stretch = _divide_steps(recipe.train, trainer)
    learning_rate = build.schedule(recipe.train.learning_rate, trainer.clock(epochs, stretch))
    registry = Registry(recipe.publish.root)
    registry.check_writable()
    attempt.begin(recipe, {"data": data.digest, "precision": policy}, trainer.objective.score)
    with attempt.recorded():
        attempt.tell_environment(describe_devices(chosen.strategy))
        _say_plan(attempt.console, recipe, data, model, chosen)
        with attempt.stop.listening():
            history = _train(recipe.train, trainer, model, epochs, stretch, learning_rate)
            if needs_copy(chosen.strategy, policy):
                model = copy_model(model, lambda: build_model(build.model, data.signature, data.train))
            bench = open_workbench(model, recipe, trainer)
            asked = bench.make_all(chains)
        if not attempt.cluster.is_chief:
            attempt.wait_for_chief()
            return None
        attempt.report("finishing", "export", 0, 0, {})
        return _conclude(recipe, attempt, model, bench, asked, candidates, history, registry)


def _conclude(
    recipe: Recipe,
    attempt: Attempt,
    model: "keras.Model",
    bench: Workbench,
    asked: list[Made],
    candidates: list[Chain] | None,
    history: History,
    registry: Registry,
) -> Run:
    """Exports, proves, chooses and publishes; by the chief alone."""
    console, directory, data = attempt.console, attempt.directory, bench.workshop.trainer.data
    artifact, trials = directory.artifact, directory.trials
    for leftover in (artifact, trials):  # of an attempt that ended in the middle of it
        shutil.rmtree(leftover, ignore_errors=True)
        leftover.mkdir()
    with console.status("exporting and proving"), full_float32():
        uncompressed, notes = write_uncompressed(model, data.signature, artifact, data.validation)
        original, remarks = _export_original(model, uncompressed, data, trials)
    measurer = Measurer(data, bench.workshop, recipe.compress.metric, trials)
    with attempt.stop.listening(), attempt.stop.within(recipe.compress.time_s):
        contest = hold_contest(
            original,
            asked,
            measurer,
            recipe.compress,
            console,
            bench=bench,
            chains=candidates,
            seed=recipe.seed,
        )
    history.extend(bench.history)
    write_history(history, directory.history_file)
    promise = promise_of(recipe.compress)
    with console.status("measuring on the test split"):
        publication = lay_out(contest, measurer, promise, artifact)
        plots = _plot(directory, history, measurer.load(contest.outcome.trial(publication.recommended)), data)
    _add_records(directory, artifact, plots)
    if original.is_litert:
        facts = describe(data, recipe.seed)
        write_report(make_report(recipe.publish.name, contest, measurer, recipe, facts), artifact / "bmp")
    manifest = seal(
        artifact,
        name=recipe.publish.name,
        created=datetime.now(UTC),
        data=data,
        recommended=publication.recommended,
        max_drop=promise.max_drop,
        verdicts=publication.verdicts,
        places=publication.places,
        measured=publication.measured,
        promise=publication.promise,
        run=attempt.run_id,
    )
    directory.variants_file.write_text(json.dumps(to_rows(manifest), indent=2) + "\n", encoding="utf-8")
    version = _find_published(registry, recipe.publish.name, attempt) or registry.publish(artifact, recipe.publish.name)
    shutil.rmtree(artifact)  # published now; the run directory keeps the records
    shutil.rmtree(trials)
    attempt.finish(f"{version.name}/{version.number}")
    digest = digest_weights(model.get_weights())
    failures = [f"No variant {t.name}: {t.failure}" for t in contest.outcome.trials if t.failure is not None]
    _say_result(console, directory.path, manifest, version, registry, [*notes, *remarks, *failures], digest)
    return Run(directory.path, version, manifest, history, data, model, contest.exit_code or 0)


def _find_published(registry: Registry, name: str, attempt: Attempt) -> Version | None:
    """Returns what an attempt published that was ended before it could write that down."""
    if not attempt.is_resumed:
        return None
    for number in reversed(registry.versions(name)):
        version = registry.get(name, number)
        if version.read_manifest().lineage.run == attempt.run_id:
            return version
    return None


def _open_for_worker(recipe: Recipe, build: Builders, cluster: Cluster) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Returns what reads training examples for a coordinator; each worker goes through them from another place on."""
    data = load_data(build.data, recipe.data, recipe.seed)
    from bmp.data.pipeline import Pipeline

    pipeline, count = Pipeline(data.train, len(data.train)), len(data.train)
    start = cluster.task_index * count // len(cluster.spec["worker"])
    return lambda positions: pipeline.fetch((positions + start) % count)


def _start_tensorflow(recipe: Recipe, build: Builders, attempt: Attempt) -> Chosen:
    """Builds the strategy, which must come before anything else that TensorFlow does."""
    check_every(recipe.train, attempt.cluster.num_processes)
    with attempt.console.status("starting TensorFlow"):
        import tensorflow as tf

        chosen: Chosen = build.strategy(attempt.cluster, recipe.distribution.cpu_replicas)
        if recipe.train.deterministic:
            tf.config.experimental.enable_op_determinism()
    return chosen


def _choose_precision(recipe: Recipe, build: Builders, attempt: Attempt, trainer: Trainer, chosen: Chosen) -> str:
    """Returns the policy of Keras; a run that goes on keeps the one it began with."""
    from bmp.training.precision import choose_precision, read_hardware
    from bmp.training.timing import time_step

    def measure() -> float:
        """Returns the speed of bfloat16 over that of float32, for this very model."""
        with attempt.console.status("timing precisions"):
            plain, mixed = (
                time_step(trainer, _build_model(recipe, build, trainer, policy), jit=recipe.train.jit is True)
                for policy in ("float32", "mixed_bfloat16")
            )
        return plain / mixed

    wanted = attempt.began_with("precision") or recipe.train.precision
    may_time = not recipe.train.deterministic and attempt.cluster.num_processes == 1
    on_gpus = "GPU" in " ".join(describe_devices(chosen.strategy))
    policy, why = choose_precision(
        wanted, chosen.name, read_hardware(use_gpus=on_gpus), may_time=may_time, measure=measure
    )
    if recipe.train.precision != "float32":
        attempt.console.print(f"precision: {policy}: {why}", highlight=False, soft_wrap=True)
    return policy


def _build_model(recipe: Recipe, build: Builders, trainer: Trainer, policy: str) -> "keras.Model":
    """Builds the model in a precision, with the initial weights that follow from the seed."""
    import tf_keras as keras

    from bmp.training.precision import computing_in

    keras.utils.set_random_seed(recipe.seed)
    with computing_in(policy), trainer.strategy.scope():
        return build_model(build.model, trainer.data.signature, trainer.data.train)


def _divide_steps(config: TrainConfig, trainer: Trainer) -> tuple[int, int]:
    """Returns validations, and the steps before each.

    Raises:
        ConfigError: `train.validate_every` does not divide the training.
    """
    total = config.steps or config.epochs * trainer.steps_per_epoch
    if config.validate_every is None:
        stretch = total if config.steps else trainer.steps_per_epoch
    elif isinstance(config.validate_every, int):
        stretch = config.validate_every
    else:
        stretch = Clock(total, trainer.steps_per_epoch).to_steps(config.validate_every)
    if not stretch or total % stretch:
        raise ConfigError(
            f"train.validate_every is '{config.validate_every}', {stretch:,} steps; it must divide the training, which "
            f"has {total:,} steps.",
            expected=f"a divisor of {total}",
            received=str(stretch),
        )
    return total // stretch, stretch


def _train(
    config: TrainConfig, trainer: Trainer, model: "keras.Model", epochs: int, stretch: int, learning_rate: Any
) -> History:
    """Fits a model; one that its builder has fitted already has no trainable weight, and stays as it is."""
    if not model.trainable_weights:
        return History()
    from bmp.training.callbacks import KeepBest

    return trainer.fit(
        model,
        epochs=epochs,
        steps_per_epoch=stretch,
        learning_rate=learning_rate,
        average=config.weight_average,
        early_stopping=config.early_stopping,
        callbacks=[KeepBest(trainer.objective.score)] if config.keep == "best" else [],
    )


def _export_original(
    model: "keras.Model", uncompressed: Export, data: Dataset, directory: Path
) -> tuple[Export, list[str]]:
    """Writes the model for LiteRT. Of one that LiteRT cannot hold, the SavedModel is the only variant."""
    try:
        return export_variant(UNCOMPRESSED, model, data.signature, directory), []
    except ExportError as error:
        return uncompressed, [f"{error.message} It is served as SavedModel, and no variant is made."]


def _plot(directory: RunDirectory, history: History, recommended: Runner, data: Dataset) -> list[Path]:
    """Draws what a run has to show: its epochs, and where the recommended file errs on the test split."""
    plots = []
    if len(history):
        plots.append(directory.history_plot)
        plot_history(history, OBJECTIVES[data.signature.objective].score, plots[-1])
    confusion = evaluate(recommended, data.test).confusion()
    if confusion is not None:
        plots.append(directory.confusion_plot)
        plot_confusion(confusion, data.labels, plots[-1])
    return plots


def _add_records(directory: RunDirectory, artifact: Path, plots: list[Path]) -> None:
    (artifact / "bmp" / "plots").mkdir(parents=True)
    shutil.copy(directory.recipe_file, artifact / RECIPE_FILE)
    shutil.copy(directory.history_file, artifact / "bmp" / "history.csv")
    for plot in plots:
        shutil.copy(plot, artifact / "bmp" / "plots" / plot.name)


def _say_plan(console: Console, recipe: Recipe, data: Dataset, model: "keras.Model", chosen: Chosen) -> None:
    splits = f"{len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test examples"
    for line in _to_remarks(data):
        console.print(line, highlight=False, soft_wrap=True)
    replicas = chosen.strategy.num_replicas_in_sync
    where = f"{chosen.name}, {replicas} replica{'s' if replicas > 1 else ''}"
    if recipe.distribution.strategy == "auto":
        where += f" ({chosen.reason})"
    console.print(
        f"{recipe.publish.name}: {splits}; {model.name} of {model.count_params():,} parameters; {where}",
        highlight=False,
        soft_wrap=True,
    )


def _to_remarks(data: Dataset) -> list[str]:
    """Returns what a person should know of the examples, one sentence each."""
    report, lines = data.report, []
    if report.bad:
        first = report.bad[0]
        lines.append(
            f"left out: {len(report.bad):,} of {report.examples:,} examples; the first: {first.where}: {first.reason}"
        )
    if report.duplicates:
        lines.append(f"copies of other examples: {report.duplicates:,}; each stands in the split of the first")
    if report.dropped:
        lines.append(f"left out of a split because a later one holds the same content: {report.dropped:,}")
    return lines


def _say_result(
    console: Console,
    directory: Path,
    manifest: Manifest,
    version: Version,
    registry: Registry,
    notes: list[str],
    digest: str,
) -> None:
    serve = f"bmp serve --model {version.name}"
    if registry.root != Path("registry"):
        serve += f" --registry {registry.root}"
    console.print()
    console.print(build_table(manifest))
    for line in [*explain_verdicts(manifest), *notes]:
        console.print(line, highlight=False, soft_wrap=True)
    metrics = say_metrics(manifest.variant(manifest.recommended).measured.test_metrics)
    console.print(f"test       {metrics}", highlight=False, soft_wrap=True)
    console.print(f"weights    sha256 {digest}", highlight=False, soft_wrap=True)
    console.print(f"records    {directory}", highlight=False, soft_wrap=True)
    console.print(f"published  {version.path}  (version {version.number})", highlight=False, soft_wrap=True)
    console.print(f"serve it   {serve}", highlight=False, soft_wrap=True)
