"""Pictures of what was measured on an exported file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_MAX_WRITTEN = 20


def plot_confusion(confusion: np.ndarray, labels: Sequence[str], path: Path) -> None:
    """Draws how often each class (row) was taken for each class (column) into a PNG.

    Args:
        confusion: Counts, `(C, C)`.
        labels: Name of each class.
        path: The file to write.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no window system

    classes = len(labels)
    side = min(max(4.0, 0.45 * classes + 2), 14.0)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)  # (C, C) of each true class
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.set(xlabel="predicted", ylabel="true")
    if classes <= _MAX_WRITTEN:
        names = [label if len(label) <= 14 else f"{label[:13]}…" for label in labels]
        axes.set_xticks(range(classes), names, rotation=45 if max(map(len, names)) > 3 else 0, ha="center")
        axes.set_yticks(range(classes), names)
        for true, predicted in np.argwhere(confusion):
            axes.text(
                predicted,
                true,
                f"{confusion[true, predicted]:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[true, predicted] > 0.6 else "black",
            )
    figure.savefig(path, dpi=120)
