import json
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import disk_that_holds
from hypothesis import given
from hypothesis import strategies as st

from bmp.config import load_recipe
from bmp.errors import BmpError, ConfigError, UnknownNameError
from bmp.runs import RunDirectory, begin_status, find_run, find_state, list_runs

RECIPE = load_recipe("digits")


def make_run(path, **changes):
    directory = RunDirectory.create(path, RECIPE, go_on=f"bmp run --run-dir {path}")
    directory.write_status(begin_status("digits").change(**changes))
    return directory


def at(day):
    return datetime(2026, 1, day, tzinfo=UTC)


# --- the directory ---


def test_a_new_directory_holds_the_recipe_and_says_what_is_what(tmp_path):
    directory = RunDirectory.create(tmp_path / "a b" / "run", RECIPE, go_on="bmp run --run-dir here")
    assert load_recipe(str(directory.recipe_file)) == RECIPE
    assert directory.read_recipe()["train"]["epochs"] == RECIPE.train.epochs
    text = directory.readme_file.read_text()
    assert "    bmp run --run-dir here\n" in text and f"bmp runs show '{directory.path}'" in text
    shown = [path.name for path in vars(directory).values() if path not in (directory.path, directory.readme_file)]
    assert all(f"`{name}" in text for name in shown if name not in ("artifact", "trials"))


def test_an_empty_directory_will_do(tmp_path):
    assert RunDirectory.create(tmp_path, RECIPE, go_on="").exists()


def test_a_directory_that_is_not_free_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty; name a new one"):
        RunDirectory.create(tmp_path, RECIPE, go_on="")
    with pytest.raises(ConfigError, match="it is a file"):
        RunDirectory.create(tmp_path / "mine.txt", RECIPE, go_on="")
    with pytest.raises(ConfigError, match="cannot be made"):
        RunDirectory.create(tmp_path / "mine.txt" / "run", RECIPE, go_on="")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_opens_only_what_is_a_run(tmp_path):
    make_run(tmp_path / "run")
    assert RunDirectory.open(tmp_path / "run").read_status().name == "digits"
    with pytest.raises(ConfigError, match=r"is no run directory: it holds no recipe\.yaml"):
        RunDirectory.open(tmp_path)
    with pytest.raises(ConfigError, match="is no run directory: it is not there"):
        RunDirectory.open(tmp_path / "rum")


def test_places_follow_the_stage_and_the_attempt(tmp_path):
    directory = RunDirectory(tmp_path)
    assert directory.checkpoints_of("prune") == tmp_path / "checkpoints" / "prune"
    assert directory.logs_of(2) == tmp_path / "logs" / "attempt-2"


def test_the_environment_tells_what_it_ran_in(tmp_path):
    directory = make_run(tmp_path / "run")
    directory.write_environment(devices=["/device:GPU:0"], cluster="2 workers on 1 machine")
    found = json.loads(directory.environment_file.read_text())
    assert found["devices"] == ["/device:GPU:0"] and found["cluster"] == "2 workers on 1 machine"
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["pydantic"] and found["cpu"] and found["cores"] == len(os.sched_getaffinity(0))
    assert Path(sys.argv[0]).name in found["command"]


# --- the status ---

FIGURES = st.dictionaries(st.sampled_from(["loss", "val_loss", "val_accuracy"]), st.floats(allow_nan=False))


@given(FIGURES, st.integers(0, 10**9), st.none() | st.text(), st.booleans())
def test_a_status_survives_to_the_last_digit(tmp_path_factory, figures, step, error, synced):
    directory = RunDirectory(tmp_path_factory.getbasetemp())
    status = begin_status("digits").change(figures=figures, step=step, error=error)
    directory.write_status(status, synced=synced)
    assert directory.read_status() == status


def test_a_figure_that_is_not_a_number_is_valid_json_all_the_same(tmp_path):
    directory = make_run(tmp_path / "run", figures={"loss": float("nan")})

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(directory.status_file.read_text(), parse_constant=refuse)["figures"] == {"loss": "NaN"}
    assert str(directory.read_status().figures["loss"]) == "nan"


def test_a_change_is_of_now_and_leaves_the_old_status():
    status = begin_status("digits")
    later = status.change(step=5)
    assert (status.step, later.step) == (0, 5) and later.updated > status.updated and later.started == status.started
    with pytest.raises(ValueError, match="state"):
        status.change(state="runing")
    with pytest.raises(ValueError, match="steps"):
        status.change(steps=5)


def test_the_next_attempt_goes_on_from_the_last():
    failed = begin_status("digits").change(state="failed", error="no disk", train_s=7.5, pid=1, step=40)
    again = begin_status("digits", failed)
    assert (again.attempt, again.state, again.error, again.train_s, again.step) == (2, "running", None, 7.5, 40)
    assert (again.pid, again.started) == (os.getpid(), failed.started)


def test_a_reader_never_sees_half_a_status(tmp_path):
    directory = make_run(tmp_path / "run")
    status, done, seen = directory.read_status(), threading.Event(), []

    def read():
        while not done.is_set():
            seen.append(directory.read_status().step)

    reader = threading.Thread(target=read)
    reader.start()
    for step in range(300):
        directory.write_status(status.change(step=step, error="e" * (step % 7) * 1000), synced=False)
    done.set()
    reader.join()
    assert len(seen) > 10 and seen == sorted(seen)
    assert sorted(path.name for path in directory.path.iterdir()) == ["README.md", "recipe.yaml", "status.json"]


@pytest.mark.parametrize("synced", [True, False])
def test_a_full_disk_leaves_the_last_status(tmp_path, synced):
    directory = make_run(tmp_path / "run", step=5)
    files = sorted(directory.path.iterdir())
    with disk_that_holds(100), pytest.raises(OSError):
        directory.write_status(directory.read_status().change(step=6), synced=synced)
    assert directory.read_status().step == 5 and sorted(directory.path.iterdir()) == files


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is damaged: Invalid JSON"),
        (b"\xff\xfe", "is damaged: Invalid JSON"),
        (b"{}", "is damaged: name: Field required"),
        (b'{"name": 3}', "is damaged: name: "),
        (None, "the run never began, or an older bmp wrote it"),
    ],
)
def test_says_why_a_status_cannot_be_read(tmp_path, data, said):
    directory = make_run(tmp_path / "run")
    directory.status_file.unlink() if data is None else directory.status_file.write_bytes(data)
    with pytest.raises(BmpError, match=said):
        directory.read_status()


# --- is its process still there? ---

BEGIN = """
import sys
from bmp.runs import RunDirectory, begin_status
RunDirectory(sys.argv[1]).write_status(begin_status("digits"))
print("begun", flush=True)
sys.stdin.read()
"""


def test_a_run_whose_process_is_gone_has_died(tmp_path):
    directory = make_run(tmp_path / "run")
    command = [sys.executable, "-c", BEGIN, str(directory.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"begun\n"
            status = directory.read_status()
            assert status.pid == process.pid and find_state(status) == "running"
        finally:
            process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert find_state(status) == "died"  # dead, though its parent has not yet asked for it
    assert find_state(status) == "died"
    assert find_state(status.change(state="finished")) == "finished"


def test_a_later_process_of_the_same_number_is_another():
    status = begin_status("digits")
    assert find_state(status) == "running"
    assert find_state(status.change(pid_started=status.pid_started + 1)) == "died"
    assert find_state(status.change(pid_started=status.pid_started + 1, host="elsewhere")) == "running"


# --- all runs ---


def test_lists_the_oldest_first_and_hides_nothing(tmp_path):
    make_run(tmp_path / "b", started=at(1), state="finished")
    make_run(tmp_path / "a", started=at(2), state="failed", error="no disk")
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "torn").status_file.write_text('{"name": "dig')
    (tmp_path / "notes.txt").write_text("not a run")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "latest").symlink_to(tmp_path / "a")
    runs = list_runs(tmp_path)
    assert [run.name for run in runs[:2]] == ["b", "a"]
    assert {run.name: run.state for run in runs} == {
        "b": "finished",
        "a": "failed",
        "empty": "unreadable",
        "torn": "unreadable",
    }
    assert all(bool(run.problem) == (run.state == "unreadable") for run in runs)


def test_there_may_be_no_run_and_no_root(tmp_path):
    assert list_runs(tmp_path) == []
    with pytest.raises(ConfigError, match=r"no directory '.*nowhere' of runs"):
        list_runs(tmp_path / "nowhere")


def test_finds_a_run_by_path_name_and_beginning(tmp_path):
    for name in ("digits-1", "digits-12", "iris-7"):
        make_run(tmp_path / "runs" / name)
    make_run(tmp_path / "elsewhere")
    root = tmp_path / "runs"
    assert find_run("digits-1", root).name == "digits-1"  # a whole name, though it begins another one
    assert find_run("ir", root).name == "iris-7"
    assert find_run(str(tmp_path / "elsewhere"), root).name == "elsewhere"
    with pytest.raises(ConfigError, match="'digits' may be any of digits-1, digits-12; write more of the name"):
        find_run("digits", root)
    with pytest.raises(UnknownNameError, match=r"which holds digits-1, digits-12, iris-7\. Did you mean 'iris-7'"):
        find_run("iris-8", root)
    with pytest.raises(UnknownNameError, match="is neither"):
        find_run("", root)


def test_names_only_the_last_of_many(tmp_path):
    for number in range(9):
        (tmp_path / f"run-{number}").mkdir()
    with pytest.raises(UnknownNameError, match=" and 3 older"):
        find_run("nothing", tmp_path)


def test_a_recipe_that_cannot_be_read_says_so(tmp_path):
    directory = make_run(tmp_path / "run")
    for text in ("a: [", "3", ""):
        directory.recipe_file.write_text(text)
        with pytest.raises(BmpError, match=r"recipe\.yaml"):
            directory.read_recipe()
