"""The whole flow, one line a stage: load, train, compress, export, prove, choose, publish."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bmp.artifact.artifact import RECIPE_FILE, export_variant, lay_out, seal, write_uncompressed
from bmp.artifact.manifest import Manifest
from bmp.artifact.plots import plot_confusion
from bmp.artifact.proof import Export, evaluate, measure, prove
from bmp.artifact.table import build_table, explain_verdicts, say_metrics, to_rows
from bmp.compression import Candidate, choose, make_candidates
from bmp.config import Recipe, TrainConfig, load_recipe, write_recipe
from bmp.data import SOURCES, Dataset, load_data
from bmp.distribution import STRATEGIES
from bmp.errors import ConfigError, ExportError
from bmp.models import build_model, look_up_model
from bmp.objectives import OBJECTIVES
from bmp.registry import Registry, Version
from bmp.training import OPTIMIZERS, SCHEDULES, History, Trainer
from bmp.training.history import plot_history, write_history

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
    """

    directory: Path
    version: Version
    manifest: Manifest
    history: History
    data: Dataset
    model: "keras.Model"


def run(recipe: Recipe | str, *, run_dir: str | Path | None = None, console: Console | None = None) -> Run:
    """Trains, compresses, proves and publishes what a recipe describes.

    Args:
        recipe: A recipe, or the name or path of one.
        run_dir: A new or empty directory; by default a new one under `runs/`.
        console: Where progress is shown; by default standard output.

    Raises:
        ConfigError: The recipe cannot be carried out; nothing has been written.
        DataError: The examples cannot be used; nothing has been written.
        TrainingError: The loss is no longer finite.
        ExportError: The model cannot be exported.
        ProofError: An exported file does not do what the model does; nothing was published.
        RegistryError: The registry cannot be written to.
    """
    recipe = load_recipe(recipe) if isinstance(recipe, str) else recipe
    console = console or Console()
    build = _look_up(recipe)
    directory = _choose_directory(run_dir, recipe)
    data = load_data(build.data, recipe.data, recipe.seed, console=console)
    with console.status("starting TensorFlow"):
        strategy, model = _build_model(recipe, build, data)
    trainer = Trainer(
        data,
        strategy,
        build_optimizer=build.optimizer,
        batch_size=len(data.train) if recipe.data.batch_size == "all" else recipe.data.batch_size,
        seed=recipe.seed,
        console=console,
        jit_compile=recipe.train.jit_compile,
    )
    _check_replicas(trainer.batch_size, strategy.num_replicas_in_sync)
    total_steps = recipe.train.steps or recipe.train.epochs * trainer.steps_per_epoch
    learning_rate = build.schedule(recipe.train.learning_rate, total_steps)
    registry = Registry(recipe.publish.root)
    registry.check_writable()
    _make_directory(directory, recipe)
    _say_plan(console, recipe, data, model, strategy.num_replicas_in_sync)

    history = _train(recipe.train, trainer, model, learning_rate)
    candidates, fine_tuning, notes = make_candidates(model, recipe.compress, trainer, recipe.seed)
    history.extend(fine_tuning)
    write_history(history, directory / "history.csv")

    artifact = directory / "artifact"
    with console.status("exporting and proving"):
        uncompressed, remarks = write_uncompressed(model, data.signature, artifact, data.validation)
        exports, unconvertible = _export(candidates, uncompressed, data, artifact)
        evidence = prove(exports, data.validation)
        choice = choose(
            {name: found.validation_score for name, found in evidence.items()},
            {name: found.gzip_bytes for name, found in evidence.items()},
            recipe.compress.max_drop,
            trainer.objective.score,
        )
        measured = measure(exports, evidence, data.test)
        recommended = next(export for export in exports if export.name == choice.recommended)
        plots = _plot(directory, history, recommended, data)
    _add_records(directory, artifact, plots)
    manifest = seal(
        artifact,
        name=recipe.publish.name,
        created=datetime.now(UTC),
        data=data,
        recommended=choice.recommended,
        max_drop=recipe.compress.max_drop,
        verdicts=choice.verdicts,
        places=lay_out(exports, choice.recommended, choice.passed, artifact),
        measured=measured,
    )
    (directory / "variants.json").write_text(json.dumps(to_rows(manifest), indent=2) + "\n", encoding="utf-8")
    version = registry.publish(artifact, recipe.publish.name)
    shutil.rmtree(artifact)  # published now; the run directory keeps the records
    _say_result(console, directory, manifest, version, registry, [*notes, *remarks, *unconvertible])
    return Run(directory, version, manifest, history, data, model)


@dataclass(frozen=True)
class _Builders:
    """The catalog entries a recipe names, their arguments filled in."""

    data: Callable[..., Any]
    model: Callable[..., Any]
    strategy: Callable[..., Any]
    optimizer: Callable[..., Any]
    schedule: Callable[..., Any]


def _look_up(recipe: Recipe) -> _Builders:
    return _Builders(
        SOURCES.bind(recipe.data.source, recipe.data.args),
        look_up_model(recipe.model.build, recipe.model.args),
        STRATEGIES.bind(recipe.distribution.strategy, {}),
        OPTIMIZERS.bind(recipe.train.optimizer, recipe.train.optimizer_args),
        SCHEDULES.bind(recipe.train.schedule, recipe.train.schedule_args),
    )


def _build_model(recipe: Recipe, build: _Builders, data: Dataset) -> "tuple[Any, keras.Model]":
    import tf_keras as keras

    keras.utils.set_random_seed(recipe.seed)
    strategy = build.strategy()
    with strategy.scope():
        return strategy, build_model(build.model, data.signature, data.train)


def _check_replicas(batch_size: int, replicas: int) -> None:
    if batch_size < replicas:
        raise ConfigError(
            f"A batch of {batch_size} cannot be dealt out to {replicas} replicas; raise data.batch_size, or choose "
            "distribution.strategy: one_device.",
            expected=f"at least {replicas}",
            received=str(batch_size),
        )


def _train(config: TrainConfig, trainer: Trainer, model: "keras.Model", learning_rate: Any) -> History:
    """Fits a model; one that its builder has fitted already has no trainable weight, and stays as it is."""
    if not model.trainable_weights:
        return History()
    if config.steps is None:
        return trainer.fit(model, epochs=config.epochs, learning_rate=learning_rate)
    stretch = config.validate_every or config.steps
    return trainer.fit(model, epochs=config.steps // stretch, steps_per_epoch=stretch, learning_rate=learning_rate)


def _export(
    candidates: list[Candidate], uncompressed: Export, data: Dataset, artifact: Path
) -> tuple[list[Export], list[str]]:
    """Writes each candidate for LiteRT. Of a model that LiteRT cannot hold, the SavedModel is the only variant."""
    exports: list[Export] = []
    notes = []
    for candidate in candidates:
        try:
            exports.append(
                export_variant(candidate.name, candidate.model, data.signature, artifact, candidate.calibration)
            )
        except ExportError as error:
            if not exports:
                return [uncompressed], [f"{error.message} It is served as SavedModel, and no variant is made."]
            notes.append(f"No variant {candidate.name}: {error.message}")
    return exports, notes


def _plot(directory: Path, history: History, recommended: Export, data: Dataset) -> list[Path]:
    """Draws what a run has to show: its epochs, and where the recommended file errs on the test split."""
    plots = []
    if len(history):
        plots.append(directory / "history.png")
        plot_history(history, OBJECTIVES[data.signature.objective].score, plots[-1])
    confusion = evaluate(recommended.load(), data.test).confusion()
    if confusion is not None:
        plots.append(directory / "confusion.png")
        plot_confusion(confusion, data.labels, plots[-1])
    return plots


def _choose_directory(run_dir: str | Path | None, recipe: Recipe) -> Path:
    """Returns where the run directory will be; nothing is made yet."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    directory = Path(run_dir) if run_dir is not None else Path("runs") / f"{recipe.publish.name}-{stamp}"
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"The run directory {directory} cannot be made: it is a file. Name a new one.")
    if directory.is_dir() and any(directory.iterdir()):
        raise ConfigError(f"The run directory {directory} is not empty; name a new one.")
    return directory


def _make_directory(directory: Path, recipe: Recipe) -> None:
    """Makes the run directory, the resolved recipe in it."""
    try:
        (directory / "artifact").mkdir(parents=True)
        write_recipe(recipe, directory / "recipe.yaml")
    except OSError as error:
        raise ConfigError(f"The run directory {directory} cannot be made: {error}.") from error


def _add_records(directory: Path, artifact: Path, plots: list[Path]) -> None:
    (artifact / "bmp" / "plots").mkdir(parents=True)
    shutil.copy(directory / "recipe.yaml", artifact / RECIPE_FILE)
    shutil.copy(directory / "history.csv", artifact / "bmp" / "history.csv")
    for plot in plots:
        shutil.copy(plot, artifact / "bmp" / "plots" / plot.name)


def _say_plan(console: Console, recipe: Recipe, data: Dataset, model: "keras.Model", replicas: int) -> None:
    splits = f"{len(data.train):,} training, {len(data.validation):,} validation, {len(data.test):,} test examples"
    for line in _to_remarks(data):
        console.print(line, highlight=False, soft_wrap=True)
    where = f"{recipe.distribution.strategy}, {replicas} replica{'s' if replicas > 1 else ''}"
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
    console: Console, directory: Path, manifest: Manifest, version: Version, registry: Registry, notes: list[str]
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
    console.print(f"records    {directory}", highlight=False, soft_wrap=True)
    console.print(f"published  {version.path}  (version {version.number})", highlight=False, soft_wrap=True)
    console.print(f"serve it   {serve}", highlight=False, soft_wrap=True)
