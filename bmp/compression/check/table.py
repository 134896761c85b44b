"""What `check_support` found: for people, and as rows for programs."""

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.table import Table

from bmp.compression.check.support import LayerSupport, Report

_CELLS = {"applies": "yes", "rewrite": "after", "nothing": "", "no": "no"}
_STYLES = {"no": "yellow", "after": "cyan"}
_NAMED = 2
"""Layers of a kind that are named; the others are counted."""


def to_rows(report: Report) -> list[dict[str, Any]]:
    """Returns a flat row for each layer and technique, and one with the layer None for each verdict on the model."""
    rows: list[dict[str, Any]] = [
        {"layer": None, "kind": None, "weights": sum(row.weights for row in report.rows), "technique": name}
        | {"verdict": verdict.verdict, "reason": verdict.reason, "fix": verdict.fix, "tried": verdict.tried}
        for name, verdict in report.verdicts.items()
    ]
    for row in report.rows:
        for name, support in row.supports.items():
            about = {"layer": row.layer, "kind": row.kind, "weights": row.weights, "technique": name}
            found = {"verdict": support.verdict, "reason": support.reason, "fix": support.fix, "tried": False}
            rows.append(about | found)
    return rows


def build_support_table(report: Report) -> Table:
    """Returns a table of kinds of layers and techniques; it fits 100 columns."""
    names = list(report.rows[0].supports) if report.rows else []
    table = Table(
        title=f"{report.model}: what can be done to which layers",
        title_justify="left",
        caption="after: after a rewrite that changes no answer; blank: nothing there to work on",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("layers", overflow="fold")
    table.add_column("weights", justify="right", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", "\n"), width=5, overflow="fold")
    for group in _group(report.rows):
        cells = [_CELLS[group[0].supports[name].verdict] for name in names]
        styled = [f"[{_STYLES[cell]}]{cell}[/]" if cell in _STYLES else cell for cell in cells]
        table.add_row(_say_layers(group), f"{sum(row.weights for row in group):,}", *styled)
    return table


def explain(report: Report) -> list[str]:
    """Returns what a person should know beside the table, one line each: verdicts, refusals, rewrites, exceptions."""
    width = max((len(name) for name in report.verdicts), default=0)
    lines = []
    for name, verdict in report.verdicts.items():
        word = {"applies": "yes", "rewrite": "after a rewrite", "no": "no"}[verdict.verdict]
        lines.append(f"{name:<{width}}  {word}: {verdict.reason}{f'; {verdict.fix}' if verdict.fix else ''}")
    lines += _say_refusals(report)
    for step in report.legal.steps if report.legal else ():
        lines.append(f"rewrite {step.name}: {_count(step.layers)}, answers differ by {step.difference:.0e}")
    for layer, reason in report.float_layers.items():
        lines.append(f"stays float under int8: {layer}: {reason}")
    return [*lines, *report.notes]


def _group(rows: Iterable[LayerSupport]) -> list[list[LayerSupport]]:
    """Returns layers of one kind of which the same is said, together."""
    groups: dict[Any, list[LayerSupport]] = {}
    for row in rows:
        groups.setdefault((row.kind, *(support.verdict for support in row.supports.values())), []).append(row)
    return list(groups.values())


def _say_layers(group: list[LayerSupport]) -> str:
    names = [row.layer for row in group]
    return f"{group[0].kind}: {_count(names)}"


def _say_refusals(report: Report) -> list[str]:
    """Returns one line for each reason why layers with weights are refused, where the technique takes others."""
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in report.rows:
        for name, support in row.supports.items():
            if support.verdict == "no" and row.weights and report.works(name):
                of = found.setdefault((support.reason, support.fix), {})
                of.setdefault(name, []).append(row.layer)
    lines = []
    for (reason, fix), by_technique in found.items():
        layers = list(dict.fromkeys(layer for names in by_technique.values() for layer in names))
        lines.append(f"no {', '.join(by_technique)} for {_count(layers)}: {reason}{f'; {fix}' if fix else ''}")
    return lines


def _count(names: Iterable[str]) -> str:
    """Returns the first names, and how many more there are."""
    names = list(names)
    if len(names) <= _NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
