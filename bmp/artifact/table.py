"""The table of variants: for people, and as rows for programs."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from bmp.artifact.manifest import Manifest

_UNITS = ((6, "MB"), (9, "GB"), (12, "TB"), (15, "PB"))


def to_rows(manifest: Manifest) -> list[dict[str, Any]]:
    """Returns one flat row a variant, in the units of `manifest.Measurement`."""
    rows = []
    for variant in manifest.variants:
        figures = variant.measured.model_dump()
        figures |= {f"test_{name}": value for name, value in figures.pop("test_metrics").items()}
        rows.append({"variant": variant.name, **figures, "verdict": variant.verdict, "file": variant.file})
    return rows


def build_table(manifest: Manifest) -> Table:
    """Returns the table a run ends with; it fits 80 columns."""
    table = Table(
        title=f"{manifest.name}: {manifest.score} and cost, measured on each exported file",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("\nvariant", overflow="fold")
    for heading in (
        "score\nval.",
        "\ntest",
        "\nzeros",
        "\nbytes",
        "\ngzipped",
        "p50 ms\nbatch 1",
        "\nbatch 32",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("\nverdict", no_wrap=True)
    for variant in manifest.variants:
        measured = variant.measured
        table.add_row(
            variant.name.replace("_", " "),  # may be broken between two lines
            _say_score(measured.validation_score),
            _say_score(measured.test_score),
            f"{measured.sparsity:.0%}",
            _say_bytes(measured.size_bytes),
            _say_bytes(measured.gzip_bytes),
            f"{measured.latency_batch1_ms:.3f}",
            f"{measured.latency_batch32_ms:.3f}",
            variant.verdict.partition(":")[0],
            style="bold" if variant.name == manifest.recommended else "" if variant.file else "dim",
        )
    return table


def explain_verdicts(manifest: Manifest) -> list[str]:
    """Returns one line for each verdict that has a reason."""
    return [f"{variant.name} is {variant.verdict}" for variant in manifest.variants if ":" in variant.verdict]


def say_metrics(metrics: Mapping[str, float]) -> str:
    """Returns metrics in one line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def _say_score(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"


def _say_bytes(size_bytes: int) -> str:
    """Returns a size in at most eight characters."""
    if size_bytes < 10**6:
        return f"{size_bytes:,}"
    size, unit = next((size_bytes / 10**power, unit) for power, unit in _UNITS if size_bytes < 1000 * 10**power)
    return f"{size:.{2 if size < 100 else 1}f} {unit}"
