"""The whole flow, looked at from its end: what a run publishes and what it keeps."""

import io
import json
import shutil

import numpy as np
import pytest
import tf_keras as keras
from matplotlib.image import imread
from rich.console import Console

from bmp.artifact.formats import FORMATS
from bmp.artifact.litert import LiteRTRunner
from bmp.artifact.manifest import check_files, digest_file
from bmp.artifact.proof import evaluate
from bmp.artifact.samples import read_samples
from bmp.compression.chain import read_chains
from bmp.config import load_recipe
from bmp.errors import ConfigError, DataError, RegistryError, TrainingError
from bmp.registry import Registry
from bmp.run import run
from bmp.training.history import read_history
from bmp.training.trainer import check_replicas
from serving.models.model import load_model

VARIANTS = ["float32", "int8", "prune-0.8", "prune-0.8_int8"]


def list_files(directory):
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def read_variant_file(quick_run, variant):
    return LiteRTRunner(quick_run.version.path / variant.file, quick_run.data.signature)


# === The published version ===


def test_the_version_is_laid_out_as_documented(quick_run):
    files = list_files(quick_run.version.path)
    assert {
        "saved_model.pb",
        "variables/variables.index",
        "model.h5",
        "model.tflite",
        "bmp/manifest.json",
        "bmp/recipe.yaml",
        "bmp/history.csv",
        "bmp/samples.npz",
        "bmp/plots/history.png",
    } <= files
    kept = {variant.file for variant in quick_run.manifest.variants if variant.file}
    assert {file for file in files if file.endswith(".tflite")} == kept
    assert quick_run.manifest.variant(quick_run.manifest.recommended).file == "model.tflite"


def test_the_version_is_the_first_and_whole(quick_run):
    assert quick_run.version.number == 1
    assert quick_run.version.read_manifest() == quick_run.manifest
    check_files(quick_run.version.path, quick_run.manifest)
    registry = Registry(quick_run.version.path.parent.parent)
    assert registry.resolve("digits") == quick_run.version
    assert [record["event"] for record in registry.journal("digits")] == ["publish"]


def test_accuracies_are_those_of_the_published_files(quick_run):
    assert [variant.name for variant in quick_run.manifest.variants] == VARIANTS
    kept = [variant for variant in quick_run.manifest.variants if variant.file]
    assert len(kept) >= 2
    for variant in kept:
        runner, data = read_variant_file(quick_run, variant), quick_run.data
        for split, accuracy in (
            (data.test, variant.measured.test_score),
            (data.validation, variant.measured.validation_score),
        ):
            assert evaluate(runner, split).result()["accuracy"] == accuracy
        assert (quick_run.version.path / variant.file).stat().st_size == variant.measured.size_bytes


def test_the_recommended_variant_keeps_the_promise_and_is_smaller(quick_run):
    manifest, promise = quick_run.manifest, quick_run.manifest.promise
    assert (promise.metric, promise.max_drop, promise.verdict) == ("accuracy", manifest.max_drop, "proven")
    assert promise.drop <= promise.high <= promise.max_drop and promise.examples == len(quick_run.data.test)
    assert f"recommended: Proven on {promise.examples} examples" in manifest.variant(manifest.recommended).verdict
    base, best = manifest.variant("float32").measured, manifest.variant(manifest.recommended).measured
    assert manifest.recommended != "float32"
    assert base.validation_score - best.validation_score <= manifest.max_drop + 1e-9
    assert best.gzip_bytes < base.gzip_bytes / 2
    assert best.test_score > 0.9


def test_pruned_files_are_sparse_and_float_files_are_exact(quick_run):
    measured = {variant.name: variant.measured for variant in quick_run.manifest.variants}
    for name, found in measured.items():
        assert found.sparsity == pytest.approx(0.8, abs=0.03) if "prune" in name else found.sparsity < 0.1
        assert found.max_abs_diff > 1e-4 if "int8" in name else found.max_abs_diff <= 1e-4
    assert measured["int8"].size_bytes < measured["float32"].size_bytes / 2


@pytest.mark.parametrize("name", ["saved_model", "h5"])
def test_the_uncompressed_files_do_what_the_model_does(quick_run, name):
    runner = FORMATS[name].load(quick_run.version.path / FORMATS[name].path, quick_run.data.signature)
    inputs = quick_run.data.test.load().inputs
    np.testing.assert_allclose(runner.run(inputs)["probabilities"], quick_run.model(inputs["image"]), atol=1e-4)


def test_samples_are_test_examples_with_the_answers_of_the_served_file(quick_run):
    samples, test = read_samples(quick_run.version.path), quick_run.data.test.load()
    count = len(samples.targets)
    assert count > 0
    np.testing.assert_array_equal(samples.inputs["image"], test.inputs["image"][:count])
    np.testing.assert_array_equal(samples.targets, test.targets[:count])
    runner = LiteRTRunner(quick_run.version.path / "model.tflite", quick_run.data.signature)
    np.testing.assert_array_equal(samples.outputs["probabilities"], runner.run(samples.inputs)["probabilities"])


def test_the_manifest_says_where_the_model_comes_from(quick_run):
    lineage = quick_run.manifest.lineage
    assert lineage.recipe_sha256 == digest_file(quick_run.version.path / "bmp" / "recipe.yaml").sha256
    assert lineage.data_sha256 == quick_run.data.digest
    assert lineage.parent_version is None
    assert {"tensorflow", "tf-keras", "numpy"} <= set(lineage.packages)
    assert quick_run.manifest.labels == tuple("0123456789")
    assert quick_run.manifest.parsed_signature() == quick_run.data.signature


# === The run directory ===


def test_the_run_directory_keeps_the_records_and_nothing_else(quick_run):
    assert list_files(quick_run.directory) == {
        "recipe.yaml",
        "history.csv",
        "history.png",
        "confusion.png",
        "variants.json",
        "README.md",
        "status.json",
        "environment.json",
        "control/data",
        "control/lock",
        "control/precision",
    } | {name for name in list_files(quick_run.directory) if name.startswith(("checkpoints/", "tensorboard/"))}
    assert {entry.name for entry in quick_run.directory.iterdir() if entry.is_dir()} == {
        "checkpoints",
        "control",
        "tensorboard",
    }
    published = quick_run.version.path / "bmp"
    for mine, theirs in (("recipe.yaml",) * 2, ("history.csv",) * 2, ("history.png", "plots/history.png")):
        assert (quick_run.directory / mine).read_bytes() == (published / theirs).read_bytes()


def test_the_resolved_recipe_is_that_of_the_run(quick_run):
    recipe = load_recipe(str(quick_run.directory / "recipe.yaml"))
    assert (recipe.train.epochs, recipe.seed) == (6, load_recipe("digits").seed)
    assert [chain.name for chain in read_chains(recipe.compress.chains)] == VARIANTS[1:]
    assert recipe.publish.root == str(quick_run.version.path.parent.parent)


def test_the_history_is_of_training_and_fine_tuning(quick_run):
    history = read_history(quick_run.directory / "history.csv")
    assert history.epochs == quick_run.history.epochs
    assert [epoch.stage for epoch in history] == ["train"] * 6 + ["prune-0.8"] * 3
    assert imread(quick_run.directory / "history.png").std() > 0.01


def test_the_table_is_that_of_the_manifest(quick_run):
    rows = json.loads((quick_run.directory / "variants.json").read_text())
    assert [(row["variant"], row["verdict"], row["file"]) for row in rows] == [
        (variant.name, variant.verdict, variant.file) for variant in quick_run.manifest.variants
    ]
    assert rows[0]["test_score"] == quick_run.manifest.variants[0].measured.test_score


# === Again, with a variant that is no good ===


TOO_STRONG = "{prune: {sparsity: 0.98, epochs: 1}}"


@pytest.fixture(scope="module")
def second(quick_run, tmp_path_factory):
    """A run into a copy of the quick run's registry, its pruning far too strong; and what it printed."""
    directory, output = tmp_path_factory.mktemp("second"), io.StringIO()
    shutil.copytree(quick_run.version.path.parent.parent, directory / "registry")
    overrides = [
        "train.epochs=3",
        "compress.max_drop=0",
        f"compress.chains=[[{TOO_STRONG}], [{TOO_STRONG}, {{int8: {{calibration_examples: 64}}}}]]",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        result = run(load_recipe("digits", overrides), console=Console(file=output, width=80))
        yield result, output.getvalue(), directory


def test_running_again_publishes_the_next_version_and_keeps_the_first(second, quick_run):
    result, _, directory = second
    assert result.version.number == 2
    registry = Registry(directory / "registry")
    assert registry.versions("digits") == [1, 2]
    first = registry.get("digits", 1)
    check_files(first.path, first.read_manifest())
    assert first.read_manifest() == quick_run.manifest


def test_a_bad_variant_is_refused_with_the_reason_and_its_file_is_not_kept(second):
    result, output, directory = second
    published = list_files(directory / result.version.path)
    manifest = result.manifest
    base = manifest.variant("float32").measured.validation_score
    for name in ("prune-0.98", "prune-0.98_int8"):
        variant = manifest.variant(name)
        drop = base - variant.measured.validation_score
        assert drop > 0
        assert variant.verdict == (
            f"refused: on the validation split accuracy drops by {drop:.4f}; at most 0 is allowed"
        )
        assert variant.file is None and variant.verdict in output
    assert [file for file in published if file.endswith(".tflite")] == ["model.tflite"]
    assert (manifest.recommended, manifest.promise) == ("float32", None)
    assert "no compressed variant keeps the promise on the validation split" in manifest.variant("float32").verdict
    check_files(directory / result.version.path, result.manifest)


def test_the_run_directory_is_new_and_named_after_the_model(second):
    result, _, directory = second
    (made,) = (directory / "runs").iterdir()
    assert made == directory / result.directory and made.name.startswith("digits-")


def test_what_is_printed_ends_with_how_to_serve_it(second):
    result, output, _ = second
    lines = output.splitlines()
    assert lines[0].startswith("digits: 1,") and "cnn of" in lines[0]
    assert "one_device, 1 replica (this machine has" in lines[0]
    assert sum("examples/s" in line for line in lines) == 4
    rows = [line.split()[0] for line in lines if len(line.split()) == 9 and "%" in line]
    assert rows == ["float32", "prune-0.98", "prune-0.98"], "of a long name the rest is below"
    assert lines[-1].split() == ["serve", "it", "bmp", "serve", "--model", "digits"]
    assert str(result.version.path) in lines[-2] and str(result.directory) in lines[-3]


# === What cannot be run ===

IRIS = ["data.args.name=iris", "model={build: mlp, args: {hidden: [4]}}"]


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    """`attempt(error, *overrides)` expects a run to fail, and returns the error and the files there are then."""
    monkeypatch.chdir(tmp_path)

    def try_to_run(error, *overrides, **options):
        with pytest.raises(error) as caught:
            run(load_recipe("digits", overrides), console=Console(file=io.StringIO()), **options)
        return caught.value, {entry.name for entry in tmp_path.rglob("*")}

    return try_to_run


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.source=sklean"], "No source is named 'sklean'. Known: arrays, "),
        (["data.source=sklean"], "Did you mean 'sklearn'?"),
        (["model.build=transfomer"], "No model is named 'transfomer'. Known: classical, "),
        (["model.build=transfomer"], "Did you mean 'transformer'?"),
        (["train.schedule=cosin"], "Did you mean 'cosine'?"),
        (["model.build=nets.py:build"], "There is no file nets.py"),
        (["data.transforms=[{kind: standardize, fields: [image]}]"], "Did you mean 'standardise'?"),
        (["data.objective=regression"], "that is learned as multiclass"),
        (["distribution.strategy=miror"], "Did you mean 'mirrored'?"),
        (["compress.chains=[[prun]]"], "No technique is named 'prun'. Known: "),
        (["compress.chains=[[prun]]"], "Did you mean 'prune'?"),
        (["compress.chains=[[int8, prune]]"], "'prune' cannot come after 'int8'"),
        (["compress.chains=[[{prune: {sparsity: 1.0}}]]"], "argument 'sparsity' is 1.0"),
        (["compress.max_trials=3"], "compress.max_trials is of a search, but the recipe has none. Give it a time,"),
        (["compress.time=5m", "compress.techniques=[dynamc]"], "Did you mean 'dynamic'?"),
        (["compress.time=5m", "compress.goal=latency", "compress.techniques=[prune]"], "saves bytes and no time"),
        (["compress.metric=acuracy"], "Did you mean 'accuracy'?"),
        (["compress.metric=mae"], "'mae' is no metric of the objective multiclass; it has accuracy,"),
        (["compress.chains=[[int8], [int8]]"], "2 chains are called 'int8'"),
        (["train.optimizer=adagard"], "No optimizer is named 'adagard'"),
        (["data.args.name=mnist"], "argument 'name' is 'mnist'"),
        (["data.args={}"], "needs the argument 'name'"),
        (["model.args.hidden=[3]"], "takes no argument 'hidden'"),
        (["model.args.filters=[a]"], "argument 'filters' is ['a']"),
        (["data.args.name=iris"], "needs images of shape (H, W)"),
    ],
)
def test_a_recipe_that_cannot_be_carried_out_leaves_nothing(attempt, overrides, message):
    error, files = attempt(ConfigError, *overrides)
    assert message in str(error)
    assert files == set()


@pytest.mark.parametrize("split", ["{train: 0.98, validation: 0.01, test: 0.01}"])
def test_data_that_cannot_be_split_leaves_nothing(attempt, split):
    error, files = attempt(DataError, *IRIS, f"data.split={split}")
    assert "too few" in str(error)
    assert files == set()


def test_a_run_directory_that_is_not_empty_is_left_alone(attempt, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    error, files = attempt(ConfigError, *IRIS, run_dir="mine")
    assert "mine is not empty; name a new one" in str(error)
    assert files == {"mine", "notes.txt"}


def test_a_run_directory_that_is_a_file_is_left_alone(attempt, tmp_path):
    (tmp_path / "mine").touch()
    error, files = attempt(ConfigError, *IRIS, run_dir="mine")
    assert "mine cannot be made" in str(error)
    assert files == {"mine"}


def test_a_registry_that_cannot_be_made_is_told_before_training(attempt, tmp_path):
    (tmp_path / "file").touch()
    error, files = attempt(RegistryError, *IRIS, "publish.root=file/registry")
    assert "file/registry cannot be made" in str(error)
    assert files == {"file"}


def test_training_that_fails_publishes_nothing(attempt):
    attempt(TrainingError, *IRIS, "train={optimizer: sgd, learning_rate: 1e30}")
    assert Registry("registry").models() == []


def test_a_recipe_may_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="Did you mean 'digits'"):
        run("digit")
    assert not list(tmp_path.iterdir())


# === What LiteRT cannot hold ===


def test_a_model_that_litert_cannot_hold_is_served_as_saved_model(tmp_path):
    output = io.StringIO()
    recipe = load_recipe(
        "digits_lstm",
        [
            f"publish.root={tmp_path / 'registry'}",
            "train.steps=2",
            "train.jit=false",
            "model.args={units: [4], unroll: false}",
        ],
    )
    finished = run(recipe, run_dir=tmp_path / "run", console=Console(file=output, width=200))
    assert (
        "LiteRT cannot convert the model 'rnn': the operation TensorListReserve has no LiteRT form" in output.getvalue()
    )
    assert "It is served as SavedModel, and no variant is made." in output.getvalue()
    (variant,) = finished.manifest.variants
    assert (variant.name, variant.file) == ("float32", "saved_model.pb")
    check_files(finished.version.path, finished.manifest)
    loaded = load_model(finished.version)
    samples = read_samples(finished.version.path)
    np.testing.assert_allclose(
        loaded.predict(samples.inputs)["probabilities"], samples.outputs["probabilities"], atol=1e-5
    )


@pytest.mark.parametrize(("batch_size", "replicas"), [(1, 2), (3, 4)])
def test_a_batch_smaller_than_the_replicas_is_refused(batch_size, replicas):
    check_replicas(replicas, replicas)
    with pytest.raises(ConfigError, match=f"A batch of {batch_size} cannot be dealt out to {replicas} replicas"):
        check_replicas(batch_size, replicas)


def test_a_network_of_mixed_precision_is_stored_in_every_way(tmp_path):
    overrides = ("train.epochs=1", "train.precision=mixed_bfloat16", "compress={max_drop: 0.9, chains: [[dynamic]]}")
    recipe = load_recipe("digits", [*overrides, f"publish.root={tmp_path / 'registry'}"])
    finished = run(recipe, run_dir=tmp_path / "run", console=Console(file=io.StringIO()))
    assert finished.manifest.recommended == "dynamic"
    assert keras.mixed_precision.global_policy().name == "float32"  # what the caller builds next is its own affair


def test_a_search_is_refused_to_one_of_several_processes(tmp_path, monkeypatch):
    workers = ["127.0.0.1:1", "127.0.0.1:2"]
    config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    recipe = load_recipe("digits", ["compress.time=5m", f"publish.root={tmp_path / 'registry'}"])
    with pytest.raises(ConfigError, match="runs in one process, and this is one of 2"):
        run(recipe, run_dir=tmp_path / "run", console=Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists() and not (tmp_path / "registry").exists()
