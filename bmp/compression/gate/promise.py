"""What is promised about a compressed model."""

from dataclasses import dataclass, replace

from bmp.compression.gate.classes import CLASS_FLOOR
from bmp.compression.gate.record import Record
from bmp.errors import ConfigError
from bmp.objectives import pick_metric


@dataclass(frozen=True)
class Promise:
    """That a compressed model is not worse than the original by more than so much.

    Args:
        max_drop: How much; see `bmp.objectives.Metric` for what it is a share of.
        metric: Of the objective; `auto` is its score.
        confidence: Of each limit of what is plausible, by itself.
        class_floor: How much of its recall a class may lose; None lets it lose all.
        min_agreement: Share of examples on which both must decide alike; None asks for none.

    Raises:
        ConfigError: A limit is out of its range.
    """

    max_drop: float
    metric: str = "auto"
    confidence: float = 0.95
    class_floor: float | None = CLASS_FLOOR
    min_agreement: float | None = None

    def __post_init__(self) -> None:
        _check("max_drop", self.max_drop, 0, 1, "0.005 allows half a point")
        _check("confidence", self.confidence, 0.5, 0.9999, "0.95 is usual")
        _check("class_floor", self.class_floor, 0, 1, "0.05 allows each class five points of its recall")
        _check("min_agreement", self.min_agreement, 0, 1, "0.99 asks for the same answer to 99 of 100 examples")

    def for_record(self, record: Record) -> "Promise":
        """Returns the promise with the metric that `auto` stands for.

        Raises:
            UnknownNameError: The objective does not measure the metric.
        """
        return replace(self, metric=pick_metric(self.metric, record.objective, record.labels))


def _check(name: str, value: float | None, low: float, high: float, example: str) -> None:
    if value is not None and not low <= value <= high:  # refuses NaN as well
        raise ConfigError(
            f"{name} is {value:g}, but it must be from {low:g} to {high:g}: {example}.",
            expected=f"{low:g} to {high:g}",
            received=f"{value:g}",
        )
