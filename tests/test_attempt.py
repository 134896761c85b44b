"""Who may work on a run directory, what is refused with which sentence, and what is left behind at each end."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import disk_that_holds
from rich.console import Console

import bmp.attempt
from bmp.attempt import find_attempt
from bmp.config import load_recipe
from bmp.distribution.heartbeat import read_beat
from bmp.errors import CheckpointError, ConfigError, DataError, RegistryError, StoppedError, TrainingError
from bmp.runs import RunDirectory, find_state

RECIPE, OTHER = load_recipe("digits"), load_recipe("breast_cancer")
FACTS = {"data": "digest of the data", "precision": "float32"}
ADDRESSES = ("127.0.0.1:7001", "127.0.0.1:7002")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """In an empty directory, in no cluster."""
    monkeypatch.chdir(tmp_path)
    for name in ("TF_CONFIG", "BMP_HEARTBEAT_FILE", "SLURM_JOB_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def be(monkeypatch):
    """`be("worker", 1)` makes this process that of a cluster of two workers, or of chief, worker and ps."""

    def be(task, index, spec=None):
        cluster = spec or {"worker": list(ADDRESSES)}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": task, "index": index}}))

    return be


def find(run_dir=None, *, recipe=RECIPE, resume=False):
    return find_attempt(recipe, run_dir, resume, Console(file=io.StringIO()))


def begin(run_dir=None, *, recipe=RECIPE, resume=False, facts=FACTS):
    attempt = find(run_dir, recipe=recipe, resume=resume)
    attempt.begin(recipe, facts, "accuracy")
    return attempt


def leave(attempt, error):
    """Ends an attempt by an error, as `run` would; returns what came out."""
    with pytest.raises(BaseException) as caught, attempt.recorded():
        raise error
    return caught.value


def die(attempt):
    """Leaves the directory as a process does that is killed."""
    attempt.directory.write_status(attempt.directory.read_status().change(pid=2**22 + 1, pid_started=1))


@pytest.fixture
def lives():
    """A process that is still there when a run says that it is its own."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def leave_to(process, directory):
    """Makes a run that of another process."""
    start = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19])
    directory.write_status(directory.read_status().change(pid=process.pid, pid_started=start))


# --- which directory ---


def test_a_new_run_gets_a_directory_named_after_the_model_and_the_time(tmp_path):
    attempt = find()
    assert attempt.directory.path.parent.name == "runs" and attempt.directory.path.name.startswith("digits-2")
    assert not attempt.is_resumed
    assert not list(tmp_path.iterdir()), "nothing is written before it begins"
    assert begin().directory.path != begin().directory.path


def test_what_a_run_begins_with():
    attempt = begin("run")
    status = attempt.directory.read_status()
    assert (status.name, status.state, status.attempt, status.pid, status.score) == (
        *("digits", "running", 1, os.getpid()),
        "accuracy",
    )
    assert load_recipe("run/recipe.yaml") == RECIPE
    assert {what: attempt.began_with(what) for what in ("data", "precision", "weather")} == FACTS | {"weather": None}
    assert attempt.run_id.startswith("run 20")


def test_two_processes_do_not_work_on_one_run():
    begin("run").directory.status_file.unlink()  # so that nothing but the lock tells
    script = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except OSError: sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", script, "run/control/lock"]).returncode == 7
    holder = "import fcntl, sys; f = open(sys.argv[1], 'ab'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    find("other").begin(RECIPE, FACTS, "accuracy")
    Path("third/control").mkdir(parents=True)
    command = [sys.executable, "-c", holder, "third/control/lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(ConfigError, match="Another process works on the run in third already"):
            begin("third")
        process.communicate(b"\n")


def test_a_directory_that_only_a_launcher_has_written_to_is_new(tmp_path):
    (tmp_path / "run" / "logs" / "attempt-0").mkdir(parents=True)
    (tmp_path / "run" / "control").mkdir()
    assert not begin("run").is_resumed


def test_resume_takes_the_last_unfinished_run_of_the_model():
    first, second, other, done = begin(), begin(), begin(recipe=OTHER), begin()
    for attempt in (first, second, other):
        leave(attempt, StoppedError("Stopped."))
    done.finish("digits/1")
    found = find(resume=True)
    assert found.is_resumed and found.directory.path == second.directory.path
    assert found.previous == second.directory.read_status()
    assert find(resume=True, recipe=OTHER).directory.path == other.directory.path


@pytest.mark.parametrize("others", [False, True])
def test_resume_without_an_unfinished_run_says_so(others):
    if others:
        begin().finish("digits/1")
        leave(begin(recipe=OTHER), StoppedError("Stopped."))
    with pytest.raises(ConfigError, match=r"No unfinished run of 'digits' is under runs/; leave --resume out, or name"):
        find(resume=True)


def test_resume_of_a_directory_that_holds_no_run_says_so(tmp_path):
    with pytest.raises(ConfigError, match="nothing holds no run that could go on; leave --resume out"):
        find("nothing", resume=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").touch()
    with pytest.raises(ConfigError, match="mine holds no run that could go on"):
        find("mine", resume=True)
    with pytest.raises(ConfigError, match="mine is not empty"):
        find("mine")


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_directory_goes_on_with_or_without_resume(resume):
    first = begin("run")
    leave(first, StoppedError("Stopped."))
    attempt = begin("run", resume=resume)
    assert attempt.is_resumed and attempt.run_id == first.run_id
    status = attempt.directory.read_status()
    assert (status.state, status.attempt, status.error) == ("running", 2, None)
    assert status.started == first.directory.read_status().started


def test_a_run_that_died_goes_on():
    die(begin("run"))
    assert find_state(RunDirectory("run").read_status()) == "died"
    assert begin("run", resume=True).directory.read_status().attempt == 2


def test_a_run_that_ended_before_its_first_status_goes_on():
    attempt = begin("run")
    attempt.directory.status_file.unlink()
    attempt = begin("run", resume=True)
    assert attempt.is_resumed and attempt.directory.read_status().name == "digits"


def test_a_finished_run_does_not_go_on():
    begin("run").finish("digits/4")
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"run is finished: it published digits/4\. Name a new run directory"):
            find("run", resume=resume)


def test_a_running_run_is_left_alone(lives):
    leave_to(lives, begin("run").directory)
    with pytest.raises(ConfigError, match=f"is still running: process {lives.pid} on .* Stop it first"):
        find("run", resume=True)
    lives.communicate(b"\n")
    assert find("run", resume=True).is_resumed


def test_a_run_of_another_machine_is_running_as_long_as_it_says_something(monkeypatch):
    directory = begin("run").directory
    directory.write_status(directory.read_status().change(host="elsewhere", pid=1))
    with pytest.raises(ConfigError, match="is still running: process 1 on elsewhere"):
        find("run")
    monkeypatch.setattr(bmp.attempt, "_SILENT_AFTER_S", -1.0)
    assert find("run").is_resumed


# --- with what ---


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("train.epochs=3", "began with train.epochs: 30, and would go on with 3. Resume it with the recipe it began"),
        ("seed=1", "began with seed: 6, and would go on with 1"),
        ("data.batch_size=16", "began with data.batch_size: 32"),
        ("model.args.dense=[64]", r"began with model.args.dense: \[128\], and would go on with \[64\]"),
        ("model.args.kernel=5", "began with model.args.kernel: None, and would go on with 5"),
        ("compress.chains=[]", r"began with compress.chains: \[\['int8'\], .*, and would go on with \[\]"),
        ("publish.name=other", "began with publish.name: digits"),
        ("train.deterministic=true", "began with train.deterministic: False"),
    ],
)
def test_another_recipe_is_refused_and_the_key_is_named(override, words):
    leave(begin("run"), StoppedError("Stopped."))
    before = RunDirectory("run").read_status()
    recipe = load_recipe("digits", [override])
    attempt = find("run", recipe=recipe)
    with pytest.raises(ConfigError, match=words):
        attempt.begin(recipe, FACTS, "accuracy")
    assert RunDirectory("run").read_status() == before


def test_what_does_not_touch_the_weights_may_change():
    leave(begin("run"), StoppedError("Stopped."))
    changes = [
        *("distribution.cpu_replicas=2", "publish.root=elsewhere", "train.checkpoint.every=5 steps"),
        *("train.checkpoint.keep=9", "train.on_nonfinite=skip", "train.max_skipped=1"),
    ]
    assert begin("run", recipe=load_recipe("digits", changes)).is_resumed


def test_other_data_is_refused():
    leave(begin("run"), StoppedError("Stopped."))
    with pytest.raises(DataError, match="The examples are not those that the run in run began with") as caught:
        begin("run", facts=FACTS | {"data": "another digest"})
    assert (caught.value.expected, caught.value.received) == ("digest of the data", "another digest")
    assert begin("run").began_with("data") == "digest of the data"


# --- in a cluster ---


def test_several_processes_need_a_directory(be):
    be("worker", 1)
    with pytest.raises(ConfigError, match=r"2 processes take part .* Name it with --run-dir"):
        find()
    with pytest.raises(ConfigError, match="they need one run directory"):
        find(resume=True)


def test_all_processes_find_the_directory_of_the_chief(be):
    be("worker", 0)
    chief = begin("run")
    be("worker", 1)
    worker = begin("run")
    assert (chief.cluster.is_chief, worker.cluster.is_chief) == (True, False)
    worker.report("training", "train", 5, 10, {})
    assert chief.directory.read_status().step == 0, "one process keeps the status"
    leave(worker, TrainingError("Broken."))
    assert chief.directory.read_status().state == "running"


@pytest.mark.parametrize("of_another", [False, True])
def test_a_worker_that_does_not_see_the_chief_says_so(be, monkeypatch, of_another):
    monkeypatch.setattr(bmp.attempt, "_SHARED_WITHIN_S", 0.3)
    if of_another:  # of the attempt before, which had other ports
        be("worker", 0, {"worker": ["127.0.0.1:7001", "127.0.0.1:7009"]})
        begin("run")
    be("worker", 1)
    with pytest.raises(ConfigError, match=r"token is not in the run directory run of worker 1 after .* Name a"):
        begin("run")


def test_lines_of_a_worker_say_whose_they_are(be):
    be("worker", 1)
    output = io.StringIO()
    attempt = find_attempt(RECIPE, "run", False, Console(file=output))
    attempt.console.print("one\ntwo")
    assert output.getvalue() == "[worker 1] one\n[worker 1] two\n"


def test_only_the_chief_of_parameter_servers_trains(be):
    spec = {"chief": ["127.0.0.1:1"], "worker": ["127.0.0.1:2"], "ps": ["127.0.0.1:3"]}
    serves = {}
    for task in spec:
        be(task, 0, spec)
        serves[task] = find("run").serves
    assert serves == {"chief": False, "worker": True, "ps": True}


@pytest.fixture
def pair(be, monkeypatch, tmp_path):
    """Chief and worker of a run, seen from the worker, which says where it is."""
    be("worker", 0)
    chief = begin("run")
    be("worker", 1)
    monkeypatch.setenv("BMP_HEARTBEAT_FILE", str(tmp_path / "beat"))
    return chief, begin("run")


def test_a_worker_waits_until_the_chief_has_published(pair, tmp_path):
    chief, worker = pair
    waiting = threading.Thread(target=worker.wait_for_chief)
    waiting.start()
    while read_beat(tmp_path / "beat").phase != "waiting":
        time.sleep(0.01)
    assert waiting.is_alive()
    chief.directory.status_file.unlink()  # as a slow file system shows it
    time.sleep(0.3)
    assert waiting.is_alive()
    chief.finish("digits/1")
    waiting.join(timeout=20)
    assert not waiting.is_alive()


def test_a_worker_does_not_wait_for_a_chief_that_failed(pair):
    chief, worker = pair
    leave(chief, TrainingError("It broke."))
    with pytest.raises(RegistryError, match="The chief ended without publishing: It broke"):
        worker.wait_for_chief()


def test_a_worker_does_not_wait_for_a_chief_that_died(pair):
    chief, worker = pair
    die(chief)
    with pytest.raises(RegistryError, match="The chief ended without publishing: died"):
        worker.wait_for_chief()


def test_a_worker_does_not_wait_for_ever_for_a_word_of_the_chief(pair, monkeypatch):
    chief, worker = pair
    chief.directory.status_file.write_text("{")
    monkeypatch.setattr(bmp.attempt, "_SHARED_WITHIN_S", 0.3)
    with pytest.raises(Exception, match=r"status\.json is damaged"):
        worker.wait_for_chief()


# --- how it ends ---


def test_a_stop_says_how_to_go_on():
    attempt = begin("a run")
    error = leave(attempt, StoppedError("Stopped after step 3.", exit_code=143))
    assert error.message == "Stopped after step 3. Go on with: python train.py --resume --run-dir 'a run'"
    assert error.exit_code == 143
    status = attempt.directory.read_status()
    assert (status.state, status.error) == ("stopped", "Stopped after step 3.")
    assert f"{error.message.partition(': ')[2]}\n" in attempt.directory.readme_file.read_text()


def test_a_stop_of_several_processes_says_how_to_go_on(be):
    be("worker", 0)
    error = leave(begin("run"), StoppedError("Stopped.", exit_code=143))
    assert error.message == "Stopped. Go on with: the same launch, with --run-dir run"


def test_ctrl_c_outside_of_training_is_a_stop_as_well():
    attempt = begin("run")
    error = leave(attempt, KeyboardInterrupt())
    assert isinstance(error, StoppedError) and error.exit_code == 130
    assert error.message == "Stopped by Ctrl-C. Go on with: python train.py --resume --run-dir run"
    assert attempt.directory.read_status().state == "stopped"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TrainingError("The loss is nan."), "The loss is nan."),
        (ValueError("two\nlines"), "ValueError: two lines"),
        (FileNotFoundError(2, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
    ],
)
def test_a_failure_is_written_down_and_goes_on_its_way(error, said):
    attempt = begin("run")
    assert leave(attempt, error) is error
    status = attempt.directory.read_status()
    assert (status.state, status.error) == ("failed", said)


def test_the_end_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("BMP_HEARTBEAT_FILE", str(tmp_path / "beat"))
    attempt = begin("run")
    with attempt.recorded():
        attempt.report("training", "prune", 7, 9, {"loss": 0.5})
        attempt.report("finishing", "export", 0, 0, {})
        attempt.finish("digits/1")
    status = attempt.directory.read_status()
    assert (status.state, status.stage, status.published, status.error) == ("finished", "export", "digits/1", None)
    assert status.figures == {"loss": 0.5}, "the last that were measured"
    beat = read_beat(tmp_path / "beat")
    assert (beat.phase, beat.step, beat.total_steps) == ("finished", 7, 7)


def test_a_new_stage_is_written_at_once_and_steps_now_and_then():
    attempt = begin("run")
    attempt.report("training", "train", 1, 10, {"loss": 2.0})
    attempt.report("training", "train", 2, 10, {"loss": 1.0})
    status = attempt.directory.read_status()
    assert (status.stage, status.step, status.total_steps, status.figures) == ("train", 1, 10, {"loss": 2.0})
    attempt.report("training", "prune", 3, 10, {})
    status = attempt.directory.read_status()
    assert (status.stage, status.step, status.figures) == ("prune", 3, {"loss": 1.0})


def test_seconds_add_up_over_attempts():
    leave(begin("run"), StoppedError("Stopped."))
    directory = RunDirectory("run")
    first_s = directory.read_status().train_s
    directory.write_status(directory.read_status().change(train_s=first_s + 100))
    attempt = begin("run")
    assert attempt.directory.read_status().train_s == first_s + 100
    time.sleep(0.01)
    leave(attempt, StoppedError("Stopped."))
    assert 100.01 <= directory.read_status().train_s < 200


# --- a full disk ---


def test_a_full_disk_is_named_and_the_last_status_stays():
    attempt = begin("run")
    before = attempt.directory.read_status()
    with disk_that_holds(8), pytest.raises(CheckpointError) as caught, attempt.recorded():
        attempt.report("training", "train", 1, 10, {})
    assert "The run directory run cannot be written to: File too large" in caught.value.message
    assert "make room on the disk and resume the run" in caught.value.message
    assert attempt.directory.read_status() == before
    assert not list(attempt.directory.path.glob(".*")), "nothing half written is left"


def test_a_disk_that_is_full_from_the_beginning_is_named_too():
    attempt = find("run")
    with disk_that_holds(8), pytest.raises((ConfigError, CheckpointError), match="File too large"):
        attempt.begin(RECIPE, FACTS, "accuracy")
    leave(begin("other"), StoppedError("Stopped."))
    attempt = find("other")
    with disk_that_holds(8), pytest.raises(CheckpointError, match="other cannot be written to: File too large"):
        attempt.begin(RECIPE, FACTS, "accuracy")


def test_a_disk_that_gets_full_while_exporting_is_named_as_such(tmp_path):
    attempt = begin("run")
    words = "run cannot be written to: File too large"
    with disk_that_holds(8), pytest.raises(CheckpointError, match=words), attempt.recorded():
        (tmp_path / "history.csv").write_text("far too long")
    die(attempt)
    assert begin("run").is_resumed
