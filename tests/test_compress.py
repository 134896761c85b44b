"""The compression of a published version, from what is asked for to the next version."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from rich.console import Console

from bmp.artifact.litert import LiteRTRunner, read_kernels
from bmp.artifact.manifest import check_files
from bmp.artifact.proof import evaluate
from bmp.compress import BROKEN, check, compress
from bmp.compression.report.report import read_json
from bmp.config import load_recipe
from bmp.errors import ArtifactError, ConfigError, DataError, NotFoundError
from bmp.registry import Registry
from bmp.training.history import read_history

CHEAP = ('compress.techniques=["cluster", "float16", "int8"]', "compress.max_trials=6")


@pytest.fixture
def call(tiny_registry, tmp_path):
    """`call(*overrides, model=, **options)` compresses in a registry of its own; returns it and what was printed."""

    def call(*overrides, model="tiny", **options):
        output = io.StringIO()
        options = {"work_dir": str(tmp_path / "work"), "registry": str(tiny_registry), **options}
        return compress(model, overrides, console=Console(file=output, width=300), **options), output.getvalue()

    return call


@pytest.fixture(scope="module")
def searched(tiny_run, tmp_path_factory):
    """A search, and a second one that goes on with a trial more."""
    directory, found = tmp_path_factory.mktemp("searched"), []
    shutil.copytree(tiny_run.version.path.parent.parent, directory / "registry")
    for trials in (3, 4):
        output = io.StringIO()
        compression = compress(
            "tiny/1",
            [CHEAP[0], f"compress.max_trials={trials}"],
            registry=str(directory / "registry"),
            work_dir=str(directory / "work"),
            console=Console(file=output, width=300),
        )
        found.append((compression, output.getvalue()))
    return directory, *found


# === A search ===


def test_a_search_publishes_the_next_version_with_its_parent(searched, tiny_run):
    directory, (first, said), _ = searched
    assert (first.exit_code, first.parent.number, first.version.number) == (0, 1, 2)
    manifest = first.version.read_manifest()
    check_files(first.version.path, manifest)
    assert manifest.lineage.parent_version == 1
    assert manifest.recommended == first.contest.outcome.recommended != "float32"
    assert manifest.max_drop == 0.03 == manifest.promise.max_drop
    assert manifest.promise.verdict == "proven" and not manifest.promise.accepted_unproven
    assert Registry(directory / "registry").versions("tiny") == [1, 2, 3]
    assert "All 3 trials are used up." in said
    assert f"published  {first.version.path}  (version 2)" in said


def test_the_version_serves_what_is_recommended_and_holds_the_evidence(searched, tiny_run):
    _, (first, _), _ = searched
    path, manifest, data = first.version.path, first.version.read_manifest(), tiny_run.data
    recommended = manifest.variant(manifest.recommended)
    assert recommended.file == "model.tflite"
    found = evaluate(LiteRTRunner(path / "model.tflite", data.signature), data.test).result()
    assert found == recommended.measured.test_metrics
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    assert {
        *("bmp/compression.json", "bmp/compression.html", "bmp/plots/compression.png", "bmp/plots/confusion.png"),
        *("bmp/history.csv", "bmp/recipe.yaml", "bmp/samples.npz"),
        *("saved_model.pb", "model.h5", "variants/float32.tflite"),
    } <= files
    parent = tiny_run.version.path
    for name in ("saved_model.pb", "model.h5"):
        assert (path / name).read_bytes() == (parent / name).read_bytes()
    report = read_json(path / "bmp" / "compression.json")
    assert (report["model"], report["recommended"]) == ("tiny/1", manifest.recommended)
    assert len(report["trials"]) == 4 and report["facts"]["splits"] == "719 training, 359 validation, 719 test"


def test_the_history_goes_on_where_the_parent_ended(searched):
    _, (first, _), _ = searched
    history = read_history(first.version.path / "bmp" / "history.csv")
    stages = [epoch.stage for epoch in history]
    assert stages[:12] == ["train"] * 12 and len(stages) > 12
    assert all(stage.startswith("cluster-") for stage in stages[12:])


def test_a_second_call_goes_on_and_trains_nothing_again(searched):
    directory, (first, _), (second, _) = searched
    before, after = first.contest.outcome.trials, second.contest.outcome.trials
    assert len(after) == len(before) + 1
    for trial, known in zip(after[1:], before[1:], strict=False):
        assert (trial.name, trial.score, trial.gzip_bytes, trial.duration_s) == (
            *(known.name, known.score, known.gzip_bytes),
            0.0,
        )
    assert after[-1].duration_s > 0
    assert not (directory / "work" / "artifact").exists()
    assert (second.parent.number, second.version.number) == (1, 3)


def test_the_recipe_of_the_version_repeats_its_chain(searched, tmp_path):
    directory, _, (second, _) = searched
    recipe = load_recipe(str(second.version.path / "bmp" / "recipe.yaml"))
    outcome = second.contest.outcome
    assert recipe.compress.chains == [list(outcome.trial(outcome.recommended).spec)]
    assert (recipe.compress.time, recipe.compress.max_trials, recipe.compress.techniques) == (None, None, None)
    again = compress(
        "tiny/1",
        recipe=str(second.version.path / "bmp" / "recipe.yaml"),
        registry=str(directory / "registry"),
        work_dir=str(tmp_path / "work"),
        console=Console(file=io.StringIO()),
    )
    assert [trial.name for trial in again.contest.outcome.trials] == ["float32", outcome.recommended]
    made, wanted = (version.path / "model.tflite" for version in (again.version, second.version))
    for name, kernel in read_kernels(made).items():
        np.testing.assert_array_equal(kernel, read_kernels(wanted)[name])


def test_it_can_be_told_as_json(searched):
    row = searched[1][0].to_json()
    assert (row["model"], row["parent"], row["version"]) == ("tiny", 1, 2)
    assert row["recommended"] in row["verdicts"]
    assert row["trials"][0]["name"] == "float32"


# === What is not proven ===


def test_where_no_candidate_keeps_the_promise_nothing_is_published(call, tiny_registry, tmp_path):
    done, said = call("compress.chains=[[{prune: {sparsity: 0.99, epochs: 1}}]]", "compress.max_drop=1%")
    assert (done.exit_code, done.version) == (BROKEN, None)
    assert Registry(tiny_registry).versions("tiny") == [1]
    assert f"Nothing was published; the report is {tmp_path / 'work' / 'compression.html'}" in said
    assert read_json(tmp_path / "work" / "compression.json")["recommended"] == "float32"
    assert not (tmp_path / "work" / "artifact").exists()
    assert done.to_json()["version"] is None


def test_what_is_unproven_is_published_by_choice_and_the_manifest_says_so(call):
    asked = ("compress.chains=[[{prune: {sparsity: 0.5}}]]", "compress.max_drop=1%")
    done, said = call(*asked)
    assert (done.exit_code, done.version) == (BROKEN, None)
    assert "Unproven on 719 examples" in said
    done, said = call(*asked, "compress.accept=unproven")
    manifest = done.version.read_manifest()
    assert (manifest.promise.verdict, manifest.promise.accepted_unproven) == ("unproven", True)
    assert manifest.promise.needed is None or manifest.promise.needed > 719
    assert manifest.recommended == "prune-0.5"


# === Ctrl-C ===


def test_ctrl_c_publishes_the_best_so_far(tiny_registry, tmp_path):
    words = ["compress", "tiny", "--registry", str(tiny_registry), "--work-dir", str(tmp_path / "work")]
    words += ["-t", "prune", "-t", "float16", "-t", "int8", "--set", "epochs=100000"]
    with subprocess.Popen(
        [sys.executable, "-m", "bmp", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:  # fmt: skip
        for line in process.stdout:
            if line.startswith("trial 2"):
                break
        time.sleep(1.0)  # in the middle of a fine-tuning that would last for minutes
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 130, rest + process.stderr.read()
    assert "It was stopped." in rest and "(version 2)" in rest
    version = Registry(tiny_registry).get("tiny", 2)
    assert version.read_manifest().recommended == "int8"
    check_files(version.path, version.read_manifest())


# === What cannot be done ===


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        (['compress.techniques=["prun"]'], ConfigError, "No technique is named 'prun'"),
        (['compress.techniques=["prun"]'], ConfigError, "Did you mean 'prune'?"),
        (["compress.chains=[[int8, prune]]"], ConfigError, "'prune' cannot come after 'int8'"),
        (['compress.techniques=["prune"]', "compress.goal=latency"], ConfigError, "saves bytes and no time on a CPU"),
        (["compress.time=1s"], ConfigError, "A time of 1 s is over before one candidate"),
        (["compress.max_drop=0.001%"], ConfigError, "too few to prove a drop of at most 0.00%"),
        (["compress.max_drop=0"], ConfigError, "no number is enough for a drop of 0"),
        (["compress.metric=acuracy"], ConfigError, "Did you mean 'accuracy'?"),
        (["compress.metric=mae"], ConfigError, "no metric of the objective multiclass"),
        (["compress.max_drp=1%"], ConfigError, "Did you mean 'max_drop'?"),
        (["compress.max_drop=1"], ConfigError, "'compress.max_drop' is 1, but input should be less than 1"),
        (['compress.chains=[[{prune: {skip: ["dens_1"]}}]]'], ConfigError, "Did you mean 'dense_1'?"),
        (["compress.chains=[[{prune: {sparsity: 2.0}}]]"], ConfigError, "argument 'sparsity' is 2.0"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_and_leaves_nothing(
    call, tiny_registry, tmp_path, overrides, error, message
):
    with pytest.raises(error) as caught:
        call(*overrides)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert Registry(tiny_registry).versions("tiny") == [1]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("tny", "Did you mean 'tiny'"),
        ("tiny/7", "7"),
        ("tiny@production", "production"),
    ],
)
def test_an_unknown_model_is_refused(call, tmp_path, model, message):
    with pytest.raises(NotFoundError) as caught:
        call(model=model)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_a_word_where_a_number_is_expected_is_taken_for_an_alias(call):
    with pytest.raises(ConfigError, match="Did you mean 'tiny@one'"):
        call(model="tiny/one")


def test_a_version_that_was_imported_is_refused(call, tiny_registry):
    (tiny_registry / "tiny" / "1" / "bmp" / "recipe.yaml").unlink()
    with pytest.raises(ConfigError, match="tiny/1 holds no recipe, because it was imported"):
        call()


def change_recipe(registry, change):
    """Changes the recipe in a version, as if the data it names were others by now."""
    path = registry / "tiny" / "1" / "bmp" / "recipe.yaml"
    path.chmod(0o644)
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))


def test_other_data_than_the_version_was_made_from_are_refused(call, tiny_registry, tmp_path):
    change_recipe(tiny_registry, lambda tree: tree["data"]["args"].update(name="wine"))
    with pytest.raises(DataError, match=r"The examples are no longer those that tiny/1 was made from") as caught:
        call(*CHEAP)
    assert caught.value.expected != caught.value.received
    assert not (tmp_path / "work").exists()


def test_a_version_without_a_keras_model_is_refused(call, tiny_registry, tmp_path):
    (tiny_registry / "tiny" / "1" / "model.h5").unlink()
    with pytest.raises(ArtifactError, match=r"tiny/1 holds no model\.h5"):
        call(*CHEAP)
    assert not (tmp_path / "work").exists()


def test_a_search_is_not_of_several_processes(call, monkeypatch, tmp_path):
    cluster = '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    with pytest.raises(ConfigError, match="A search runs in one process, and this is one of 2"):
        call(*CHEAP)
    assert not (tmp_path / "work").exists()


# === check ===


@pytest.mark.parametrize("reference", ["tiny", "breast_cancer"])
def test_check_says_what_there_is_to_try(tiny_registry, reference):
    output = io.StringIO()
    found = check(reference, registry=str(tiny_registry), console=Console(file=output, width=300))
    assert {"prune", "int8", "dense_1"} <= set(output.getvalue().replace("│", " ").split())
    assert found.works("int8") and found.works("prune")
    assert "int8 " in output.getvalue() and "exported and run: " in output.getvalue()


def test_check_guesses_at_a_name(tiny_registry):
    with pytest.raises(NotFoundError, match=r"'tin' is neither a published model nor a recipe.*Did you mean 'tiny'\?"):
        check("tin", registry=str(tiny_registry), console=Console(file=io.StringIO()))
