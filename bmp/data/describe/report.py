"""What is in a source, as tables for a terminal."""

from rich.console import Console
from rich.table import Table

from bmp.data.describe.facts import Facts
from bmp.data.describe.features import FeatureFacts

_MOST_CLASSES = 40
_MOST_FEATURES = 60
_MOST_BAD = 20
_BAR = 24


def show(facts: Facts, console: Console) -> None:
    """Prints the tables."""
    usable = facts.examples - len(facts.bad)
    bad = f", {len(facts.bad):,} of them bad" if facts.bad else ""
    console.print(f"{facts.examples:,} examples{bad}; {_describe_target(facts)}", highlight=False, soft_wrap=True)
    console.print(f"split {facts.how}", highlight=False, soft_wrap=True)
    for table in (_build_splits(facts, usable), _build_balance(facts), _build_features(facts)):
        if table is not None:
            console.print()
            console.print(table)
    _show_warnings(facts, console)


def _describe_target(facts: Facts) -> str:
    target = facts.target
    return {
        "class": f"{len(target.labels):,} classes",
        "multilabel": f"{len(target.labels):,} labels, of which several may hold",
        "number": f"{target.width:,} number{'s' if target.width > 1 else ''} to predict",
        "tokens": f"the next of {len(target.labels):,} tokens, in windows of {target.width:,}",
    }[target.kind]


def _build_table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def _build_splits(facts: Facts, usable: int) -> Table:
    table = _build_table("split", "examples", "share", "copies\nwithin", "also in a\nlater split")
    for name, index in facts.splits.items():
        counts = (f"{found[name]:,}" if name in found else "–" for found in (facts.copies, facts.leaks))
        table.add_row(name, f"{len(index):,}", f"{len(index) / usable:.1%}", *counts)
    return table


def _build_balance(facts: Facts) -> Table | None:
    if facts.balance is not None:
        return _build_classes(facts)
    if not facts.numbers:
        return None
    table = _build_table("target", "min", "mean", "max", "std")
    for name, values in facts.numbers.items():
        table.add_row(
            name, *(_short(float(found)) for found in (values.min(), values.mean(), values.max(), values.std()))
        )
    return table


def _build_classes(facts: Facts) -> Table:
    assert facts.balance is not None
    totals = facts.balance.sum(axis=0)
    table = _build_table("class" if facts.target.kind == "class" else "label", *facts.splits, "all", "share")
    table.add_column("")
    order = range(len(totals)) if len(totals) <= _MOST_CLASSES else (-totals).argsort(kind="stable")
    for label in list(order)[:_MOST_CLASSES]:
        share = totals[label] / sum(map(len, facts.splits.values()))
        bar = "█" * max(round(_BAR * totals[label] / max(totals.max(), 1)), int(totals[label] > 0))
        counts = (f"{count:,}" for count in (*facts.balance[:, label], totals[label]))
        table.add_row(facts.target.labels[label], *counts, f"{share:.1%}", f"[cyan]{bar}[/cyan]")
    if len(totals) > _MOST_CLASSES:
        rest = len(totals) - _MOST_CLASSES
        table.add_row(f"… {rest:,} smaller ones", *[""] * (len(facts.splits) + 3))
    return table


def _build_features(facts: Facts) -> Table:
    table = _build_table("feature", "kind", "form", "missing", "min", "mean", "max", "std")
    table.add_column("most frequent", overflow="fold")
    for feature in facts.features[:_MOST_FEATURES]:
        numbers = (_short(value) for value in (feature.low, feature.mean, feature.high, feature.std))
        table.add_row(
            feature.field.name, feature.field.kind, _describe_form(feature), f"{feature.missing:,}", *numbers,
            _describe_counts(feature),
        )  # fmt: skip
    if len(facts.features) > _MOST_FEATURES:
        table.add_row(f"… {len(facts.features) - _MOST_FEATURES:,} more", *[""] * 8)
    return table


def _describe_form(feature: FeatureFacts) -> str:
    field = feature.field
    if field.kind == "tensor":
        of = f" of {field.vocabulary:,}" if field.vocabulary is not None else ""
        return f"{field.dtype}{of} ({', '.join(map(str, field.shape))})"
    if field.kind == "category":
        return f"{len(feature.counts):,} different"
    return "" if field.kind == "number" else feature.measure


def _describe_counts(feature: FeatureFacts) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in feature.counts[:3])


def _short(value: float) -> str:
    return "" if value != value else f"{value:,.4g}"


def _show_warnings(facts: Facts, console: Console) -> None:
    lines = []
    if dropped := sum(facts.leaks.values()):
        lines.append(f"{dropped:,} examples stand in a later split as well; training leaves the earlier ones out.")
    if facts.contradictions:
        lines.append(f"{facts.contradictions:,} copies are of another class than the first example of their content.")
    if facts.bad:
        lines.append(f"cannot be used: {len(facts.bad):,}")
        lines += [f"  {bad}" for bad in facts.bad[:_MOST_BAD]]
    if len(facts.bad) > _MOST_BAD:
        lines.append(f"  … and {len(facts.bad) - _MOST_BAD:,} more")
    if lines:
        console.print()
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
