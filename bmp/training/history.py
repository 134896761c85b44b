"""What happened in each epoch: as rows, as CSV, as a picture."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Epoch:
    """One pass over the training split, or the steps between two validations."""

    stage: str
    """What was being done: `train` or `prune`."""
    epoch: int
    """From 1, within the stage."""
    metrics: Mapping[str, float]
    """Loss and metrics by name; those of the validation split begin with `val_`."""
    duration_s: float


class History:
    """The epochs of a run, in order, over all its stages."""

    def __init__(self, epochs: list[Epoch] | None = None) -> None:
        self.epochs = epochs or []

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self.epochs)

    def extend(self, other: "History") -> None:
        """Appends the epochs of a later stage."""
        self.epochs.extend(other)


def write_history(history: History, path: Path) -> None:
    """Writes one CSV line an epoch, a column for each metric; `read_history` reads it."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch.metrics))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stage", "epoch", *names, "duration_s"])
        for epoch in history:
            writer.writerow([epoch.stage, epoch.epoch, *(epoch.metrics.get(n, "") for n in names), epoch.duration_s])


def read_history(path: Path) -> History:
    """Reads what `write_history` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return History([_read_epoch(row) for row in csv.DictReader(file)])


def _read_epoch(row: dict[str, str]) -> Epoch:
    stage, epoch, duration_s = (row.pop(name) for name in ("stage", "epoch", "duration_s"))
    return Epoch(stage, int(epoch), {name: float(text) for name, text in row.items() if text}, float(duration_s))


def plot_history(history: History, score: str, path: Path) -> None:
    """Draws the loss and the score over the epochs of all stages into a PNG.

    Args:
        history: What to draw; nothing is drawn of no epochs.
        score: The metric that choices are made on, such as accuracy.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    figure = Figure(figsize=(10, 4), layout="constrained")
    steps = range(1, len(history) + 1)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", score), strict=True):
        for name, label in ((metric, "training"), (f"val_{metric}", "validation")):
            axes.plot(steps, [epoch.metrics.get(name, math.nan) for epoch in history], label=label)
        for step, (before, after) in enumerate(zip(history.epochs, history.epochs[1:], strict=False), start=1):
            if after.stage != before.stage:
                axes.axvline(step + 0.5, color="grey", linestyle=":")
                axes.annotate(f" {after.stage}", (step + 0.5, 0.5), xycoords=("data", "axes fraction"), color="grey")
        if metric == "loss":
            axes.set_yscale("log")
        axes.set(xlabel="epoch", ylabel=metric)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
