"""bmp doctor: one line a check, and the right exit code."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import PROJECT

from bmp import doctor
from bmp.cli import main

CHECKS = ["packages", "keras", "devices", "cores", "write rights", "free port", "train, export, serve"]


def test_everything_is_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bmp", "doctor"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [re.match(r"ok    ([^:]+): \S", line)[1] for line in lines] == CHECKS  # type: ignore[index]
    assert re.search(r"accuracy 0\.\d+ after 3 epochs; digits/1 answered \d", lines[-1])
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_pins_are_those_of_both_lists() -> None:
    pins = doctor.read_pins()
    for file in ("requirements.txt", "requirements-serving.txt"):
        lines = (PROJECT / file).read_text(encoding="utf-8").splitlines()
        required = [line for line in lines if line and not line.startswith(("#", "-r"))]
        for line in required:
            assert re.match(r"[\w.-]+(\[\w+\])?==\S+ +# \S", line), (
                f"{line}: not pinned, or without the room that needs it"
            )
            name, _, version = line.split()[0].partition("==")
            assert pins[name.partition("[")[0]] == version
    assert pins["tensorflow"] == metadata.version("tensorflow")


@pytest.mark.parametrize(
    ("name", "planted", "says"),
    [
        ("packages", {"numpy": "0.1"}, f"numpy is {metadata.version('numpy')}, pinned 0.1"),
        ("packages", {"no-such-package": "1.0"}, "no-such-package is missing, pinned 1.0"),
    ],
)
def test_a_wrong_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, planted: dict[str, str], says: str
) -> None:
    monkeypatch.setattr(doctor, "read_pins", lambda: planted)
    check = next(doctor.run_checks(str(tmp_path)))
    assert (check.name, check.passed) == (name, False)
    assert says in check.detail and "pip install" in check.detail


def test_one_failure_is_exit_code_1_and_the_other_checks_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [doctor.Check("one", True, "fine"), doctor.Check("two", False, "broken"), doctor.Check("three", True, "x")]
    monkeypatch.setattr(doctor, "run_checks", lambda registry: iter(checks))
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert result.output.splitlines() == ["ok    one: fine", "FAIL  two: broken", "ok    three: x"]


def test_a_place_that_cannot_be_written_to_fails() -> None:
    checks = {}
    for check in doctor.run_checks("/proc/registry"):  # nobody can make files there, root included
        checks[check.name] = check
        if check.name == "write rights":
            break
    assert not checks["write rights"].passed
