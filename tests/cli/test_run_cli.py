"""`bmp run` seen from its exit codes: what a launcher or a shell can tell an end by."""

import errno

import pytest
import yaml
from click.testing import CliRunner
from conftest import disk_that_holds

import bmp.run
from bmp.cli import _exit_code, main
from bmp.errors import (
    ArtifactError,
    CheckpointError,
    ConfigError,
    DataError,
    NotFoundError,
    RegistryError,
    StoppedError,
    TrainingError,
    UnknownNameError,
)
from bmp.registry import Registry
from bmp.runs import RunDirectory

IRIS = {
    "data": {"source": "sklearn", "args": {"name": "iris"}},
    "model": {"build": "mlp", "args": {"hidden": [8]}},
    "train": {"epochs": 4, "learning_rate": 0.02},
    "compress": {"max_drop": 0.9, "chains": []},
    "publish": {"name": "iris"},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(*arguments)` is `bmp run` beside a recipe `iris.yaml`; the run directory is `run`."""
    monkeypatch.chdir(tmp_path)
    for name in ("TF_CONFIG", "BMP_HEARTBEAT_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "iris.yaml").write_text(yaml.dump(IRIS))

    def call(*arguments):
        return CliRunner().invoke(main, ["run", *arguments, "--run-dir", "run"])

    return call


def _caused_by(error, cause):
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("?"), 2),
        (UnknownNameError("?"), 2),
        (DataError("?"), 3),
        (TrainingError("?"), 3),
        (CheckpointError("No checkpoint is sound."), 3),
        (_caused_by(RegistryError("Cannot publish."), OSError(errno.ENOSPC, "No space left on device")), 75),
        (_caused_by(RegistryError("Cannot publish."), OSError(errno.EACCES, "Permission denied")), 1),
        (StoppedError("?", exit_code=143), 143),
        (StoppedError("?", exit_code=130), 130),
        (ArtifactError("?"), 1),
        (NotFoundError("?"), 1),
    ],
)
def test_each_kind_of_error_has_its_code(error, code):
    assert _exit_code(error) == code


def test_a_failed_training_ends_with_3_and_goes_on_with_another_recipe_only_elsewhere(run):
    done = run("iris.yaml", "--set", "train.learning_rate=1e30", "--set", "train.optimizer=sgd")
    assert done.exit_code == 3 and "bmp: The loss is not finite at step " in done.output
    assert RunDirectory("run").read_status().state == "failed"
    assert Registry("registry").models() == []

    done = run("iris.yaml")
    assert done.exit_code == 2
    assert "bmp: The run in run began with train.learning_rate: 1e+30, and would go on with 0.02." in done.output


def test_data_that_cannot_be_used_ends_with_3(run, tmp_path):
    done = run("iris.yaml", "--set", "data.split={train: 0.98, validation: 0.01, test: 0.01}")
    assert done.exit_code == 3 and "too few" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["iris.yaml"]


@pytest.mark.parametrize(("units", "what"), [(512, "The checkpoint of step"), (8, "The run directory run")])
def test_a_full_disk_ends_with_75_and_the_run_goes_on_without_naming_its_recipe(run, units, what):
    """With many units the checkpoints do not fit, with few it is the export."""
    with disk_that_holds(8000):
        done = run("iris.yaml", "--set", f"model.args.hidden=[{units}]", "--set", "train.epochs=3")
    assert done.exit_code == 75, done.output
    last = done.output.splitlines()[-1]
    assert last.startswith(f"bmp: {what}") and "File too large" in last
    assert last.endswith("make room on the disk and resume the run.")
    status = RunDirectory("run").read_status()
    assert (status.state, f"bmp: {status.error}") == ("failed", last)
    assert Registry("registry").models() == []

    done = run()
    assert done.exit_code == 0, done.output
    assert "published  registry/iris/1" in done.output
    assert RunDirectory("run").read_status().attempt == 2
    done = run()
    assert (done.exit_code, done.output) == (0, "bmp: the run in run is finished: it published iris/1\n")


def test_a_run_that_ended_before_its_first_status_goes_on(run, tmp_path):
    assert run("iris.yaml", "--set", "train.learning_rate=1e30", "--set", "train.optimizer=sgd").exit_code == 3
    RunDirectory("run").status_file.unlink()
    recipe = RunDirectory("run").recipe_file
    recipe.write_text(recipe.read_text().replace("1.0e+30", "0.01"))
    done = run()
    assert done.exit_code == 0, done.output


def test_ctrl_c_before_the_run_has_begun_ends_with_130_and_leaves_nothing(run, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(bmp.run, "load_data", interrupt)
    done = run("iris.yaml")
    assert (done.exit_code, done.output) == (130, "bmp: stopped by Ctrl-C\n")
    assert [path.name for path in tmp_path.iterdir()] == ["iris.yaml"]


def test_resume_without_a_run_ends_with_2(run, tmp_path):
    done = run("iris.yaml", "--resume")
    assert done.exit_code == 2
    assert done.output == "bmp: run holds no run that could go on; leave --resume out to begin one there.\n"
    done = CliRunner().invoke(main, ["run", "iris.yaml", "--resume"])
    assert done.exit_code == 2
    assert done.output.startswith("bmp: No unfinished run of 'iris' is under runs/; leave --resume out, or name one")
    assert [path.name for path in tmp_path.iterdir()] == ["iris.yaml"]
