"""What happened in each epoch: as rows, as CSV, as a picture."""

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Epoch:
    """One pass over the training split."""

    stage: str
    """What was being done: `train` or `prune`."""
    epoch: int
    """From 1, within the stage."""
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
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
    """Writes one CSV line an epoch; `read_history` reads it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)


def read_history(path: Path) -> History:
    """Reads what `write_history` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return History(
            [
                Epoch(**{field.name: field.type(row[field.name]) for field in fields(Epoch)})  # type: ignore[operator]
                for row in csv.DictReader(file)
            ]
        )


def plot_history(history: History, path: Path) -> None:
    """Draws loss and accuracy over the epochs of all stages into a PNG."""
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    figure = Figure(figsize=(10, 4), layout="constrained")
    steps = range(1, len(history) + 1)
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(steps, [getattr(epoch, metric) for epoch in history], label="training")
        axes.plot(steps, [getattr(epoch, f"val_{metric}") for epoch in history], label="validation")
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
