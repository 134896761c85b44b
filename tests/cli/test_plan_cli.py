import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from bmp.cli import _Command
from bmp.cli.plan import plan_command
from bmp.plan import plan as rooms
from bmp.plan.machine import Device, Machine

GROUP = _Command("bmp", commands=[plan_command])


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rooms, "_BUDGET_S", 0.0)


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(GROUP, ["plan", *arguments])


def test_a_plan_is_printed_and_nothing_written():
    done = plan("digits", "--workers", "2", "--set", "train.epochs=1")
    assert done.exit_code == 0, done.output
    assert "digits: cnn, 53,002 parameters to train" in done.stdout
    assert "memory of this machine" in done.stdout and ": fits" in done.stdout
    assert "workers on this machine share its" in done.stdout and "recommended distribution.strategy:" in done.stdout
    assert list(Path().iterdir()) == []


def test_json_is_one_object_and_all_of_standard_output():
    done = plan("digits", "--json", "--bandwidth", "10Gbit", "--latency", "20us", "--workers", "3")
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    network = tree["speed"]["network"]
    assert (network["bandwidth"], network["is_local"], network["origin"]) == (1.25e9, False, "given")
    assert network["latency_s"] == pytest.approx(2e-5)
    assert [row["replicas"] for row in tree["speed"]["strong"]] == [1, 2, 3]


def test_what_does_not_fit_ends_with_1(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rooms, "read_machine", lambda: Machine(2.0, Device("memory of this machine", 10**6), ()))
    done = plan("digits")
    assert done.exit_code == 1 and "DOES NOT FIT" in done.stdout
    done = plan("digits", "--json")
    assert done.exit_code == 1 and json.loads(done.stdout)["fits"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digitz"], "No recipe is named 'digitz'"),
        (["digits", "--set", "train.epcohs=3"], "unknown key 'train.epcohs'"),
        (["digits", "--bandwidth", "10"], "'10' is no bandwidth"),
        (["digits", "--bandwidth", "1Gbit", "--latency", "fast"], "'fast' is no time"),
        (["digits", "--latency", "5us"], "--latency needs --bandwidth"),
        (["digits", "--workers", "0"], "0 is not in the range"),
    ],
)
def test_a_mistake_is_said_in_one_sentence_with_exit_code_2(arguments: list[str], said: str):
    done = plan(*arguments)
    assert done.exit_code == 2 and said in done.stderr, done.output


def test_help_says_what_it_does():
    assert isinstance(plan_command, click.Command)
    assert "nothing is trained or written" in " ".join(plan("--help").output.split())
