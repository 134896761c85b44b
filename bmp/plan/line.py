"""A quantity that grows with the examples of a batch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """So much at all events, and so much more an example.

    Args:
        fixed: Whatever the batch.
        each: For every example.
    """

    fixed: float
    each: float

    def at(self, examples: float) -> float:
        """Returns the quantity for a batch of so many examples."""
        return self.fixed + self.each * examples


def draw_line(points: dict[int, float]) -> Line:
    """Returns the line through what was found for two sizes of a batch, or from zero through one.

    Noise must not make a larger batch cheaper, or an empty one cost less than nothing: both parts are at least 0.

    Args:
        points: Examples to quantity.
    """
    (small, low), (large, high) = min(points.items()), max(points.items())
    if small == large:
        return Line(0.0, high / large)
    each = max((high - low) / (large - small), 0.0)
    fixed = high - each * large
    return Line(fixed, each) if fixed >= 0 else Line(0.0, high / large)
