"""What is in a source, as a picture."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.data.describe.facts import Facts
from bmp.transforms import Field
from bmp.transforms.audio import decode_wav
from bmp.transforms.image import decode_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

_COLOURS = {"train": "#3b6ea5", "validation": "#e8a33d", "test": "#c2504b", "all": "#3b6ea5"}
_INK, _PALE = "#333333", "#e6e6e6"
_COLUMNS = 6
_MOST_PANELS = 24
_MOST_CLASSES = 60


def draw(facts: Facts, path: Path, title: str) -> None:
    """Draws class balance, and histograms of the features or a sheet of images, into a PNG.

    Args:
        facts: What is in the source.
        path: Of the PNG.
        title: Of the picture.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    panels = _list_panels(facts)
    rows = -(-len(panels) // _COLUMNS)
    style: dict[Any, Any] = {
        "font.size": 9,
        "axes.edgecolor": "#999999",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "text.color": _INK,
        "text.parse_math": False,  # a label may hold $
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
    }
    with rc_context(style):
        figure = Figure(figsize=(12, 3.6 + 1.9 * rows), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[3.2, max(1.9 * rows, 0.01)])
        counts = ", ".join(f"{len(index):,} {name}" for name, index in facts.splits.items())
        figure.suptitle(f"{title}: {counts}", fontsize=12, fontweight="bold")
        _draw_target(facts, parts[0].subplots())
        if panels:
            _draw_panels(panels, parts[1], rows)
        with warnings.catch_warnings():  # a label in a script that the font lacks is drawn as boxes
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(path, dpi=120)


def _draw_target(facts: Facts, axes: "Axes") -> None:
    if facts.balance is not None:
        _draw_balance(facts, axes)
    elif facts.numbers:
        _draw_numbers(facts, axes)
    else:
        _draw_tokens(facts, axes)
    axes.grid(axis="y", color=_PALE)
    axes.set_axisbelow(True)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        axes.legend(frameon=False, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.16))


def _draw_balance(facts: Facts, axes: "Axes") -> None:
    assert facts.balance is not None
    counts, labels = facts.balance, facts.target.labels
    if len(labels) > _MOST_CLASSES:
        order = np.argsort(-counts.sum(axis=0), kind="stable")
        for name, row in zip(facts.splits, counts[:, order], strict=True):
            axes.step(np.arange(len(order)), row, where="mid", color=_COLOURS[name], label=name)
        axes.set(xlabel=f"{len(labels):,} classes, the largest first", ylabel="examples", ylim=(0, None))
        return
    width = 0.8 / len(counts)
    for number, (name, row) in enumerate(zip(facts.splits, counts, strict=True)):
        places = np.arange(len(labels)) + (number - (len(counts) - 1) / 2) * width
        axes.bar(places, row, width * 0.94, color=_COLOURS[name], label=name)
    long = max(map(len, labels)) * len(labels) > 110
    axes.set_xticks(
        np.arange(len(labels)),
        [_cut(label, 24) for label in labels],
        rotation=40 if long else 0,
        ha="right" if long else "center",
        rotation_mode="anchor" if long else "default",
    )
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="examples", xlim=(-0.6, len(labels) - 0.4))
    axes.set_title("examples of each class" if facts.target.kind == "class" else "examples of each label", loc="left")


def _draw_numbers(facts: Facts, axes: "Axes") -> None:
    values = {name: found[:, 0] for name, found in facts.numbers.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins=40)
    axes.hist(
        list(values.values()),
        edges.tolist(),
        stacked=True,
        color=[_COLOURS[name] for name in values],
        label=list(values),
    )
    axes.set(ylabel="examples")
    axes.set_title("target" if facts.target.width == 1 else f"the first of {facts.target.width} targets", loc="left")


def _draw_tokens(facts: Facts, axes: "Axes") -> None:
    tokens, counts = np.unique(facts.sample_targets, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
    axes.bar(np.arange(len(order)), counts[order] / counts.sum(), 0.8, color=_COLOURS["all"])
    names = [_show_token(facts.target.labels[token]) for token in tokens[order]]
    axes.set_xticks(np.arange(len(order)), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=8)
    axes.tick_params(axis="x", length=0)
    axes.set(ylabel="share", xlim=(-0.8, len(order) - 0.2))
    axes.set_title(f"the most frequent of {len(facts.target.labels):,} tokens", loc="left")


def _show_token(text: str) -> str:
    shown = {" ": "␣", "\n": "\\n", "\t": "\\t"}
    return _cut("".join(shown.get(character, character) for character in text), 12)


# --- panels: one feature, image or sound each ---


def _list_panels(facts: Facts) -> list[tuple[str, str, Any]]:
    """Returns kind, title and content of each panel."""
    panels: list[tuple[str, str, Any]] = []
    counts = {feature.field.name: feature.counts for feature in facts.features}
    for field in facts.fields:
        column = facts.sample[field.name]
        name = _cut(field.name, 22)
        if field.kind == "category":
            panels.append(("bars", name, counts[field.name][:8]))
        elif field.kind == "number":
            panels.append(("histogram", name, column[~np.isnan(column)]))
        elif field.kind == "text":
            panels.append(("histogram", f"{name}: characters", np.array([len(text) for text in column])))
        elif field.kind in ("image", "audio") or _is_image(field):
            panels += _list_pictures(facts, field, column)
        elif facts.target.kind == "tokens":
            continue  # the tokens of the target, one place earlier
        elif field.vocabulary is not None:
            panels.append(("histogram", f"{name}: tokens", column.reshape(-1)))
        else:
            panels += _list_elements(name, column)
    return panels[:_MOST_PANELS]


def _is_image(field: Field) -> bool:
    shape = field.shape
    return (len(shape) == 2 and min(shape) > 4) or (len(shape) == 3 and shape[2] in (1, 3))


def _list_pictures(facts: Facts, field: Field, column: np.ndarray) -> list[tuple[str, str, Any]]:
    """Spreads pictures over the classes: the sample is in the order of the source."""
    count = min(len(column), _MOST_PANELS)
    chosen = np.linspace(0, len(column) - 1, count).astype(int)
    if facts.target.kind == "class":
        order = np.argsort(facts.sample_targets, kind="stable")
        chosen = order[chosen]
    labels = facts.target.labels
    titles = [labels[facts.sample_targets[place]] if facts.target.kind == "class" else "" for place in chosen]
    kind = "sound" if field.kind == "audio" else "image"
    return [(kind, _cut(title, 20), column[place]) for title, place in zip(titles, chosen, strict=True)]


def _list_elements(name: str, column: np.ndarray) -> list[tuple[str, str, Any]]:
    rows = column.reshape(len(column), -1)
    if rows.shape[1] > _MOST_PANELS:
        return [("histogram", f"{name}: all {rows.shape[1]:,} values", rows.reshape(-1))]
    return [
        ("histogram", f"{name}[{number}]" if rows.shape[1] > 1 else name, rows[:, number])
        for number in range(rows.shape[1])
    ]


def _draw_panels(panels: list[tuple[str, str, Any]], figure: "SubFigure", rows: int) -> None:
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).reshape(-1)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, (kind, title, content) in zip(grid, panels, strict=False):
        axes.set_title(title)
        {"image": _draw_image, "sound": _draw_sound, "bars": _draw_bars, "histogram": _draw_histogram}[kind](
            axes, content
        )


def _draw_image(axes: "Axes", content: Any) -> None:
    pixels = decode_image(content) if isinstance(content, bytes) else np.asarray(content, np.float64)
    if not isinstance(content, bytes):
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) / ((high - low) or 1)
    axes.imshow(pixels.squeeze(), cmap="gray", interpolation="nearest")
    axes.set_axis_off()


def _draw_sound(axes: "Axes", content: bytes) -> None:
    samples, rate_hz = decode_wav(content)
    axes.plot(np.arange(len(samples)) / rate_hz, samples, color=_COLOURS["train"], linewidth=0.5)
    axes.set(ylim=(-1, 1), yticks=[])
    axes.set_xlabel("s", loc="right", labelpad=0)


def _draw_bars(axes: "Axes", content: tuple[tuple[str, int], ...]) -> None:
    names = [_cut(name, 14) for name, _ in content]
    axes.barh(np.arange(len(names)), [count for _, count in content], 0.75, color=_COLOURS["train"])
    axes.set_yticks(np.arange(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=3)


def _draw_histogram(axes: "Axes", content: np.ndarray) -> None:
    if len(content):
        axes.hist(content.astype(np.float64), bins=30, color=_COLOURS["train"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
