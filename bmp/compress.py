"""The compression of a published version: what there is to try, the search, the proof, the next version."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bmp.artifact.artifact import RECIPE_FILE, export_variant, seal
from bmp.artifact.h5 import read_h5
from bmp.artifact.plots import plot_confusion
from bmp.artifact.proof import Export, evaluate
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.builders import Builders, check_alone, look_up
from bmp.compression.chain import UNCOMPRESSED, read_chains
from bmp.compression.check.support import Report as Support
from bmp.compression.check.support import check_support
from bmp.compression.check.table import build_support_table, explain
from bmp.compression.evidence.measure import Measurer
from bmp.compression.evidence.publication import describe, lay_out, make_report, repeat, write_report
from bmp.compression.report import Report, build_table, say_outcome
from bmp.compression.search.contest import Contest, hold_contest, promise_of
from bmp.compression.search.forecast import check_budget, say_forecast
from bmp.compression.search.space import list_candidates
from bmp.compression.search.workbench import Workbench, open_workbench
from bmp.compression.sensitivity import Sensitivity, measure_sensitivity, plot_sensitivity
from bmp.config import Recipe, dump_recipe, list_recipes, load_recipe
from bmp.data import Dataset, load_data
from bmp.distribution.cluster import read_cluster
from bmp.errors import ArtifactError, ConfigError, DataError, ExportError, NotFoundError, suggest
from bmp.models import build_model
from bmp.registry import Registry, Version
from bmp.registry.reference import read_reference
from bmp.storage import write_atomically
from bmp.training import Trainer
from bmp.training.history import read_history, write_history
from bmp.training.stop import StopRequest
from bmp.training.trainer import Place, check_replicas

if TYPE_CHECKING:
    import tf_keras as keras

BROKEN = 3
"""What the command ends with when no candidate keeps the promise."""


@dataclass(frozen=True)
class Compression:
    """What a call leaves behind.

    Args:
        parent: The version that was compressed.
        version: The one that was published; None where the promise could not be met.
        contest: Every trial, and the proof.
        work_dir: Where trials are kept, for a call that goes on.
        exit_code: 0; 3 where no candidate keeps the promise; 130 or 143 where a signal ended the search.
    """

    parent: Version
    version: Version | None
    contest: Contest
    work_dir: Path
    exit_code: int

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes."""
        outcome = self.contest.outcome
        return {
            "model": self.parent.name,
            "parent": self.parent.number,
            "version": None if self.version is None else self.version.number,
            "recommended": outcome.recommended,
            "best": outcome.best,
            "verdicts": {name: verdict.to_json() for name, verdict in outcome.verdicts.items()},
            "trials": [trial.to_json() for trial in outcome.trials],
            "ending": self.contest.ending,
            "work_dir": str(self.work_dir),
        }


@dataclass(frozen=True)
class Opened:
    """A published version, ready to be worked on.

    Args:
        version: Of the registry.
        recipe: That made it, with what was asked for now.
        build: Catalog entries that the recipe names.
        data: The examples it was trained on.
        model: Uncompressed, read from the version.
    """

    version: Version
    recipe: Recipe
    build: Builders
    data: Dataset
    model: "keras.Model"


def compress(
    reference: str,
    overrides: Sequence[str] = (),
    *,
    recipe: str | None = None,
    registry: str = "registry",
    work_dir: str | None = None,
    console: Console | None = None,
) -> Compression:
    """Searches for the best chain for a published version, proves it, and publishes it as the next version.

    Args:
        reference: `name`, `name@alias` or `name/version`.
        overrides: `compress.key=value` each.
        recipe: Path of a recipe whose section `compress` is taken; by default that of the version.
        registry: Directory of the registry.
        work_dir: Where trials are kept; a call with the same goes on where it left off.
        console: Where progress is shown; by default standard output.

    Raises:
        NotFoundError: There is no such model, version or alias.
        ConfigError: What is asked for cannot be done; nothing was written.
        DataError: The examples are not there, or not those the version was made from.
        ArtifactError: The version holds no model that can be trained further.
        RegistryError: The registry cannot be written to.
    """
    console = console or Console()
    store = Registry(registry)
    opened = open_version(store, reference, overrides, recipe, console)
    store.check_writable()
    config = opened.recipe.compress
    asked = read_chains(config.chains) if any(o.startswith("compress.chains=") for o in overrides) or recipe else []
    chains = None if asked else list_candidates(config)
    where = Path(work_dir or f"runs/compress-{opened.version.name}-{opened.version.number}")
    stop = StopRequest()
    trainer = _make_trainer(opened, console, stop)
    bench = open_workbench(opened.model, opened.recipe, trainer, where / "stages")
    measurer = Measurer(opened.data, bench.workshop, config.metric, where / "trials")
    check_budget(promise_of(config), opened.data, config.accept, config.time_s)
    (where / "trials" / "variants").mkdir(parents=True, exist_ok=True)
    say_forecast(bench, chains or asked, config.time_s, console)
    sensitivity = _measure_sensitivity(opened, bench, where, console)
    original = _export_original(opened, where / "trials")
    with stop.listening(), stop.within(config.time_s):
        made = bench.make_all(asked)
        contest = hold_contest(
            original, made, measurer, config, console, bench=bench, chains=chains, seed=opened.recipe.seed
        )
    name = f"{opened.version.name}/{opened.version.number}"
    report = make_report(name, contest, measurer, opened.recipe, describe(opened.data, opened.recipe.seed))
    _say_report(report, console)
    met = contest.outcome.is_met
    version = _publish(opened, contest, bench, measurer, report, sensitivity, store, console) if met else None
    if version is None:
        _write_report(report, sensitivity, where)
        for line in _blame(contest, sensitivity):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"Nothing was published; the report is {where / 'compression.html'}", soft_wrap=True)
    return Compression(
        opened.version, version, contest, where, contest.exit_code or (0 if version is not None else BROKEN)
    )


def open_version(
    store: Registry, reference: str, overrides: Sequence[str], recipe: str | None, console: Console
) -> Opened:
    """Reads a version back: its recipe, its examples, its model."""
    wanted = read_reference(reference)
    version = store.resolve(wanted.name, wanted.wanted)
    manifest = version.read_manifest()
    if not (version.path / RECIPE_FILE).is_file():
        raise ConfigError(
            f"{version.name}/{version.number} holds no recipe, because it was imported: nothing says which examples it "
            "was trained on, so no accuracy can be promised. Train it by a recipe, and compress what that publishes."
        )
    resolved = load_recipe(str(version.path / RECIPE_FILE), () if recipe else overrides)
    if recipe:
        resolved = resolved.model_copy(update={"compress": load_recipe(recipe, overrides).compress})
    build = look_up(resolved)
    data = load_data(build.data, resolved.data, resolved.seed, console=console)
    if data.digest != manifest.lineage.data_sha256:
        raise DataError(
            f"The examples are no longer those that {version.name}/{version.number} was made from, so its test split "
            "may hold what it was trained on. Bring the old ones back, or train a new version on these.",
            expected=manifest.lineage.data_sha256,
            received=data.digest,
        )
    return Opened(version, resolved, build, data, _load_model(version))


def _load_model(version: Version) -> "keras.Model":
    path = version.path / "model.h5"
    if not path.is_file():
        raise ArtifactError(
            f"{version.name}/{version.number} holds no model.h5, because its network is subclassed and cannot be "
            "written so; there is nothing that could be trained further. Name chains in the recipe, under compress:, "
            "and run it again."
        )
    return read_h5(path)


def _make_trainer(opened: Opened, console: Console, stop: StopRequest) -> Trainer:
    recipe, data = opened.recipe, opened.data
    cluster = read_cluster(os.environ)
    check_alone(cluster)
    chosen = opened.build.strategy(cluster, recipe.distribution.cpu_replicas)
    trainer = Trainer(
        data,
        chosen.strategy,
        build_optimizer=opened.build.optimizer,
        batch_size=len(data.train) if recipe.data.batch_size == "all" else recipe.data.batch_size,
        seed=recipe.seed,
        console=Console(quiet=True) if not console.is_terminal else console,
        config=recipe.train,
        place=Place(stop=stop),
    )
    check_replicas(trainer.batch_size, chosen.strategy.num_replicas_in_sync)
    return trainer


def _export_original(opened: Opened, directory: Path) -> Export:
    signature = opened.data.signature
    try:
        return export_variant(UNCOMPRESSED, opened.model, signature, directory)
    except ExportError as error:
        raise ExportError(f"{error.message} A network that LiteRT cannot hold has no compressed form.") from error


def _publish(
    opened: Opened,
    contest: Contest,
    bench: Workbench,
    measurer: Measurer,
    report: Report,
    sensitivity: Sensitivity | None,
    store: Registry,
    console: Console,
) -> Version:
    """Lays the next version out beside the trials, and publishes it."""
    artifact = measurer.directory.parent / "artifact"
    shutil.rmtree(artifact, ignore_errors=True)
    _copy_parent(opened.version, artifact)
    promise = promise_of(opened.recipe.compress)
    with console.status("measuring on the test split"):
        publication = lay_out(contest, measurer, promise, artifact)
    _add_records(opened, contest, bench, measurer, artifact)
    _write_report(report, sensitivity, artifact / "bmp")
    seal(
        artifact,
        name=opened.version.name,
        created=datetime.now(UTC),
        data=opened.data,
        recommended=publication.recommended,
        max_drop=promise.max_drop,
        verdicts=publication.verdicts,
        places=publication.places,
        measured=publication.measured,
        promise=publication.promise,
        parent=opened.version.number,
    )
    version = store.publish(artifact, opened.version.name)
    shutil.rmtree(artifact)
    _say_result(version, store, console)
    return version


def _copy_parent(parent: Version, artifact: Path) -> None:
    """Copies the uncompressed model, which stays what it was."""
    artifact.mkdir(parents=True)
    for name in (SAVED_MODEL_FILE, "fingerprint.pb", "model.h5", "variables", "assets", "assets.extra"):
        source = parent.path / name
        if source.is_dir():
            shutil.copytree(source, artifact / name)
        elif source.is_file():
            shutil.copyfile(source, artifact / name)


def _add_records(opened: Opened, contest: Contest, bench: Workbench, measurer: Measurer, artifact: Path) -> None:
    plots = artifact / "bmp" / "plots"
    plots.mkdir(parents=True)
    (artifact / RECIPE_FILE).write_text(dump_recipe(repeat(opened.recipe, contest)), encoding="utf-8")
    history = read_history(opened.version.path / "bmp" / "history.csv")
    history.extend(bench.history)
    write_history(history, artifact / "bmp" / "history.csv")
    recommended = contest.outcome.trial(contest.outcome.recommended)
    confusion = evaluate(measurer.load(recommended), opened.data.test).confusion()
    if confusion is not None:
        plot_confusion(confusion, opened.data.labels, plots / "confusion.png")


def _measure_sensitivity(opened: Opened, bench: Workbench, where: Path, console: Console) -> Sensitivity | None:
    """Returns what each layer bears, measured before anything is cut; None where no layer can be looked at alone."""
    file = where / f"sensitivity-{bench.base[:8]}.json"
    if file.is_file():
        return Sensitivity.from_json(json.loads(file.read_bytes()))
    try:
        with console.status("measuring what each layer bears"):
            found = measure_sensitivity(opened.model, opened.data, seed=opened.recipe.seed)
    except ExportError as error:
        console.print(error.message, highlight=False, soft_wrap=True)
        return None
    write_atomically(file, json.dumps(found.to_json()).encode())
    return found


def _write_report(report: Report, sensitivity: Sensitivity | None, directory: Path) -> None:
    pictures = {}
    if sensitivity is not None:
        picture = directory / "plots" / "sensitivity.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_sensitivity(sensitivity, picture)
        pictures["What each layer bears"] = picture
        (directory / "sensitivity.json").write_text(json.dumps(sensitivity.to_json()), encoding="utf-8")
    write_report(report, directory, pictures)


def _blame(contest: Contest, sensitivity: Sensitivity | None) -> list[str]:
    """Returns the layers that cost the nearest trial most, as they were measured one by one."""
    outcome = contest.outcome
    tried = [trial for trial in outcome.trials[1:] if trial.failure is None]
    if not tried:
        return []
    nearest = min(tried, key=lambda trial: (trial.drop, trial.gzip_bytes))
    if outcome.best is not None:
        nearest = outcome.trial(outcome.best)
    used = {name for step in nearest.spec for name in ([step] if isinstance(step, str) else step)}
    used |= {"int8"} if used & {"qat", "dynamic", "int16x8"} else set()
    rows = [row for row in sensitivity.rows if row.technique in used] if sensitivity is not None else []
    worst: dict[str, float] = {}
    for row in rows:
        worst[row.target] = max(worst.get(row.target, 0.0), sensitivity.drop(row) if sensitivity is not None else 0.0)
    blamed = sorted((name for name in worst if worst[name] > 0), key=lambda name: -worst[name])[:3]
    if not blamed:
        return []
    said = ", ".join(f"{name} ({worst[name] * 100:.1f} points by itself, untrained)" for name in blamed)
    return [f"What {nearest.name} loses, it loses most in {said}; leave them out with skip."]


def _say_report(report: Report, console: Console) -> None:
    console.print()
    console.print(build_table(report))
    for line in say_outcome(report):
        console.print(line, highlight=False, soft_wrap=True)


def _say_result(version: Version, store: Registry, console: Console) -> None:
    console.print(f"published  {version.path}  (version {version.number})", highlight=False, soft_wrap=True)
    console.print(f"report     {version.path / 'bmp' / 'compression.html'}", highlight=False, soft_wrap=True)
    if "production" in store.aliases(version.name):
        line = f"serve it   bmp models alias {version.name} production {version.number}"
        console.print(line, highlight=False, soft_wrap=True)


def check(reference: str, *, registry: str = "registry", console: Console | None = None) -> Support:
    """Looks what there is to try for a model, and says so; nothing is trained or written.

    Args:
        reference: A model of the registry, or the name or path of a recipe, whose network is then looked at untrained.
        registry: Directory of the registry.
        console: Where the table goes; by default standard output.

    Raises:
        NotFoundError: It is neither.
        ConfigError: The recipe cannot be carried out.
        DataError: The examples are not there.
    """
    console = console or Console()
    model, data = _open_any(reference, Registry(registry), console)
    with console.status("trying each way to store it"):
        examples = data.train.take(slice(0, 32)).load().inputs
        found = check_support(model, data.signature, examples=examples)
    console.print(build_support_table(found))
    for line in explain(found):
        console.print(line, highlight=False, soft_wrap=True)
    return found


def _open_any(reference: str, store: Registry, console: Console) -> tuple["keras.Model", Dataset]:
    published = store.models()
    if not reference.endswith((".yaml", ".yml")) and re.split("[@/]", reference)[0] in published:
        opened = open_version(store, reference, (), None, console)
        return opened.model, opened.data
    if not reference.endswith((".yaml", ".yml")) and reference not in list_recipes():
        known = sorted({*published, *list_recipes()})
        raise NotFoundError(
            f"'{reference}' is neither a published model nor a recipe. Known: {', '.join(known)}."
            f"{suggest(reference, known)}",
            received=reference,
        )
    recipe = load_recipe(reference)
    build = look_up(recipe)
    data = load_data(build.data, recipe.data, recipe.seed, console=console)
    return build_model(build.model, data.signature, data.train), data
