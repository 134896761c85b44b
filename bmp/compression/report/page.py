"""The page: everything a compression has found, in one HTML file that needs no other."""

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path

from bmp.compression.evidence.kernels import KernelReport
from bmp.compression.gate import Verdict
from bmp.compression.report.report import Report
from bmp.compression.report.table import say_change, say_outcome
from bmp.compression.search.trial import Trial
from bmp.storage import write_atomically

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 88rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; vertical-align: top }
th:first-child, td:first-child, .text { text-align: left } td.text:last-child { min-width: 9rem }
th button { font: inherit; font-weight: 600; border: 0; background: none; padding: 0; cursor: pointer }
th[aria-sort=ascending] button::after { content: " \\2191" }
th[aria-sort=descending] button::after { content: " \\2193" }
tr.recommended td { font-weight: 600; background: #fbeeed } tr.dim td { color: #888 }
.lead { background: #f3f6fa; border-left: 4px solid #3b6ea5; padding: .6rem 1rem } .lead p { margin: .3rem 0 }
pre { background: #f6f6f6; padding: .8rem 1rem; overflow-x: auto } img { max-width: 100%; height: auto }
"""

_SORT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0]
  const down = head.getAttribute("aria-sort") === "ascending", column = head.cellIndex
  const key = row => { const v = row.cells[column].dataset.value; return v === "" || isNaN(v) ? v : Number(v) }
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort")
  head.setAttribute("aria-sort", down ? "descending" : "ascending")
  const rows = [...body.rows].sort((a, b) => {
    const x = key(a), y = key(b)
    if (x === "" || y === "") return (x === "") - (y === "")
    return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1)
  })
  body.append(...rows)
}
"""

Cell = tuple[str, object]
"""What is shown and what is sorted by."""
Row = tuple[str, list[Cell]]
"""The style of a row, and its cells."""


def write_page(report: Report, path: Path, pictures: Mapping[str, Path]) -> None:
    """Writes the page.

    Args:
        report: What was found.
        path: The file to write.
        pictures: PNG files by heading; they become part of the page.
    """
    title = f"Compression of {report.model}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="lead">{"".join(f"<p>{escape(sentence)}</p>" for sentence in say_outcome(report))}</div>',
        *(_show_picture(heading, picture) for heading, picture in pictures.items()),
        _show_trials(report),
        *(_show_verdict(name, verdict) for name, verdict in report.outcome.verdicts.items()),
        *(_show_kernels(name, kernels) for name, kernels in report.kernels.items()),
        _show_notes(report.outcome.trials),
        _show_recipe(report),
        _show_facts(report.facts),
    ]
    page = (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{chr(10).join(filter(None, parts))}\n"
        f"<script>{_SORT}</script>\n</body>\n</html>\n"
    )
    write_atomically(path, page.encode())


def _show_picture(heading: str, picture: Path) -> str:
    data = base64.b64encode(picture.read_bytes()).decode()
    return f'<h2>{escape(heading)}</h2>\n<img alt="{escape(heading)}" src="data:image/png;base64,{data}">'


def _show_trials(report: Report) -> str:
    headings = [
        "chain",
        report.promise.metric,
        "drop",
        "bytes",
        "gzipped",
        "bits counted, bytes",
        "times smaller",
        "p50 ms, batch 1",
        "p95 ms",
        "p50 ms, batch 32",
        "p95 ms",
        "epochs",
        "seconds",
        "verdict",
    ]
    rows = [(_class_of(report, trial), _list_cells(report, trial)) for trial in report.ranked()]
    return f"<h2>All trials, on the validation split</h2>\n{_write_table(headings, rows)}"


def _class_of(report: Report, trial: Trial) -> str:
    if trial.name == report.outcome.recommended:
        return "recommended"
    return "" if trial.failure is None and report.keeps(trial) else "dim"


def _list_cells(report: Report, trial: Trial) -> list[Cell]:
    verdict = report.explain(trial)
    if trial.failure is not None:
        return [(trial.name, trial.name), *[("", "")] * 12, (verdict, verdict)]
    ratio = report.original.gzip_bytes / trial.gzip_bytes
    cells: list[Cell] = [
        (trial.name, trial.name),
        (f"{trial.score:.4f}", trial.score),
        (say_change(report, trial), trial.drop),
        *((f"{size:,}", size) for size in (trial.raw_bytes, trial.gzip_bytes, trial.bits_bytes)),
        (f"{ratio:.1f}", ratio),
        *_list_latencies(trial),
        (f"{trial.epochs:,}", trial.epochs),
        (f"{trial.duration_s:,.1f}", trial.duration_s),
        (verdict.partition(":")[0], verdict),  # what was tested is told in full further up
    ]
    return cells


def _list_latencies(trial: Trial) -> list[Cell]:
    cells: list[Cell] = []
    for size in (1, 32):
        at = (trial.latency or {}).get(size)
        cells += [("", "")] * 2 if at is None else [(f"{ms:.3f}", ms) for ms in (at.p50_ms, at.p95_ms)]
    return cells


def _show_verdict(name: str, verdict: Verdict) -> str:
    facts = {
        "how": verdict.method,
        "original": f"{verdict.metric} {verdict.original:.4f}",
        "candidate": f"{verdict.metric} {verdict.candidate:.4f}",
        "plausible drop": f"{verdict.low:.4f} to {verdict.high:.4f}; promised {verdict.max_drop:g}",
    }
    if verdict.agreement is not None:
        share = verdict.agreement
        facts["agreement"] = f"{share.meaning}: {share.share:.2%} ({share.low:.2%} to {share.high:.2%})"
    if verdict.calibration_errors is not None:
        facts["calibration error"] = "{:.4f} original, {:.4f} candidate".format(*verdict.calibration_errors)
    headings = [
        "class",
        "examples",
        "recall of the original",
        "of the candidate",
        "lost",
        "gained",
        "plausibly at least",
    ]
    rows: list[Row] = [
        (
            "recommended" if row.fell else "",
            [
                (row.label, row.label),
                (f"{row.examples:,}", row.examples),
                *((("", "") if share is None else (f"{share:.2%}", share)) for share in (row.original, row.candidate)),
                (f"{row.lost:,}", row.lost),
                (f"{row.gained:,}", row.gained),
                ("" if not row.examples else f"{row.low:+.2%}", row.low),
            ],
        )
        for row in verdict.classes
    ]
    classes = _write_table(headings, rows) if rows else ""
    return (
        f"<h2>{escape(name)} on the test split: {verdict.kind}</h2>\n<p>{escape(verdict.sentence)}</p>\n"
        f"{_write_pairs(facts)}\n{classes}"
    )


def _show_kernels(name: str, kernels: KernelReport) -> str:
    headings = ["operation", "source", "output", "weights", "runs", "remark"]
    rows: list[Row] = [
        (
            "",
            [
                (row.operator, row.operator),
                (row.source, row.source),
                (" × ".join(map(str, row.shape)), " ".join(f"{size:09d}" for size in row.shape)),
                (f"{row.weights:,}", row.weights),
                (row.kernel, row.kernel),
                (row.remark, row.remark),
            ],
        )
        for row in kernels.rows
    ]
    table = _write_table(headings, rows)
    return f"<h2>What runs {escape(name)}</h2>\n<p>{escape(kernels.summary)}</p>\n{table}"


def _show_notes(trials: Iterable[Trial]) -> str:
    notes = [f"<li>{escape(trial.name)}: {escape(note)}</li>" for trial in trials for note in trial.notes]
    return f"<h2>Notes</h2>\n<ul>{''.join(notes)}</ul>" if notes else ""


def _show_recipe(report: Report) -> str:
    if not report.recipe:
        return ""
    where = "This section of a recipe; a version that was published holds the whole, as bmp/recipe.yaml."
    return f"<h2>To repeat it</h2>\n<p>{where}</p>\n<pre>{escape(report.recipe)}</pre>"


def _show_facts(facts: Mapping[str, str]) -> str:
    return f"<h2>How it was measured</h2>\n{_write_pairs(facts)}" if facts else ""


def _write_pairs(pairs: Mapping[str, str]) -> str:
    rows = (f'<tr><td>{escape(key)}</td><td class="text">{escape(value)}</td></tr>' for key, value in pairs.items())
    return f"<table>{''.join(rows)}</table>"


def _write_table(headings: Iterable[str], rows: Iterable[Row]) -> str:
    """Returns a table that sorts by a click on a heading; a column whose cells are texts is set to the left."""
    rows = list(rows)
    head = "".join(f'<th scope="col"><button type="button">{escape(heading)}</button></th>' for heading in headings)
    body = "\n".join(
        f'<tr class="{style}">{"".join(_write_cell(shown, value) for shown, value in cells)}</tr>'
        for style, cells in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def _write_cell(shown: str, value: object) -> str:
    style = ' class="text"' if isinstance(value, str) and value else ""
    return f'<td{style} data-value="{escape(str(value))}">{escape(shown)}</td>'
