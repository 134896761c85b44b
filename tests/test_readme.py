"""The README's commands are the ones that are run, here and in CI, and they do what it says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT

from bmp.artifact.manifest import check_files
from bmp.registry import Registry

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_two_commands_do_all_the_setting_up() -> None:
    assert re.findall(r"```bash\n(.*?)```", README, re.DOTALL) == ["make run\n", "make test\n"]


def test_ci_runs_the_checks_and_then_exactly_the_test_command() -> None:
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in script if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make lint", "make test"]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (PROJECT / link).exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A copy of the project in which `make run` was typed, and what it printed."""
    copy = tmp_path_factory.mktemp("clone") / "bmp"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, copy / name)
    # The environment these tests run in stands in for the one make would build: -o says it is up to date.
    venv = Path(sys.prefix)
    finished = subprocess.run(
        ["make", "-o", f"{venv}/.installed", f"VENV={venv}", "run"],
        cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return copy, finished.stdout


def test_make_run_ends_with_the_right_answer(made: tuple[Path, str]) -> None:
    _, output = made
    match = re.search(r"^answer (\d) \(probability [\d.]+\), true label (\d)$", output, re.MULTILINE)
    assert match and match[1] == match[2], output


def test_make_run_says_where_everything_is(made: tuple[Path, str]) -> None:
    copy, output = made
    assert re.search(r"^published +registry/digits/1 +\(version 1\)$", output, re.MULTILINE)
    assert re.search(r"^serve it +bmp serve --model digits$", output, re.MULTILINE)
    records = re.search(r"^records +(\S+)$", output, re.MULTILINE)
    assert records
    assert sorted(path.name for path in (copy / records[1]).iterdir()) == [
        "history.csv", "history.png", "recipe.yaml", "variants.json",
    ]  # fmt: skip


def test_default_recipe_keeps_what_it_promises(made: tuple[Path, str]) -> None:
    copy, _ = made
    version = Registry(copy / "registry").resolve("digits")
    manifest = version.read_manifest()
    check_files(version.path, manifest)
    assert [variant.name for variant in manifest.variants] == ["float32", "pruned", "int8", "pruned_int8"]
    float32, recommended = manifest.variant("float32").measured, manifest.variant(manifest.recommended).measured
    assert float32.test_score >= 0.97
    assert float32.max_abs_diff <= 1e-4
    assert float32.validation_score - recommended.validation_score <= manifest.max_drop == 0.01
    assert manifest.variant("pruned").measured.sparsity == pytest.approx(0.8, abs=0.005)
    # float32 weights of 53,002 parameters take 212,008 bytes in any plain file.
    assert recommended.gzip_bytes * 8 <= 212_008
