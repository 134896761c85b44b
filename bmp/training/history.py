"""What happened in each epoch: as rows, as CSV, as a picture."""

import csv
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmp.errors import BmpError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    step: int | None = None
    """Steps of the stage done at its end; None in a history of an older release, like the fields below."""
    learning_rate: float | None = None
    """Of its last step."""
    examples_per_s: float | None = None
    """Of its steps; validation is not counted."""


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

    def to_json(self) -> list[dict[str, Any]]:
        """Returns what `json.dumps` takes and `from_json` reads, every number exact."""
        return [{**asdict(epoch), "metrics": dict(map(_to_exact, epoch.metrics.items()))} for epoch in self]

    @classmethod
    def from_json(cls, rows: list[dict[str, Any]]) -> "History":
        """Reads what `to_json` returned.

        Raises:
            BmpError: It is no history.
        """
        try:
            return cls([Epoch(**{**row, "metrics": _to_floats(row["metrics"])}) for row in rows])
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BmpError(f"This is no history: {error!r}. Expected what History.to_json returns.") from error


def _to_exact(item: tuple[str, float]) -> tuple[str, float | str]:
    name, value = item
    return name, value if math.isfinite(value) else str(value)  # JSON has no number for these


def _to_floats(metrics: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def write_history(history: History, path: Path) -> None:
    """Writes one CSV line an epoch, a column for each metric; `read_history` reads it."""
    names = list(dict.fromkeys(name for epoch in history for name in epoch.metrics))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["stage", "epoch", "step", *names, "learning_rate", "examples_per_s", "duration_s"])
        for epoch in history:
            metrics = (epoch.metrics.get(name) for name in names)  # None is an empty cell
            writer.writerow(
                [
                    *(epoch.stage, epoch.epoch, epoch.step),
                    *metrics,
                    *(epoch.learning_rate, epoch.examples_per_s, epoch.duration_s),
                ]
            )


def read_history(path: Path) -> History:
    """Reads what `write_history` wrote, or that of an older release, which had fewer columns.

    Raises:
        BmpError: The file cannot be read, or holds no history.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            missing = [name for name in ("stage", "epoch", "duration_s") if name not in (rows.fieldnames or ())]
            if missing:
                raise BmpError(f"{path} is no history of a run: it has no column '{missing[0]}'.")
            return History([_read_epoch(row) for row in rows])
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise BmpError(f"{path} cannot be read as the history of a run: {error}.") from error


def _read_epoch(row: dict[str, str]) -> Epoch:
    stage, epoch, duration_s = (row.pop(name) for name in ("stage", "epoch", "duration_s"))
    step, learning_rate, examples_per_s = (row.pop(name, "") for name in ("step", "learning_rate", "examples_per_s"))
    return Epoch(
        stage,
        int(epoch),
        {name: float(text) for name, text in row.items() if text},
        float(duration_s),
        step=int(step) if step else None,
        learning_rate=float(learning_rate) if learning_rate else None,
        examples_per_s=float(examples_per_s) if examples_per_s else None,
    )


def plot_history(history: History, score: str, path: Path) -> None:
    """Draws the loss and the score over the epochs of all stages into a PNG; the learning rate too, if it changed.

    Args:
        history: What to draw; nothing is drawn of no epochs.
        score: The metric that choices are made on, such as accuracy.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    rates = [math.nan if epoch.learning_rate is None else epoch.learning_rate for epoch in history]
    panels = [
        *("loss", score),
        *(["learning rate"] if len({epoch.learning_rate for epoch in history} - {None}) > 1 else []),
    ]
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    numbers = range(1, len(history) + 1)
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        if panel == "learning rate":
            axes.plot(numbers, rates, color="black")
        else:
            for name, label in ((panel, "training"), (f"val_{panel}", "validation")):
                axes.plot(numbers, [epoch.metrics.get(name, math.nan) for epoch in history], label=label)
            axes.legend()
        if panel == "loss":
            axes.set_yscale("log")
        _mark_stages(axes, history)
        axes.set(xlabel="epoch", ylabel=panel)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _mark_stages(axes: "Axes", history: History) -> None:
    for number, (before, after) in enumerate(itertools.pairwise(history), start=1):
        if after.stage != before.stage:
            axes.axvline(number + 0.5, color="grey", linestyle=":")
            axes.annotate(f" {after.stage}", (number + 0.5, 0.5), xycoords=("data", "axes fraction"), color="grey")
