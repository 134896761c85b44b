"""The heat map: layers against techniques and levels."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from bmp.compression.sensitivity.sensitivity import Sensitivity

_MAX_WRITTEN = 40
_SHADES = {"prune": "{:.0%} zeros", "cluster": "{:.0f} values", "int8": "int{:.0f}", "channels": "{:.0%} channels out"}


def plot_sensitivity(sensitivity: Sensitivity, path: Path) -> None:
    """Draws what each layer costs the score, for every technique and level, into a PNG.

    A group of channels is drawn at each of the layers that make them. Empty: the technique does not work there.

    Args:
        sensitivity: What was measured.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    layers = list(dict.fromkeys(name for row in sensitivity.rows for name in row.layers))
    columns = list(dict.fromkeys((row.technique, row.level) for row in sensitivity.rows))
    drops = _to_table(sensitivity, layers, columns)
    height, width = 0.26 * len(layers) + 2.4, 0.62 * len(columns) + 0.09 * max(map(len, layers)) + 2.2
    figure = Figure(figsize=(min(width, 24.0), min(max(height, 3.0), 40.0)), layout="constrained")
    axes = figure.subplots()
    largest = max(float(np.nanmax(drops)), 1.0)
    image = axes.imshow(drops, cmap="Reds", vmin=0, vmax=largest, aspect="auto")
    figure.colorbar(image, label=f"{sensitivity.metric} lost, in hundredths", shrink=0.8)
    axes.set_title(
        f"one layer at a time, no training; {sensitivity.metric} {sensitivity.score:.4f} on "
        f"{sensitivity.examples:,} examples",
        fontsize=9,
    )
    axes.set_xticks(range(len(columns)), [_SHADES[name].format(level) for name, level in columns], rotation=60)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(layers)), layers, fontsize=8)
    _draw_borders(axes, [name for name, _ in columns])
    if len(layers) <= _MAX_WRITTEN:
        _write_values(axes, drops, largest)
    figure.savefig(path, dpi=120)


def _to_table(sensitivity: Sensitivity, layers: list[str], columns: list[tuple[str, float]]) -> np.ndarray:
    """Returns the drops in hundredths, float64 `(layers, columns)`; NaN where there is none."""
    drops = np.full((len(layers), len(columns)), np.nan)
    for row in sensitivity.rows:
        for name in row.layers:
            place = layers.index(name), columns.index((row.technique, row.level))
            drops[place] = np.fmax(drops[place], 100 * sensitivity.drop(row))
    return drops


def _draw_borders(axes: Any, techniques: list[str]) -> None:
    """Draws a line between techniques."""
    for column, (left, right) in enumerate(itertools.pairwise(techniques)):
        if left != right:
            axes.axvline(column + 0.5, color="black", linewidth=1.0)


def _write_values(axes: Any, drops: np.ndarray, largest: float) -> None:
    for (row, column), drop in np.ndenumerate(drops):
        if not np.isnan(drop):
            colour = "white" if drop > 0.6 * largest else "black"
            axes.text(column, row, f"{round(drop, 1) + 0.0:.1f}", ha="center", va="center", fontsize=7, color=colour)
