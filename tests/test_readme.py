"""The README's commands are the ones that are run, here and in CI, and they do what it says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT

from bmp.artifact.formats import FORMATS
from bmp.artifact.manifest import check_files
from bmp.config import list_recipes, load_recipe
from bmp.data import SOURCES
from bmp.models import MODELS, look_up_model
from bmp.objectives import OBJECTIVES
from bmp.registry import Registry
from bmp.transforms import TRANSFORMS
from bmp.transforms.steps import read_step
from serving.settings import Settings

README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_two_commands_do_all_the_setting_up() -> None:
    assert re.findall(r"```bash\n(.*?)```", README, re.DOTALL) == ["make run\n", "make test\n"]


def test_ci_gets_the_tools_runs_the_checks_and_then_exactly_the_test_command() -> None:
    script = (PROJECT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in script if line and not line.startswith("#")]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "make tools", "make lint", "make test"]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (PROJECT / link).exists()


# === The tables ===


def read_table(heading: str) -> dict[str, list[str]]:
    """The rows of the table whose first column is headed so, by the name in it; the other cells as they stand."""
    lines = iter(README.splitlines())
    next(line for line in lines if line.startswith(f"| {heading} |"))
    next(lines)  # |---|
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name.strip("`")] = cells
    return rows


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("source", SOURCES),
        ("kind", TRANSFORMS),
        ("objective", OBJECTIVES),
        ("`model.build`", MODELS),
        ("recipe", list_recipes()),
        ("`--format`", FORMATS),
        ("setting", [f"BMP_{name.upper()}" for name in Settings.model_fields]),
    ],
)
def test_tables_leave_nothing_out(heading: str, names: Iterable[str]) -> None:
    assert sorted(read_table(heading)) == sorted(names)


@pytest.mark.parametrize("name", SOURCES)
def test_the_line_of_a_source_can_be_used(name: str) -> None:
    data = yaml.safe_load(read_table("source")[name][-1].strip("`"))
    assert data["source"] == name
    SOURCES.bind(name, data["args"])


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_the_line_of_a_transform_can_be_used(kind: str) -> None:
    settings = yaml.safe_load(read_table("kind")[kind][-1].strip("`"))
    assert settings["kind"] == kind
    read_step(settings)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_score_of_an_objective_is_the_one_that_is_measured(name: str) -> None:
    assert read_table("objective")[name][2] == OBJECTIVES[name].score


def test_the_recipe_shown_is_complete(tmp_path: Path) -> None:
    (shown,) = (block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "publish:" in block)
    (tmp_path / "customers.yaml").write_text(shown)
    recipe = load_recipe(str(tmp_path / "customers.yaml"))
    SOURCES.bind(recipe.data.source, recipe.data.args)
    look_up_model(recipe.model.build, recipe.model.args)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_stands_with_its_command(name: str) -> None:
    assert f"`python train.py {name}" in " ".join(read_table("recipe")[name])


# === make run ===


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
        "README.md", "checkpoints", "confusion.png", "control", "environment.json", "history.csv", "history.png",
        "recipe.yaml", "status.json", "tensorboard", "variants.json",
    ]  # fmt: skip


def test_default_recipe_keeps_what_it_promises(made: tuple[Path, str]) -> None:
    copy, _ = made
    version = Registry(copy / "registry").resolve("digits")
    manifest = version.read_manifest()
    check_files(version.path, manifest)
    assert [variant.name for variant in manifest.variants] == ["float32", "int8", "prune-0.8", "prune-0.8_int8"]
    float32, recommended = manifest.variant("float32").measured, manifest.variant(manifest.recommended).measured
    assert float32.test_score >= 0.97
    assert float32.max_abs_diff <= 1e-4
    assert float32.validation_score - recommended.validation_score <= manifest.max_drop == 0.02
    assert manifest.promise is not None and manifest.promise.verdict == "proven"
    assert manifest.variant("prune-0.8").measured.sparsity == pytest.approx(0.8, abs=0.005)
    # float32 weights of 53,002 parameters take 212,008 bytes in any plain file.
    assert recommended.gzip_bytes * 8 <= 212_008
