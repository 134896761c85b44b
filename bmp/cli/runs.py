"""`bmp runs`: the trainings that were started, how they stand, and what one did otherwise than another."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from bmp.cli.compare import compare_command, flatten, print_table, say_value
from bmp.errors import BmpError

if TYPE_CHECKING:
    from rich.table import Table

    from bmp.runs import ListedRun, RunDirectory, Status
    from bmp.training.history import History

_MAX_EPOCHS = 25
_STYLES = {"running": "cyan", "finished": "green", "stopped": "yellow"}
_ESSENTIALS = (
    "seed",
    "data.source",
    "data.args",
    "data.batch_size",
    "model.build",
    "model.args",
    "train.epochs",
    "train.steps",
    "train.optimizer",
    "train.learning_rate",
    "train.schedule",
    "train.precision",
    "distribution.strategy",
)
_root_option = click.option(
    "--root", default="runs", envvar="BMP_RUNS", show_default=True, metavar="DIR", help="Where the runs are."
)


@click.group("runs")
def runs_group() -> None:
    """List trainings, look at one, compare several."""


runs_group.add_command(compare_command)


@runs_group.command("list")
@_root_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def list_command(root: str, as_json: bool) -> None:
    """List every run, the oldest first.

    A run that was running when its process ended, and is not told so, has died.
    """
    from bmp.runs import list_runs

    runs = list_runs(root)
    if as_json:
        click.echo(json.dumps([_to_row(run) for run in runs], indent=2, ensure_ascii=False))
        return
    if not runs:
        raise BmpError(f"There is no run below '{root}'. Start one with 'bmp run', or name another root with --root.")
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("run", "model", "state", "stage", "step", "validation\nscore", "loss", "trained", "published"):
        right = heading in ("step", "loss", "trained")
        table.add_column(heading, overflow="fold", justify="right" if right else "left")
    for run in runs:
        table.add_row(*_to_cells(run))
    print_table(table)
    for run in runs:
        if run.problem:
            click.echo(f"{run.name} cannot be read: {run.problem}")


@runs_group.command("show")
@click.argument("run")
@_root_option
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def show_command(run: str, root: str, as_json: bool) -> None:
    """Show how RUN stands, what it was asked for, its epochs, and where its files are.

    RUN is the path of a run's directory, its name below the root, or the beginning of that name.
    """
    from bmp.runs import find_run

    found = find_run(run, root)
    directory = found.directory
    if as_json:
        row = _to_row(found) | {"recipe": _read_recipe(directory), "history": _read_history(directory).to_json()}
        click.echo(json.dumps(row | {"files": list_files(directory)}, indent=2, ensure_ascii=False))
        return
    _say({"run": str(directory.path)} | _describe(found))
    _say(_say_essentials(_read_recipe(directory)))
    _show_history(_read_history(directory), directory)
    _say(list_files(directory))


def list_files(directory: "RunDirectory") -> dict[str, str]:
    """Returns what the directory of a run holds so far: the path of each thing by its name."""
    places = {
        "recipe": directory.recipe_file,
        "environment": directory.environment_file,
        "history": directory.history_file,
        "curves": directory.history_plot,
        "confusion": directory.confusion_plot,
        "variants": directory.variants_file,
        "tensorboard": directory.tensorboard,
        "checkpoints": directory.checkpoints,
        "logs": directory.logs,
    }
    return {name: str(path) for name, path in places.items() if path.exists()}


def _to_row(run: "ListedRun") -> dict[str, Any]:
    status = json.loads(run.status.model_dump_json()) if run.status else None
    return {
        "run": run.name,
        "path": str(run.directory.path),
        "state": run.state,
        "status": status,
        "problem": run.problem,
    }


def _to_cells(run: "ListedRun") -> list[Any]:
    from rich.text import Text

    from bmp.pace import say_duration

    state = Text(run.state, style=_STYLES.get(run.state, "red"))
    status = run.status
    if status is None:
        return [Text(run.name), "", state]
    return [
        *(Text(run.name), Text(status.name), state, Text(status.stage)),
        _say_steps(status),
        _say_score(status),
        _say_figure(status.figures.get("val_loss", status.figures.get("loss"))),
        say_duration(status.train_s),
        Text(status.published or ""),
    ]


def _describe(run: "ListedRun") -> dict[str, str]:
    """Returns how a run stands, in words."""
    from bmp.pace import say_duration

    status = run.status
    if status is None:
        return {"state": f"unreadable: {run.problem}"}
    reason = f": {status.error}" if status.error else ""
    if run.state == "died":
        reason = f": its process {status.pid} on {status.host} is gone"
    words = {
        "model": status.name,
        "state": f"{run.state}{reason}",
        "stage": f"{status.stage}, step {_say_steps(status)}" if status.total_steps else status.stage,
        "started": f"{status.started.astimezone():%Y-%m-%d %H:%M:%S}, attempt {status.attempt}",
        "updated": f"{status.updated.astimezone():%Y-%m-%d %H:%M:%S}, process {status.pid} on {status.host}",
        "trained": say_duration(status.train_s),
        "metrics": ", ".join(f"{name} {value:.4f}" for name, value in status.figures.items()),
        "published": status.published or "",
    }
    return {name: value for name, value in words.items() if value}


def _say_essentials(recipe: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    flat = flatten(recipe)
    for key in _ESSENTIALS:
        for name, value in flat.items():
            if (name == key or name.startswith(f"{key}.")) and value is not None:
                found[name] = say_value(value)
    return found


def _say(words: Mapping[str, str]) -> None:
    """Prints a paragraph of a line for each word."""
    width = max(map(len, words), default=0)
    for name, value in words.items():
        click.echo(f"{name:<{width}}  {value}")
    if words:
        click.echo()


def _show_history(history: "History", directory: "RunDirectory") -> None:
    if not len(history):
        return
    print_table(_build_history_table(history))
    if len(history) > _MAX_EPOCHS:
        click.echo(f"the last {_MAX_EPOCHS} of {len(history):,}; all of them are in {directory.history_file}")
    click.echo()


def _say_steps(status: "Status") -> str:
    return f"{status.step:,}/{status.total_steps:,}" if status.total_steps else ""


def _say_score(status: "Status") -> str:
    figure = status.figures.get(f"val_{status.score}")
    return "" if figure is None else f"{figure:.4f} {status.score}"


def _say_figure(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.4f}"


def _build_history_table(history: "History") -> "Table":
    from rich.table import Table

    names = list(dict.fromkeys(name for epoch in history for name in epoch.metrics))
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for heading in ("epoch", "step", *(name.replace("_", "\n", 1) for name in names), "learning\nrate", "examples\n/s"):
        table.add_column(heading, justify="right")
    for epoch in history.epochs[-_MAX_EPOCHS:]:
        table.add_row(
            *(epoch.stage, str(epoch.epoch), "" if epoch.step is None else f"{epoch.step:,}"),
            *(_say_figure(epoch.metrics.get(name)) for name in names),
            "" if epoch.learning_rate is None else f"{epoch.learning_rate:.3g}",
            "" if epoch.examples_per_s is None else f"{epoch.examples_per_s:,.0f}",
        )
    return table


def _read_recipe(directory: "RunDirectory") -> dict[str, Any]:
    return directory.read_recipe() if directory.exists() else {}


def _read_history(directory: "RunDirectory") -> "History":
    from bmp.training.history import History, read_history

    return read_history(directory.history_file) if directory.history_file.exists() else History()
