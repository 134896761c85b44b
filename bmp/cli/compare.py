"""`bmp runs compare`: where the recipes of runs differ, what came out, and their curves in one picture."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from bmp.errors import ConfigError, UnknownNameError, suggest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

    from bmp.runs import ListedRun
    from bmp.training.history import Epoch, History

_LOWER_IS_BETTER = {"loss", "log_loss", "mae", "rmse", "perplexity"}
_NOTHING = "–"
_GREY = 7  # of tab10; the legend's own colour


@click.command("compare")
@click.argument("runs", nargs=-1, required=True)
@click.option("--root", default="runs", envvar="BMP_RUNS", show_default=True, metavar="DIR", help="Where the runs are.")
@click.option("--metric", metavar="NAME", help="Compare this one alone, such as val_loss.  [loss and the score]")
@click.option(
    "--out", default="compare.png", show_default=True, metavar="PNG", type=click.Path(dir_okay=False, path_type=Path)
)
def compare_command(runs: tuple[str, ...], root: str, metric: str | None, out: Path) -> None:
    """Compare two or more RUNS: recipes, metrics and curves.

    Each is the path of a run's directory, its name below the root, or the beginning of that name.
    """
    from bmp.runs import find_run

    found = _name_apart([find_run(run, root) for run in runs])
    _check_out(out)
    histories = {name: _read_first_stage(run) for name, run in found.items()}
    metrics = _choose_metrics(list(found.values()), histories, metric)
    recipes = {name: flatten(run.directory.read_recipe()) for name, run in found.items()}
    differences = find_differences(recipes)
    _print_comparison("recipe", list(recipes), [[key, *map(say_value, values)] for key, values in differences.items()])
    _print_comparison("last (best)", list(histories), _to_rows(histories, metrics))
    if any(map(len, histories.values())):
        plot_comparison(histories, list(dict.fromkeys(name.removeprefix("val_") for name in metrics)), out)
        click.echo(f"picture  {out}")
    else:
        click.echo("no picture: none of the runs has finished an epoch")


def flatten(tree: Any, key: str = "") -> dict[str, Any]:
    """Returns every value of a recipe by its dotted key; a list of steps by their numbers, as `data.transforms[0]`."""
    if isinstance(tree, Mapping) and tree:
        items = [(f"{key}.{name}" if key else str(name), value) for name, value in tree.items()]
    elif isinstance(tree, list) and any(isinstance(value, Mapping) for value in tree):
        items = [(f"{key}[{number}]", value) for number, value in enumerate(tree)]
    else:
        return {key: tree}
    found: dict[str, Any] = {}
    for name, value in items:
        found |= flatten(value, name)
    return found


def find_differences(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Returns the keys whose values are not the same in all flat recipes, with the value of each; None where absent."""
    keys = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
    values = {key: [recipe.get(key) for recipe in recipes.values()] for key in keys}
    return {key: found for key, found in values.items() if any(value != found[0] for value in found)}


def say_value(value: Any) -> str:
    """Returns a value of a recipe as YAML would have it, in one line."""
    if value is None:
        return _NOTHING
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def plot_comparison(histories: Mapping[str, "History"], metrics: Sequence[str], path: Path) -> None:
    """Draws a panel for each metric into a PNG: a colour for each run, training dashed, validation solid.

    Args:
        histories: Of one stage each, by the name of the run.
        metrics: Names without `val_`.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    rows = math.ceil(len(histories) / 2)
    figure = Figure(figsize=(max(5 * len(metrics), 7), 4.2 + 0.22 * rows), layout="constrained")
    colours = _choose_colours(len(histories))
    by_step = all(epoch.step is not None for history in histories.values() for epoch in history)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        for history, colour in zip(histories.values(), colours, strict=True):
            _draw(axes, history, metric, colour, by_step)
        if metric in _LOWER_IS_BETTER:
            axes.set_yscale("log")
        axes.set(xlabel="step" if by_step else "epoch", ylabel=metric)
        axes.grid(alpha=0.3)
    _add_legend(figure, list(histories), colours)
    figure.savefig(path, dpi=120)


def _choose_colours(number: int) -> list[Any]:
    from matplotlib import colormaps

    apart = [colour for place, colour in enumerate(colormaps["tab10"](np.arange(10))) if place != _GREY]
    return apart[:number] if number <= len(apart) else list(colormaps["turbo"](np.linspace(0.06, 0.94, number)))


def _draw(axes: "Axes", history: "History", metric: str, colour: Any, by_step: bool) -> None:
    numbers = [epoch.step if by_step and epoch.step is not None else epoch.epoch for epoch in history]
    marker = "o" if len(history) == 1 else None  # a line of one point is not to be seen
    for name, dashes in ((metric, "--"), (f"val_{metric}", "-")):
        values = [epoch.metrics.get(name, math.nan) for epoch in history]
        axes.plot(numbers, values, dashes, color=colour, marker=marker, linewidth=1.4)


def _add_legend(figure: Any, names: Sequence[str], colours: Sequence[Any]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, label=name) for name, colour in zip(names, colours, strict=True)]
    solid = Line2D([], [], color="grey", linestyle="-", label="validation")
    dashed = Line2D([], [], color="grey", linestyle="--", label="training")
    figure.legend(handles=[*lines, solid, dashed], loc="outside lower center", ncols=2, frameon=False)


def _name_apart(runs: Sequence["ListedRun"]) -> dict[str, "ListedRun"]:
    """Returns the runs by name, or by path where that alone tells them apart."""
    paths = [run.directory.path.resolve() for run in runs]
    twice = [run.name for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1]
    if len(runs) < 2 or twice:
        what = f"the run '{twice[0]}' is named twice" if twice else "there is only one run"
        raise ConfigError(f"Nothing to compare: {what}; name two runs or more.", expected="two runs")
    names = [run.name for run in runs]
    return {run.name if names.count(run.name) == 1 else str(run.directory.path): run for run in runs}


def _check_out(out: Path) -> None:
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise ConfigError(
            f"The picture '{out}' cannot be written; expected a name that ends in .png, in a directory that exists.",
            expected="a path to a .png file",
            received=str(out),
        )


def _read_first_stage(run: "ListedRun") -> "History":
    """Reads the epochs of the training itself: fine-tuning of variants is no part of the comparison."""
    from bmp.training.history import History, read_history

    file = run.directory.history_file
    epochs = read_history(file).epochs if file.exists() else []
    return History([epoch for epoch in epochs if epoch.stage == epochs[0].stage])


def _choose_metrics(runs: Sequence["ListedRun"], histories: Mapping[str, "History"], metric: str | None) -> list[str]:
    known = list(dict.fromkeys(name for history in histories.values() for epoch in history for name in epoch.metrics))
    if metric is None:
        scores = [run.status.score for run in runs if run.status and run.status.score]
        wanted = [name for score in ("loss", *scores) for name in (score, f"val_{score}")]
        return [name for name in dict.fromkeys(wanted) if name in known]
    if metric not in known:
        raise UnknownNameError(
            f"No run has the metric '{metric}'. Known: {', '.join(known) or 'none yet'}.{suggest(metric, known)}",
            expected=f"one of {', '.join(known)}",
            received=metric,
        )
    return [metric]


def _to_rows(histories: Mapping[str, "History"], metrics: Sequence[str]) -> list[list[str]]:
    rows = [[name, *(_say_metric(history, name) for history in histories.values())] for name in metrics]
    epochs = ["epochs", *(str(len(history)) for history in histories.values())]
    rates = ["examples/s", *(_say_speed(history) for history in histories.values())]
    return [*rows, epochs, rates]


def _say_metric(history: "History", name: str) -> str:
    having = [epoch for epoch in history if math.isfinite(epoch.metrics.get(name, math.nan))]
    if not having:
        return _NOTHING
    best = find_best(having, name)
    return f"{having[-1].metrics[name]:.4f} ({best.metrics[name]:.4f} at {best.epoch})"


def find_best(epochs: Sequence["Epoch"], name: str) -> "Epoch":
    """Returns the first epoch of the best value: the least of a loss or an error, the greatest of a score."""
    sign = -1 if name.removeprefix("val_") in _LOWER_IS_BETTER else 1
    return max(epochs, key=lambda epoch: sign * epoch.metrics[name])


def _say_speed(history: "History") -> str:
    rates = sorted(epoch.examples_per_s for epoch in history if epoch.examples_per_s is not None)
    return f"{rates[len(rates) // 2]:,.0f}" if rates else _NOTHING


def _print_comparison(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo(f"{title}: no difference\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in (title, *names):
        table.add_column(Text(heading), overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    print_table(table)
    click.echo()


def print_table(table: "Table") -> None:
    """Prints a table as wide as the terminal; where there is none, as wide as it wants to be."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, Console(width=10_000).measure(table).maximum)
    console.print(table)
