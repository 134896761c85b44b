"""One prediction by a real server, and what is said when there is none."""

import shutil
from pathlib import Path

import psutil
import pytest

from bmp.errors import NotFoundError, NotReadyError
from bmp.registry import Registry
from bmp.run import Run
from bmp.smoke import ask_server, run_server


@pytest.mark.parametrize("sample", [0, 3])
def test_answer_is_that_of_the_published_sample(quick_run: Run, sample: int) -> None:
    registry = Registry(quick_run.version.path.parent.parent)
    answer = ask_server(registry, "digits", sample)
    assert answer.model == "digits/1"
    assert answer.true_label == quick_run.data.labels[quick_run.data.test.targets[sample]]
    assert answer.label in quick_run.data.labels and 0.1 <= answer.probability <= 1
    assert answer.inputs["image"].tolist() == quick_run.data.test.inputs["image"][sample].tolist()


def test_server_is_gone_afterwards(quick_run: Run) -> None:
    before = set(psutil.Process().children(recursive=True))  # servers of other tests among them
    with run_server(Registry(quick_run.version.path.parent.parent), "digits") as url:
        port = int(url.rpartition(":")[2])
        listening = [c for c in psutil.net_connections() if c.laddr and c.laddr.port == port and c.status == "LISTEN"]
        assert listening
        assert set(psutil.Process().children(recursive=True)) > before
    assert set(psutil.Process().children(recursive=True)) == before


def test_unknown_model_is_guessed(quick_run: Run) -> None:
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        ask_server(Registry(quick_run.version.path.parent.parent), "digts")


def test_server_that_ends_says_why(quick_run: Run, tmp_path: Path) -> None:
    shutil.copytree(quick_run.version.path, tmp_path / "digits" / "1")
    registry = Registry(tmp_path)
    shutil.rmtree(tmp_path / "digits")
    with pytest.raises(NotReadyError, match="No model is named 'digits'"), run_server(registry, "digits"):
        raise AssertionError("it started")
