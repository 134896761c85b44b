"""`bmp compress` as it is typed: what is printed where, and the exit codes."""

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from bmp.artifact.manifest import MANIFEST_FILE
from bmp.cli import main
from bmp.registry import Registry

ONE = ("--chain", "[{cluster: {clusters: 16}}, int8]")


@pytest.fixture(scope="module")
def typed(tiny_run, tmp_path_factory):
    """`typed(*words)` is `bmp compress *words`; all in one registry, in one working directory."""
    directory = tmp_path_factory.mktemp("typed")
    shutil.copytree(tiny_run.version.path.parent.parent, directory / "registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.delenv("TF_CONFIG", raising=False)
        yield lambda *words: CliRunner().invoke(main, ["compress", *words])


@pytest.fixture(scope="module")
def searched(typed):
    """One object of JSON, and what went to the other side; version 2 is published."""
    done = typed("tiny", *ONE, "--json")
    assert done.exit_code == 0, done.output
    return done


def test_a_search_prints_one_json_object_and_nothing_else_there(searched):
    row = json.loads(searched.stdout)
    assert (row["model"], row["parent"], row["version"], row["recommended"]) == ("tiny", 1, 2, "cluster-16_int8")
    assert [trial["name"] for trial in row["trials"]] == ["float32", "cluster-16_int8"]
    assert row["verdicts"]["cluster-16_int8"]["kind"] == "proven"
    assert "Proven on 719 examples, with 95 % confidence" in searched.stderr
    assert row["work_dir"] == "runs/compress-tiny-1"
    assert "trial 1  cluster-16_int8: " in searched.stderr


def test_options_may_stand_before_the_model_and_the_subcommand_be_named(typed):
    first = typed("--chain", "[{prune: {sparsity: 0.99, epochs: 1}}]", "--max-drop", "1%", "tiny/1")
    assert first.exit_code == 3
    assert "trial 1  prune-0.99: " in first.output and "breaks the promise" in first.output
    assert "Recommended: the original, uncompressed." in first.output
    assert "What prune-0.99 loses, it loses most in probabilities (" in first.output, "which layers are to blame"
    assert "Nothing was published; the report is runs/compress-tiny-1/compression.html" in first.output
    second = typed("search", "tiny/1", "--chain", "[{prune: {sparsity: 0.99, epochs: 1}}]", "--json")
    assert second.exit_code == 3
    assert json.loads(second.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["version"] is None


def test_a_chain_that_is_not_possible_is_plain_json_too(typed):
    done = typed("tiny/1", "--chain", "[{channels: {multiple: 64}}]", "--json")
    assert done.exit_code == 3
    (_, trial) = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["trials"]
    assert trial["score"] is None and trial["failure"].startswith("No layer can lose channels")


def test_a_budget_of_trials_needs_no_time(typed):
    of = ("-t", "int8", "-t", "float16", "-t", "dynamic")
    done = typed("tiny/1", *of, "--max-trials", "2", "--goal", "balanced", "--metric", "f1")
    assert done.exit_code == 0, done.output
    assert "All 2 trials are used up." in done.output
    assert re.search(r"^published +registry/tiny/\d ", done.output, re.MULTILINE)


def test_verify_measures_again_and_tells_by_its_exit_code(typed, searched):
    done = typed("verify", "tiny/2")
    assert done.exit_code == 0 and "claims, measured again" in done.output
    rows = json.loads(typed("verify", "tiny/2", "--json").stdout)
    assert rows and all(row["holds"] for row in rows)
    path = Registry("registry").get("tiny", 2).path / MANIFEST_FILE
    before = path.read_text()
    manifest = json.loads(before)
    manifest["promise"]["verdict"] = "failed"
    path.chmod(0o644)
    path.write_text(json.dumps(manifest))
    done = typed("verify", "tiny/2")
    assert done.exit_code == 1 and "altered since it was published" in done.output
    journal = Path("registry", "tiny", "journal.jsonl").rename("journal-of-before")
    Registry("registry").repair("tiny")  # as if it had been published so
    done = typed("verify", "tiny/2")
    path.write_text(before)
    journal.replace(Path("registry", "tiny", "journal.jsonl"))
    assert done.exit_code == 1 and "NO" in done.output


def test_check_says_what_there_is_to_try(typed):
    done = typed("check", "tiny/1")
    assert done.exit_code == 0 and "what can be done to which layers" in done.output
    rows = json.loads(typed("check", "tiny/1", "--json").stdout)
    layers = {row["layer"] for row in rows if row["technique"] == "prune" and row["verdict"] == "applies"}
    assert {None, "dense_1"} <= layers


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["tny"], 1, "Did you mean 'tiny'?"),
        (["tiny/9"], 1, "9"),
        (["check", "tinny"], 1, "neither a published model nor a recipe"),
        (["verify", "tny"], 1, "Did you mean 'tiny'?"),
        (["tiny/1", "-t", "int7"], 2, "No technique is named 'int7'. Known: "),
        (["tiny/1", "-t", "int7"], 2, "Did you mean 'int8'?"),
        (["tiny/1", "-t", "prune", "--goal", "latency"], 2, "The goal is latency, but prune saves bytes and no time"),
        (["tiny/1", "--chain", "[int8, prune]"], 2, "'prune' cannot come after 'int8'"),
        (["tiny/1", "--chain", "[int8"], 2, "is not valid YAML"),
        (["tiny/1", "--chain", "int8"], 2, "'compress.chains.0' is 'int8', but input should be a valid list"),
        (["tiny/1", "--time", "1s"], 2, "A time of 1 s is over before one candidate is exported and measured"),
        (["tiny/1", "--time", "3 epochs"], 2, "it must be of seconds, minutes or hours, such as 20m"),
        (["tiny/1", "--max-drop", "0.01%"], 2, "too few to prove a drop of at most 0.01%"),
        (["tiny/1", "--max-drop", "lots"], 2, "'compress.max_drop' is 'lots'"),
        (["tiny/1", "--metric", "mae"], 2, "'mae' is no metric of the objective multiclass"),
        (["tiny/1", "--set", "gaol=size"], 2, "Did you mean 'goal'?"),
        (["tiny/1", "--recipe", "none.yaml"], 2, "There is no recipe file none.yaml"),
    ],
)
def test_a_mistake_is_said_in_one_sentence(typed, words, code, message):
    versions = Registry("registry").versions("tiny")
    done = typed(*words)
    assert done.exit_code == code, done.output
    said = [line for line in done.output.splitlines() if line.startswith("bmp: ")]
    assert len(said) == 1 and message in said[0], done.output
    assert "Traceback" not in done.output
    assert Registry("registry").versions("tiny") == versions


@pytest.mark.parametrize("words", [[], ["--help"], ["search", "--help"], ["check", "--help"], ["verify", "--help"]])
def test_help_says_what_can_be_typed(typed, words):
    done = typed(*words)
    assert done.exit_code == (0 if words else 2) and "Usage: " in done.output
    assert "MODEL" in done.output
