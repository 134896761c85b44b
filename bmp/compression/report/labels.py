"""Labels beside points, none over another as far as there is room."""

from collections.abc import Sequence
from typing import Any

_MOST_LETTERS = 34
_DISTANCES = (7, 16, 28, 42, 58, 76)  # in points
_DIRECTIONS = ((1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6), (0, 1), (0, -1), (1, 0), (-1, 0))
_INK = "#333333"


def put_labels(axes: Any, labelled: Sequence[tuple[float, float, str]], others: Sequence[tuple[float, float]]) -> None:
    """Writes labels where they cover no point and no other label; one without room is left out.

    Args:
        axes: Of matplotlib, its limits fixed, on a figure whose layout is done.
        labelled: Place and text; the most important first, which always gets its label.
        others: Places of points that are not to be covered.
    """
    renderer = axes.figure.canvas.get_renderer()
    points = [axes.transData.transform((x, y)) for x, y in [*((x, y) for x, y, _ in labelled), *others]]
    taken: list[Any] = []
    for place, (x, y, text) in enumerate(labelled):
        label = _find_room(axes, renderer, (x, y), _shorten(text), points, taken)
        if label is None and place == 0:
            label = _write(axes, (x, y), _shorten(text), (1, 0.6), _DISTANCES[0])
        if label is not None:
            taken.append(_box_of(label, renderer))


def _find_room(
    axes: Any, renderer: Any, at: tuple[float, float], text: str, points: list[Any], taken: list[Any]
) -> Any:
    inside = axes.get_window_extent(renderer)
    for distance in _DISTANCES:
        for direction in _DIRECTIONS:
            label = _write(axes, at, text, direction, distance)
            box = _box_of(label, renderer).padded(1.5)
            if _is_within(box, inside) and not box.count_contains(points) and not box.count_overlaps(taken):
                return label
            label.remove()
    return None


def _box_of(label: Any, renderer: Any) -> Any:
    """Returns where the text stands, without the line that leads to its point."""
    from matplotlib.text import Text

    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)


def _write(axes: Any, at: tuple[float, float], text: str, direction: tuple[float, float], distance: float) -> Any:
    across, up = direction
    return axes.annotate(
        text,
        at,
        xytext=(across * distance, up * distance),
        textcoords="offset points",
        ha={1: "left", -1: "right", 0: "center"}[int(across)],
        va="center" if abs(up) < 1 else "bottom" if up > 0 else "top",
        fontsize=7.5,
        color=_INK,
        parse_math=False,
        zorder=4,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
        arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
    )


def _is_within(box: Any, frame: Any) -> bool:
    return bool(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
