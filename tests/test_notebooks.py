"""Every notebook runs from top to bottom, and shows what it says it shows."""

import os
from pathlib import Path

import nbformat
import pytest
from conftest import PROJECT, QUICK
from nbclient import NotebookClient

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


def test_there_is_a_quickstart() -> None:
    assert "01_quickstart.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_not_committed(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_quickstart_runs_and_draws(tmp_path: Path) -> None:
    notebook = nbformat.read(PROJECT / "notebooks" / "01_quickstart.ipynb", as_version=4)
    knobs = [cell for cell in notebook.cells if cell.source.startswith("overrides = []")]
    assert len(knobs) == 1
    knobs[0].source = knobs[0].source.replace("overrides = []", f"overrides = {list(QUICK)!r}", 1)

    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    # The kernel is a process of its own, with warnings as Python has them by default.
    client.execute(env={key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"})

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 5
    shown = " ".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs)
    assert "recommended" in shown and "digits/1" in shown and "true label" in shown
    assert (tmp_path / "registry" / "digits" / "1" / "model.tflite").is_file()
