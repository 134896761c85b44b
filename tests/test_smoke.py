"""One prediction by a real server, and what is said when there is none."""

import re
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest

from bmp.errors import NotFoundError, NotReadyError
from bmp.registry import Registry
from bmp.run import Run
from bmp.smoke import _say_output, _say_truth, ask_server, run_server


@pytest.mark.parametrize("sample", [0, 3])
def test_answer_is_that_of_the_published_sample(quick_run: Run, sample: int) -> None:
    registry = Registry(quick_run.version.path.parent.parent)
    answer = ask_server(registry, "digits", sample)
    assert answer.model == "digits/1"
    example = quick_run.data.test.take([sample]).load()
    assert answer.truth == quick_run.data.labels[example.targets[0]]
    label, probability = re.fullmatch(r"(.+) \(probability (\d\.\d{3})\)", answer.said).groups()
    assert label in quick_run.data.labels and 0.1 <= float(probability) <= 1
    assert answer.inputs["image"].tolist() == example.inputs["image"][0].tolist()


@pytest.mark.parametrize(
    ("objective", "output", "target", "labels", "said", "truth"),
    [
        ("multiclass", [0.2, 0.8], 0, ("cat", "dog"), "dog (probability 0.800)", "cat"),
        ("binary", [0.25], 1, ("no", "yes"), "no (probability 0.750)", "yes"),
        ("multilabel", [0.9, 0.1, 0.6], [0, 1, 1], ("a", "b", "c"), "a (0.900), c (0.600)", "b, c"),
        ("multilabel", [0.1, 0.1], [0, 0], ("a", "b"), "none of the labels", "none of the labels"),
        ("regression", [152.337, -1], [150.0, 0.5], (), "152.3, -1", "150, 0.5"),
        ("next_token", [[0.5, 0.5], [0.1, 0.9]], [0, 1], ("a", "\n"), r"'\n' (probability 0.900)", r"'\n'"),
    ],
)
def test_answers_of_every_objective_have_words(objective, output, target, labels, said, truth) -> None:
    assert _say_output(objective, np.array(output), labels) == said
    assert _say_truth(objective, np.array(target), labels) == truth


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
