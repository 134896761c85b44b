"""The report, as JSON, as a table, as a page and as a picture."""

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_up import FIGURES, make_failure, make_report, make_trials, make_verdict
from PIL import Image
from rich.console import Console

from bmp.compression.gate import Promise
from bmp.compression.report import build_table, plot_front, read_json, say_outcome, write_json, write_page
from bmp.compression.report.table import pick_shown
from bmp.errors import ArtifactError

NASTY = "<b>&\"'$x_1$ [red]a[/red] \\"


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "front.png"
    plot_front(make_report(), path)
    return path


def print_table(report, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(build_table(report))
    return console.file.getvalue()


def test_json_is_strict_and_read_back(tmp_path):
    path = tmp_path / "compression.json"
    write_json(make_report(), path)
    document = read_json(path)
    assert document == json.loads(path.read_text(), parse_constant=pytest.fail)
    rows = {row["name"]: row for row in document["trials"]}
    assert len(rows) == len(FIGURES) + 1
    assert rows["two_of_four, int8"]["score"] is None
    assert rows["two_of_four, int8"]["verdict"].startswith("refused: No layer has a kernel")
    assert rows["channels 0.5, prune 0.7, int8"]["is_on_front"] and not rows["float16"]["is_on_front"]
    assert document["verdicts"]["channels 0.5, prune 0.7, int8"]["kind"] == "proven"
    assert document["best_per_goal"]["size"] == "channels 0.5, prune 0.7, int8"
    assert document["best_per_goal"]["latency"] == "student small, int8"


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (None, "the model was not compressed by a search"),
        ("{", "is not valid JSON"),
        ("[]", "has schema version None; this bmp reads version 1"),
        ('{"schema_version": 9}', "has schema version 9; this bmp reads version 1"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, written, sentence):
    path = tmp_path / "compression.json"
    if written is not None:
        path.write_text(written)
    with pytest.raises(ArtifactError, match=sentence):
        read_json(path)


def test_the_table_fits_a_terminal_and_says_what_matters():
    text = print_table(make_report())
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    (row,) = [line for line in text.splitlines() if "recommended" in line]
    assert "0.9783  +0.29     30.5  32.5×    0.006   6.6×" in row


def test_of_many_trials_the_table_shows_those_that_matter():
    more = [(f"prune 0.{place:03}", 0.98, 10**6, 900_000 + place, 0.05, 1) for place in range(200)]
    report = make_report(trials=make_trials([*FIGURES, *more]))
    shown = {trial.name for trial in pick_shown(report)}
    assert {"float32", report.outcome.recommended} | {trial.name for trial in report.front} <= shown
    assert len(shown) <= 24
    assert f"{len(report.outcome.trials) - len(shown)} more in the report" in print_table(report)


def test_the_outcome_in_words():
    first, verdict, failure, ending = say_outcome(make_report())
    assert first == (
        "Recommended for size and latency: channels 0.5, prune 0.7, int8, "
        "32.5 times smaller gzipped, 6.6 times as fast."
    )
    assert verdict.startswith("channels 0.5, prune 0.7, int8: Proven on 4,000 examples")
    assert failure == "two_of_four, int8 could not be made: No layer has a kernel that the pattern fits."
    assert ending == "Nothing that is left is expected to be better."


def test_a_promise_that_nothing_keeps_in_words():
    trials = make_trials([FIGURES[0], *(row for row in FIGURES if row[1] < 0.96)])
    sentences = say_outcome(make_report(recommended="float32", trials=trials, verdicts={}))
    assert sentences[0] == "Recommended: the original, uncompressed."
    assert sentences[1].endswith("on the validation split. The closest is channels 0.75, int8, 2.61 points worse.")


def test_texts_are_escaped_everywhere(tmp_path, png):
    trials = [replace(trial, name=NASTY if trial.name == "int8" else trial.name) for trial in make_trials()]
    trials = [replace(trials[0], notes=(NASTY,)), *trials[1:], make_failure(f"{NASTY}2", NASTY)]
    report = make_report(
        model=NASTY,
        recommended=NASTY,
        trials=trials,
        verdicts={NASTY: make_verdict()},
        facts={NASTY: NASTY},
        ending=NASTY,
    )
    plot_front(report, tmp_path / "nasty.png")
    write_page(report, tmp_path / "page.html", {NASTY: png})
    page = (tmp_path / "page.html").read_text()
    assert "<b>" not in page and "&lt;b&gt;&amp;&quot;&#x27;$x_1$ [red]a" in page
    assert "[red]a[/red]" in print_table(report, 200)


class _Checker(HTMLParser):
    """Counts tags and what is fetched from elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.rows, self.fetched, self.widths = [], 0, [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href")]
        self.widths += [0] if tag == "tr" else []
        if tag in ("td", "th"):
            self.widths[-1] += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(tmp_path, png):
    report = make_report()
    write_page(report, tmp_path / "page.html", {"Score and cost": png})
    page = (tmp_path / "page.html").read_text()
    checker = _Checker()
    checker.feed(page)
    assert not checker.open
    assert [value[:22] for value in checker.fetched] == ["data:image/png;base64,"]
    assert checker.widths.count(14) == 1 + len(report.outcome.trials)
    for said in (
        "Proven on 4,000 examples",
        "FULLY_CONNECTED",
        "41% zeros",
        "[channels, prune, int8]",
        "2 cores",
        "cat",
    ):
        assert said in page


def test_what_is_sorted_by_is_the_number_not_its_text(tmp_path, png):
    write_page(make_report(), tmp_path / "page.html", {})
    row = re.search(r"<tr[^>]*><td[^>]*>float32</td>.*?</tr>", (tmp_path / "page.html").read_text()).group()
    assert '<td data-value="990000">990,000</td>' in row


PICTURES = {
    "alone": {"recommended": "float32", "trials": make_trials()[:1], "verdicts": {}},
    "untimed": {"trials": [replace(trial, latency=None) for trial in make_trials()]},
    "all the same": {
        "recommended": "float32",
        "trials": make_trials([FIGURES[0], ("same", *FIGURES[0][1:])]),
        "verdicts": {},
    },
    "a loss": {"promise": Promise(0.02, metric="log_loss")},
    "nothing may be lost": {
        "recommended": "float32",
        "trials": make_trials([FIGURES[0], ("far off", 0.1, *FIGURES[1][2:])]),
        "verdicts": {},
        "promise": Promise(0.0, metric="accuracy"),
    },
}


@pytest.mark.parametrize("case", PICTURES)
def test_every_outcome_has_its_picture(case, tmp_path):
    plot_front(make_report(**PICTURES[case]), tmp_path / "front.png")
    with Image.open(tmp_path / "front.png") as image:
        assert image.size == (768 if case in ("alone", "untimed") else 1536, 588)
        assert len(image.convert("L").getcolors()) > 20


def test_labels_lie_on_no_point_and_on_no_label():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text

    from bmp.compression.report.labels import put_labels

    figure = Figure(figsize=(6, 4))
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlim=(0, 10), ylim=(0, 10))
    canvas.draw()
    points = [(4 + 0.7 * (i % 4), 4 + 0.7 * (i // 4), f"chain {i}") for i in range(12)]
    put_labels(axes, points, [(4.2, 4.3), (2.0, 2.0)])
    labels = [child for child in axes.get_children() if isinstance(child, Annotation)]
    boxes = [Text.get_window_extent(label, canvas.get_renderer()) for label in labels]
    pixels = axes.transData.transform([(x, y) for x, y, _ in points] + [(4.2, 4.3)])
    assert len(labels) >= 6 and labels[0].get_text() == "chain 0"
    assert not any(box.count_contains(pixels) for box in boxes)
    assert not any(boxes[i].overlaps(boxes[j]) for i in range(len(boxes)) for j in range(i))
