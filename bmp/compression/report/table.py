"""The table for the terminal, and the outcome in a few sentences."""

from rich import box
from rich.markup import escape
from rich.table import Table

from bmp.compression.gate.words import say_amount
from bmp.compression.report.report import Report
from bmp.compression.search.trial import Trial
from bmp.objectives import METRICS

_MOST_SHOWN = 24


def build_table(report: Report) -> Table:
    """Returns the trials as a table that fits 80 columns, as far as their names do; of many, those that matter."""
    shown = pick_shown(report)
    left_out = len(report.outcome.trials) - len(shown)
    metric = report.promise.metric
    table = Table(
        title=escape(f"{report.model}: {metric} on the validation split and cost, measured on each exported file"),
        caption=f"{left_out:,} more in the report" if left_out else None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("\nchain", overflow="fold")
    for heading in (f"\n{metric[:8]}", "\ndrop", "gzipped\nkB", "\ntimes", "p50 ms\nbatch 1", "\ntimes"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("\nverdict", no_wrap=True)
    for trial in shown:
        is_recommended = trial.name == report.outcome.recommended
        style = "bold" if is_recommended else "" if report.keeps(trial) and trial.failure is None else "dim"
        table.add_row(*(escape(cell) for cell in _fill_row(report, trial)), style=style)
    return table


def pick_shown(report: Report) -> list[Trial]:
    """Returns the trials in the order of a table; of many, the front, what was tested, and the best of the rest."""
    ranked = report.ranked()
    if len(ranked) <= _MOST_SHOWN:
        return ranked
    needed = {report.original.name, report.outcome.recommended, *report.outcome.verdicts}
    needed |= {trial.name for trial in report.front}
    rest = [trial.name for trial in ranked if trial.name not in needed and trial.failure is None]
    kept = needed | set(rest[: max(_MOST_SHOWN - len(needed), 0)])
    return [trial for trial in ranked if trial.name in kept]


def _fill_row(report: Report, trial: Trial) -> list[str]:
    verdict = report.explain(trial).partition(":")[0]
    if trial.failure is not None:
        return [trial.label, "", "", "", "", "", "", verdict]
    base = report.original
    time_ms = base_ms = None
    if trial.latency is not None and base.latency is not None:
        time_ms, base_ms = trial.latency[1].p50_ms, base.latency[1].p50_ms
    return [
        trial.label,
        f"{trial.score:.4f}",
        say_change(report, trial),
        f"{trial.gzip_bytes / 1e3:,.1f}",
        f"{base.gzip_bytes / trial.gzip_bytes:.1f}×",
        "" if time_ms is None else f"{time_ms:.3f}",
        "" if time_ms is None or base_ms is None else f"{base_ms / time_ms:.1f}×",
        verdict,
    ]


def say_change(report: Report, trial: Trial) -> str:
    """Returns how much worse a trial is, in points or percent, with its sign: `-0.12` is better."""
    unit = "%" if METRICS[report.promise.metric].is_relative else ""
    return "0.00" + unit if abs(trial.drop) < 5e-5 else f"{trial.drop * 100:+.2f}{unit}"


def say_outcome(report: Report) -> list[str]:
    """Returns what came out, a sentence each: what is recommended and why, what it saves, and what failed."""
    outcome, metric = report.outcome, report.promise.metric
    allowed = say_amount(metric, report.promise.max_drop)
    sentences = [_say_recommended(report)]
    sentences += [f"{name}: {verdict.sentence}" for name, verdict in outcome.verdicts.items()]
    if not outcome.is_met and outcome.best is None and len(outcome.trials) > 1:
        closest = min((t for t in outcome.trials[1:] if t.failure is None), key=lambda t: t.drop, default=None)
        near = "" if closest is None else f" The closest is {closest.name}, {say_amount(metric, closest.drop)} worse."
        sentences.append(f"No form keeps {metric} within {allowed} on the validation split.{near}")
    failures = [trial for trial in outcome.trials if trial.failure is not None]
    sentences += [f"{trial.name} could not be made: {trial.failure}" for trial in failures]
    return [*sentences, *([report.ending] if report.ending else [])]


def _say_recommended(report: Report) -> str:
    if not report.outcome.is_met:
        return "Recommended: the original, uncompressed."
    trial, base = report.recommended, report.original
    saved = f"{base.gzip_bytes / trial.gzip_bytes:.1f} times smaller gzipped"
    if trial.latency is not None and base.latency is not None:
        ratio = base.latency[1].p50_ms / trial.latency[1].p50_ms
        saved += f", {ratio:.1f} times as fast" if ratio >= 1 else f", {1 / ratio:.1f} times as slow"
    accepted = " It is unproven, and was accepted so." if report.outcome.accepted else ""
    goal = "size and latency" if report.goal == "balanced" else report.goal
    return f"Recommended for {goal}: {trial.name}, {saved}.{accepted}"
