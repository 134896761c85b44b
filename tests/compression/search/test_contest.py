"""The contest: what was asked for and what is searched for, measured alike, and the best of them tested."""

import io
import re

import pytest
from conftest import make_trainer
from rich.console import Console

from bmp.artifact.artifact import RECOMMENDED_FILE, export_variant
from bmp.artifact.proof import evaluate
from bmp.compression.chain import read_chains
from bmp.compression.evidence.measure import Measurer
from bmp.compression.evidence.publication import lay_out, make_report, repeat, write_report
from bmp.compression.report import REPORT_FILE
from bmp.compression.report.report import read_json
from bmp.compression.search.contest import hold_contest, promise_of
from bmp.compression.search.workbench import open_workbench
from bmp.config import load_recipe
from bmp.training.stop import TIME_OVER, StopRequest

PRUNE, TOO_MUCH = [{"prune": {"sparsity": 0.5}}], [{"prune": {"sparsity": 0.99}}]
IMPOSSIBLE = [{"channels": {"remove": 0.5, "multiple": 64}}, "int8"]


class Arena:
    """All that a contest takes, with the tiny model.

    Args:
        run: That made the model.
        directory: For its files.
        changes: Of `compress`.
    """

    def __init__(self, run, directory, **changes):
        recipe = load_recipe(str(run.directory / "recipe.yaml"))
        self.recipe = recipe.model_copy(update={"compress": recipe.compress.model_copy(update=changes)})
        self.run, self.directory, self.stop = run, directory, StopRequest()
        self.bench = open_workbench(run.model, self.recipe, make_trainer(run.data, self.stop), directory / "stages")
        self.measurer = Measurer(run.data, self.bench.workshop, self.recipe.compress.metric, directory)
        self.output = io.StringIO()

    def hold(self, asked=(), chains=None):
        original = export_variant("float32", self.run.model, self.run.data.signature, self.directory)
        return hold_contest(
            original,
            self.bench.make_all(read_chains(asked)),
            self.measurer,
            self.recipe.compress,
            Console(file=self.output, width=300),
            bench=self.bench,
            chains=None if chains is None else read_chains(chains),
        )


@pytest.fixture(scope="module")
def arena(tiny_run, tmp_path_factory):
    return Arena(tiny_run, tmp_path_factory.mktemp("arena"))


@pytest.fixture(scope="module")
def contest(arena):
    return arena.hold([["int8"], PRUNE, [*PRUNE, "int8"], TOO_MUCH, IMPOSSIBLE])


def test_all_that_was_asked_for_is_measured_and_timed(contest):
    names = ["float32", "int8", "prune-0.5", "prune-0.5_int8", "prune-0.99"]
    assert [trial.name for trial in contest.outcome.trials] == [*names, "channels-0.5_int8"]
    assert list(contest.finalists) == names
    assert all(contest.outcome.trial(name).latency is not None for name in names)
    assert (contest.ending, contest.exit_code) == ("", None)


def test_the_smallest_that_is_proven_is_recommended(contest, tiny_run):
    outcome = contest.outcome
    assert outcome.recommended == outcome.best == "prune-0.5_int8"
    verdict = outcome.verdicts[outcome.recommended]
    assert (verdict.kind, verdict.metric, verdict.examples) == ("proven", "accuracy", len(tiny_run.data.test))
    assert "prune-0.99" not in outcome.verdicts


def test_each_trial_is_told_in_a_line(contest, arena):
    lines = arena.output.getvalue().splitlines()
    assert len(lines) == 5
    assert re.match(
        r"trial 1  int8: 0\.\d{4} \([+-]0\.\d{4}\), [\d,]+ bytes gzipped.*; best so far int8, \d\.\d x$", lines[0]
    )
    assert "prune-0.99: " in lines[3] and ", 2 epochs" in lines[3] and ", breaks the promise" in lines[3]
    assert lines[4].startswith("trial 5  channels-0.5_int8: not possible: No layer can lose channels at remove: 0.5")


# === What is published of it ===


@pytest.fixture(scope="module")
def published(contest, arena, tmp_path_factory):
    artifact = tmp_path_factory.mktemp("artifact")
    return artifact, lay_out(contest, arena.measurer, promise_of(arena.recipe.compress), artifact)


def test_what_keeps_the_promise_is_kept(published, contest, arena):
    artifact, publication = published
    assert publication.recommended == "prune-0.5_int8"
    assert {name: path.relative_to(artifact).as_posix() for name, path in publication.places.items()} == {
        "float32": "variants/float32.tflite",
        "int8": "variants/int8.tflite",
        "prune-0.5": "variants/prune-0.5.tflite",
        "prune-0.5_int8": RECOMMENDED_FILE,
    }
    for name, path in publication.places.items():
        assert path.read_bytes() == arena.measurer.path_of(contest.outcome.trial(name)).read_bytes()


def test_finalists_are_measured_on_the_test_split(published, contest, arena, tiny_run):
    _, publication = published
    assert set(publication.measured) == set(publication.verdicts) == set(contest.finalists)
    for name, measured in publication.measured.items():
        trial = contest.outcome.trial(name)
        found = evaluate(arena.measurer.load(trial), tiny_run.data.test).result()
        assert (measured.test_score, measured.test_metrics) == (found["accuracy"], found)
        assert (measured.validation_score, measured.size_bytes) == (trial.score, trial.raw_bytes)
        assert measured.latency_batch32_p95_ms == trial.latency[32].p95_ms
    assert publication.verdicts["prune-0.5_int8"].startswith("recommended: Proven on 719 examples")
    assert publication.verdicts["prune-0.99"].startswith("refused: on the validation split accuracy drops by")


def test_the_promise_stands_in_the_manifest_as_it_was_tested(published, contest):
    promise, verdict = published[1].promise, contest.outcome.verdicts["prune-0.5_int8"]
    assert (promise.metric, promise.max_drop, promise.verdict) == ("accuracy", 0.03, "proven")
    assert (promise.drop, promise.low, promise.high) == (verdict.drop, verdict.low, verdict.high)
    assert not promise.accepted_unproven


def test_the_report_is_written_whole(contest, arena, tmp_path):
    report = make_report("tiny/1", contest, arena.measurer, arena.recipe, {"seed": "2"})
    assert set(report.kernels) == {"float32", "prune-0.5_int8"}
    assert report.promise.metric == "accuracy"
    write_report(report, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {REPORT_FILE, "compression.html", "plots"}
    document = read_json(tmp_path / REPORT_FILE)
    assert (document["model"], document["recommended"]) == ("tiny/1", "prune-0.5_int8")
    assert [trial["name"] for trial in document["trials"]] == [trial.name for trial in contest.outcome.trials]
    assert "prune" in (tmp_path / "compression.html").read_text() and (tmp_path / "plots" / "compression.png").is_file()


def test_the_recipe_repeats_the_recommended_chain_and_nothing_else(contest, arena, tmp_path):
    recipe = arena.recipe.model_copy(
        update={"compress": arena.recipe.compress.model_copy(update={"time": "5m", "max_trials": 9})}
    )
    again = repeat(recipe, contest)
    assert again.compress.chains == [[{"prune": {"sparsity": 0.5}}, "int8"]]
    assert (again.compress.time, again.compress.max_trials, again.compress.max_drop) == (None, None, 0.03)
    assert again.train == recipe.train
    report = make_report("tiny/1", contest, arena.measurer, recipe, {})
    (tmp_path / "again.yaml").write_text(
        "data: {source: sklearn}\nmodel: {build: mlp}\npublish: {name: x}\n" + report.recipe
    )
    assert load_recipe(str(tmp_path / "again.yaml")).compress == again.compress


# === Others ===


def test_none_is_recommended_where_none_keeps_the_promise(tiny_run, tmp_path):
    arena = Arena(tiny_run, tmp_path)
    contest = arena.hold([TOO_MUCH])
    assert not contest.outcome.is_met and contest.outcome.best is None
    (tmp_path / "artifact").mkdir()
    publication = lay_out(contest, arena.measurer, promise_of(arena.recipe.compress), tmp_path / "artifact")
    assert list(publication.places) == ["float32"] and publication.promise is None
    assert publication.places["float32"].name == RECOMMENDED_FILE
    assert repeat(arena.recipe, contest).compress.chains == []


def test_a_search_goes_on_from_what_was_asked_for(tiny_run, tmp_path):
    arena = Arena(tiny_run, tmp_path, max_trials=3, goal="balanced")
    contest = arena.hold([["int8"]], [["float16"], ["int8"], ["dynamic"], PRUNE, [*PRUNE, "int8"]])
    names = [trial.name for trial in contest.outcome.trials]
    assert names[:2] == ["float32", "int8"] and len(names) == len(set(names))
    # How many come after it the latencies of the moment decide.
    if len(names) == 4:
        assert contest.ending == "All 3 trials are used up."
    else:
        assert contest.ending == "Nothing that is left is expected to be better." and len(names) in (2, 3)
    assert all(trial.latency is not None for trial in contest.outcome.trials), "the goal needs it"
    assert "int8" in contest.finalists


def test_a_second_search_trains_nothing_again(tiny_run, tmp_path):
    chains = [["int8"], PRUNE, [*PRUNE, "int8"]]
    first = Arena(tiny_run, tmp_path)
    found = first.hold(chains=chains).outcome
    assert len(first.bench.history) > 0
    second = Arena(tiny_run, tmp_path)
    again = second.hold(chains=chains).outcome
    assert len(second.bench.history) == 0
    assert [(t.name, t.score, t.gzip_bytes) for t in again.trials] == [
        (t.name, t.score, t.gzip_bytes) for t in found.trials
    ]
    assert again.recommended == found.recommended
    assert all(trial.duration_s == 0 for trial in again.trials)


@pytest.mark.parametrize(
    ("code", "ended"), [(130, ("It was stopped.", 130)), (TIME_OVER, ("The time is over.", None))], ids=str
)
def test_a_stop_ends_the_search_with_what_there_is(tiny_run, tmp_path, code, ended):
    arena = Arena(tiny_run, tmp_path)
    arena.stop.exit_code = code
    contest = arena.hold([["int8"]], [["float16"], ["int8"], [*PRUNE, "int8"]])
    assert (contest.ending, contest.exit_code) == ended
    assert [trial.name for trial in contest.outcome.trials] == ["float32", "int8"]
    assert contest.outcome.recommended == "int8"
