"""Every notebook runs from top to bottom, and shows what it says it shows."""

import os
from pathlib import Path

import nbformat
import pytest
from conftest import PROJECT
from nbclient import NotebookClient

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
SHORT = ["train.epochs=6", "compress.chains=[[{prune: {sparsity: 0.5, epochs: 2}}, int8]]"]
"""Overrides that leave of each stage what there is to see."""


def test_every_notebook_is_run_below() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01_quickstart.ipynb", "02_own_data.ipynb"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_committed(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_quickstart_runs_and_draws(tmp_path: Path) -> None:
    shown, pictures = execute(PROJECT / "notebooks" / "01_quickstart.ipynb", tmp_path)
    assert pictures == 5
    assert "recommended" in shown and "digits/1" in shown and "true label" in shown
    assert (tmp_path / "registry" / "digits" / "1" / "model.tflite").is_file()


def test_a_table_of_ones_own_ends_in_a_server_that_takes_its_rows(tmp_path: Path) -> None:
    shown, pictures = execute(PROJECT / "notebooks" / "02_own_data.ipynb", tmp_path)
    assert pictures == 2
    assert "customers.csv, line 702: the row has 3 cells; expected 7" in shown
    assert "left out: 1 of 1,511 examples" in shown and "copies of other examples: 11" in shown
    assert "customers/1" in shown and "'yes'" in shown and "Did you mean 'months'?" in shown
    assert (tmp_path / "registry" / "customers" / "1" / "model.tflite").is_file()


def execute(path: Path, directory: Path) -> tuple[str, int]:
    """Runs a notebook in a directory, with fewer epochs; returns the text it shows and the number of its pictures."""
    notebook = nbformat.read(path, as_version=4)
    knobs = [cell for cell in notebook.cells if cell.source.startswith("overrides = []")]
    assert len(knobs) == 1
    knobs[0].source = knobs[0].source.replace("overrides = []", f"overrides = {SHORT!r}", 1)

    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": directory}})
    # The kernel is a process of its own, with warnings as Python has them by default.
    client.execute(env={key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"})

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    shown = " ".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    return shown, sum("image/png" in output.get("data", {}) for output in outputs)
