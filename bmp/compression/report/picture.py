"""The picture: score against bytes and against time, with the original, the front and what is recommended."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bmp.compression.report.labels import put_labels
from bmp.compression.report.report import Report
from bmp.compression.search.trial import Trial
from bmp.objectives import METRICS

_ORIGINAL, _RECOMMENDED, _FRONT, _OTHER = "#333333", "#c2504b", "#3b6ea5", "#b8b8b8"
_DEPTH = 3.0
"""How many times the promise below it a score still is in the picture at its place."""


@dataclass(frozen=True)
class _Panel:
    """One of the two pictures.

    Args:
        title: Of its horizontal axis.
        cost: What stands there; None for a trial that was not measured so.
        say: How a mark on it is written.
    """

    title: str
    cost: Callable[[Trial], float | None]
    say: Callable[[float], str]


def _time(trial: Trial) -> float | None:
    return None if trial.latency is None else trial.latency[1].p50_ms


def _say_bytes(size_bytes: float) -> str:
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    scale, unit = next((one for one in units if size_bytes >= 0.9999 * one[0]), (1.0, "B"))
    return f"{size_bytes / scale:.3g} {unit}"


_PANELS = (
    _Panel("size, gzipped", lambda trial: trial.gzip_bytes, _say_bytes),
    _Panel("time of one example, median", _time, lambda ms: f"{ms:.3g} ms"),
)


def plot_front(report: Report, path: Path) -> None:
    """Draws the score of every trial against its bytes and its time into a PNG; up and to the left is better."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    panels = [panel for panel in _PANELS if len(_list_shown(report, panel)) > 1 or panel is _PANELS[0]]
    figure = Figure(figsize=(6.4 * len(panels), 4.9), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_points(axes, report, panel)
    figure.suptitle(
        f"{report.model}: {report.promise.metric} and cost of the exported files",
        parse_math=False,
    )
    handles, names = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    canvas.draw()  # the layout is done: labels can be placed
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw_labels(axes, report, panel)
    figure.savefig(path, dpi=120)


def _list_shown(report: Report, panel: _Panel) -> list[Trial]:
    trials = [t for t in report.outcome.trials if t.failure is None and math.isfinite(t.score)]
    return [trial for trial in trials if panel.cost(trial)]


def _draw_points(axes: Any, report: Report, panel: _Panel) -> None:
    shown = _list_shown(report, panel)
    low, high = _find_limits(report)
    axes.set_xscale("log")
    _set_limits(axes, report, [panel.cost(trial) or 0.0 for trial in shown], low, high)
    for kind, colour, marker, size in (
        ("other files", _OTHER, "o", 22),
        ("front of drop, bytes and time", _FRONT, "o", 34),
        ("original", _ORIGINAL, "D", 48),
        ("recommended", _RECOMMENDED, "*", 170),
    ):
        members = [trial for trial in shown if _kind_of(trial, report) == kind]
        if not members:
            continue
        x, y = [panel.cost(trial) for trial in members], [_clip(trial.score, low, high) for trial in members]
        axes.scatter(x, y, s=size, color=colour, marker=marker, zorder=3 if colour != _OTHER else 2, label=kind)
    _draw_line(axes, panel, shown, report)
    axes.axhline(report.limit, color=_RECOMMENDED, linewidth=0.9, linestyle=":", label="the promise")
    _set_marks(axes, panel)
    axes.set_xlabel(panel.title)
    axes.set_ylabel(f"{report.promise.metric} on the validation split", parse_math=False)
    axes.grid(color="#eeeeee", which="both", linewidth=0.6)
    axes.set_axisbelow(True)


def _set_marks(axes: Any, panel: _Panel) -> None:
    """Writes plain numbers, few enough not to touch, on the logarithmic axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    steps: tuple[float, ...] = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 2 else (1.0, 2.0, 5.0)
    if decades < 0.6:
        steps = tuple(float(step) for step in range(1, 10))
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: panel.say(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _kind_of(trial: Trial, report: Report) -> str:
    if trial.name == report.outcome.recommended:
        return "recommended"
    if trial is report.original:
        return "original"
    is_best = any(trial is one for one in report.front)
    return "front of drop, bytes and time" if is_best else "other files"


def _draw_line(axes: Any, panel: _Panel, shown: Sequence[Trial], report: Report) -> None:
    """Draws the front of what this panel shows, as the best score that can be had up to each cost."""
    sign = 1 if METRICS[report.promise.metric].greater_is_better else -1
    low, high = _find_limits(report)
    x: list[float] = []
    y: list[float] = []
    for trial in sorted(shown, key=lambda trial: (panel.cost(trial), -sign * trial.score)):
        if not y or sign * trial.score > sign * y[-1]:
            x.append(panel.cost(trial) or 0.0)
            y.append(trial.score)
    clipped = [_clip(score, low, high) for score in y]
    axes.step(
        [*x, axes.get_xlim()[1]],
        [*clipped, clipped[-1]],
        where="post",
        color=_FRONT,
        linewidth=1.0,
        alpha=0.5,
        zorder=1,
    )


def _find_limits(report: Report) -> tuple[float, float]:
    """Returns the least and the greatest score that are drawn at their place."""
    original = report.original.score
    step = max(abs(report.limit - original), 1e-3 * max(abs(original), 1e-9))
    near = [
        trial.score
        for trial in report.outcome.trials
        if trial.failure is None and math.isfinite(trial.score) and abs(trial.score - original) <= _DEPTH * step
    ]
    near += [original, report.limit]
    low, high = min(near), max(near)
    return (low, high) if low < high else (low - step, high + step)  # nothing may be lost, and all is far off


def _set_limits(axes: Any, report: Report, costs: Sequence[float], low: float, high: float) -> None:
    room = 0.12 * (high - low)
    limits = (
        (low - 2 * room, high + room)
        if METRICS[report.promise.metric].greater_is_better
        else (high + 2 * room, low - room)
    )
    axes.set_ylim(*limits)
    reach = max(np.log(max(costs) / min(costs)), 0.5)
    axes.set_xlim(min(costs) * np.exp(-0.12 * reach), max(costs) * np.exp(0.12 * reach))


def _clip(score: float, low: float, high: float) -> float:
    """Returns where a score is drawn: one that is far off at the edge."""
    room = 0.12 * (high - low)
    return min(max(score, low - 1.4 * room), high + 1.4 * room)


def _draw_labels(axes: Any, report: Report, panel: _Panel) -> None:
    low, high = _find_limits(report)
    places = {t.name: (panel.cost(t) or 0.0, _clip(t.score, low, high), t) for t in _list_shown(report, panel)}
    first = [trial.name for trial in (report.recommended, report.original, *report.front) if trial.name in places]
    labelled = {name: places.pop(name) for name in dict.fromkeys(first)}
    labels = [(x, y, _say(trial, report, low, high)) for x, y, trial in labelled.values()]
    put_labels(axes, labels, [(x, y) for x, y, _ in places.values()])


def _say(trial: Trial, report: Report, low: float, high: float) -> str:
    name = "original" if trial is report.original else trial.name
    return name if _clip(trial.score, low, high) == trial.score else f"{name} ({trial.score:.3g})"
