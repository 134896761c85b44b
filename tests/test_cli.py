"""The bmp command as people start it: a process of its own, in a directory of its own."""

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import bmp
from bmp.cli import main

BMP = (sys.executable, "-m", "bmp")
TRAIN = (sys.executable, str(Path(__file__).parent.parent / "train.py"))


@pytest.fixture
def call(tmp_path):
    """`call(*arguments)` runs the command in an empty directory."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()

    def run(*arguments, command=BMP, columns=100):
        environ = {key: value for key, value in os.environ.items() if not key.startswith("BMP_")}
        environ["COLUMNS"] = str(columns)
        return subprocess.run([*command, *arguments], cwd=cwd, env=environ, capture_output=True, text=True, timeout=60)

    run.cwd = cwd
    return run


@pytest.fixture(scope="session")
def quick_registry(quick_run):
    return quick_run.version.path.parent.parent


def check_one_line(done, exit_code, *phrases):
    assert done.returncode == exit_code
    assert done.stdout == ""
    assert done.stderr.startswith("bmp: ") and done.stderr.count("\n") == 1
    for phrase in phrases:
        assert phrase in done.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        (BMP, ["--help"], ["run", "serve", "models", "Keras model"]),
        (BMP, ["run", "-h"], ["RECIPE", "--set", "--run-dir", "--verbose"]),
        (BMP, ["serve", "--help"], ["--model", "--registry", "--port", "--workers", "--memory-mb", "5000"]),
        (BMP, ["models", "--help"], ["list", "alias"]),
        (TRAIN, ["--help"], ["RECIPE", "--set", "--run-dir"]),
    ],
)
def test_help_tells_what_there_is(call, command, arguments, words):
    done = call(*arguments, command=command)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(word in done.stdout for word in words)
    assert not list(call.cwd.iterdir())


def test_tells_its_version(call):
    assert call("--version").stdout.split()[-1] == bmp.__version__


@pytest.mark.parametrize(
    ("arguments", "phrases"),
    [
        (["nope"], ["No recipe is named 'nope'. Known: breast_cancer"]),
        (["digit"], ["Did you mean 'digits'?"]),
        (["missing.yaml"], ["no recipe file missing.yaml"]),
        (["--set", "train.epoch=3"], ["unknown key 'train.epoch'", "Did you mean 'epochs'?"]),
        (["digits", "--set", "train.epochs=x"], ["'train.epochs' is 'x'", "valid integer"]),
        (["--set", "train.epochs"], ["section.key=value"]),
        (["--set", "publish.name=A b"], ["'A b' is no model name", "lower-case"]),
        (["--set", 'publish.name="a\\nb"'], ["is no model name"]),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line_and_leaves_nothing(call, arguments, phrases):
    check_one_line(call("run", *arguments), 2, *phrases)
    assert not list(call.cwd.iterdir())


def test_train_py_says_what_bmp_run_says(call):
    assert call("digit", command=TRAIN).stderr == call("run", "digit").stderr != ""


@pytest.mark.parametrize(
    ("override", "phrases"),
    [
        ("model.build=cn", ["No model is named 'cn'", "Did you mean 'cnn'?"]),
        ("model.args.filter=[3]", ["takes no argument 'filter'", "Did you mean 'filters'?"]),
        ("train.optimizer=adamm", ["Did you mean 'adam'?"]),
    ],
)
def test_a_name_no_catalog_has_is_one_line_and_leaves_nothing(call, override, phrases):
    check_one_line(call("run", "--set", override), 2, *phrases)
    assert not list(call.cwd.iterdir())


def test_an_empty_registry_says_how_to_fill_it(call):
    check_one_line(call("models", "list"), 1, "The registry 'registry' holds no model", "bmp run")
    assert not list(call.cwd.iterdir())


def test_lists_versions_and_names_the_one_in_production(call, quick_registry, quick_run):
    shutil.copytree(quick_registry, call.cwd / "registry")
    listed = call("models", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "production" not in listed.stdout
    measured = quick_run.manifest.variant(quick_run.manifest.recommended).measured
    row = listed.stdout.splitlines()[-1].split()
    assert row[:3] == ["digits", "1", quick_run.manifest.recommended]
    assert row[3:6] == [f"{measured.test_score:.4f}", "accuracy", f"{measured.size_bytes:,}"]

    moved = call("models", "alias", "digits", "production", "1")
    assert (moved.returncode, moved.stdout) == (0, "digits@production is version 1\n")
    assert "production" in call("models", "list").stdout


def test_the_list_has_one_line_a_version_on_80_columns(call, quick_registry):
    shutil.copytree(quick_registry, call.cwd / "registry")
    call("models", "alias", "digits", "production", "1")
    lines = call("models", "list", columns=80).stdout.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert re.fullmatch(r" ?digits +1 +production .* \d{4}-\d\d-\d\d \d\d:\d\d ?", lines[-1])
    assert "…" not in lines[-1]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "phrases"),
    [
        (["digit", "production", "1"], 1, ["No model is named 'digit'", "Did you mean 'digits'?"]),
        (["digits", "production", "2"], 1, ["has no version 2; it has 1"]),
        (["digits", "7", "1"], 2, ["'7' is no alias", "not digits alone"]),
    ],
)
def test_an_alias_that_cannot_be_is_one_line(call, quick_registry, arguments, exit_code, phrases):
    check_one_line(call("models", "alias", *arguments, "--registry", str(quick_registry)), exit_code, *phrases)


def test_serving_an_unknown_model_guesses(call, quick_registry):
    done = call("serve", "--registry", str(quick_registry), "--model", "digit")
    check_one_line(done, 1, "No model is named 'digit'", "Did you mean 'digits'?")


def test_serving_on_a_taken_port_says_so(call, quick_registry):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("serve", "--registry", str(quick_registry), "--port", str(port))
    check_one_line(done, 2, f"Cannot listen on 127.0.0.1:{port}", "--port")


def test_run_without_the_training_packages_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorflow" else find_spec(name))
    result = CliRunner().invoke(main, ["run"])
    assert result.exit_code == 1
    assert "tensorflow is missing" in result.output and "pip install -r requirements.txt" in result.output
    assert list(tmp_path.iterdir()) == []
