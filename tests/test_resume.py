"""A run that is ended early in every way, and goes on: the end is that of a run that nobody disturbed."""

import os
import signal
from dataclasses import dataclass

import pytest
from click.testing import CliRunner
from processes import PRUNING, Place, drop_durations, end, read_digest, wait_until

from bmp.artifact.manifest import check_files
from bmp.cli import main
from bmp.runs import Status
from bmp.training.checkpoint import CheckpointStore

STEPS = 315
RESUME = "--resume"


@dataclass
class Attempt:
    """What one process did to the run, as it stood at its end."""

    began_at: int
    code: int
    stdout: str
    stderr: str
    status: Status
    ended_at: int


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The run that is disturbed: stopped, then killed, then left alone."""
    place = Place(tmp_path_factory.mktemp("disturbed"))
    yield place
    place.kill()


def disturb(place, number, stage, epoch, *arguments):
    """Sends a signal in the middle of an epoch, and waits for the end."""
    began_at = place.newest(stage)
    process = place.start(*arguments)
    wait_until(process, lambda: place.newest(stage) > began_at and is_amid_an_epoch(place.newest(stage), epoch))
    process.send_signal(number)
    return Attempt(began_at, *end(process), place.status(), place.newest(stage))


def is_amid_an_epoch(step, first_epoch):
    return step >= first_epoch * STEPS and 50 <= step % STEPS <= 150


@pytest.fixture(scope="module")
def stopped(place):
    return disturb(place, signal.SIGTERM, "train", 0)


@pytest.fixture(scope="module")
def killed(place, stopped):
    return disturb(place, signal.SIGKILL, PRUNING, 0, RESUME)


@pytest.fixture(scope="module")
def finished(place, killed):
    """The last attempt, before which the newest checkpoint is damaged; and the paths of that and the one before."""
    newest, before = CheckpointStore(place.run.checkpoints_of(PRUNING)).paths()[:2]
    arrays = newest / "arrays.safetensors"
    data = bytearray(arrays.read_bytes())
    data[-5] ^= 1
    arrays.write_bytes(data)
    began_at = int(before.name.removeprefix("step-"))
    return Attempt(began_at, *place.finish(RESUME), place.status(), place.newest(PRUNING)), newest


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run of the same recipe, and the digest of its weights."""
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    try:
        code, stdout, stderr = place.finish()
    finally:
        place.kill()
    assert (code, stderr) == (0, "")
    return place, read_digest(stdout)


def test_sigterm_amid_an_epoch_leaves_a_checkpoint_and_says_how_to_go_on(place, stopped):
    assert stopped.code == 143
    assert stopped.ended_at % STEPS, "the epoch was not over"
    said = f"Stopped after step {stopped.ended_at:,}, as asked; the checkpoint is written."
    assert stopped.stderr == f"bmp: {said} Go on with: python train.py --resume --run-dir run\n"
    assert "python train.py --resume --run-dir run\n" in place.run.readme_file.read_text()
    status = stopped.status
    assert (status.state, status.stage, status.attempt, status.error) == ("stopped", "train", 1, said)


def test_sigkill_in_the_second_stage_leaves_a_run_that_died(stopped, killed):
    assert killed.code == -signal.SIGKILL
    assert f"resumed: stage 'train' from step {stopped.ended_at:,} of {4 * STEPS:,}" in killed.stdout
    status = killed.status
    assert (status.state, status.stage, status.attempt, status.published) == ("running", PRUNING, 2, None)


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(place, finished):
    attempt, damaged = finished
    assert (attempt.code, attempt.stderr) == (0, "")
    assert f"The checkpoint {os.path.relpath(damaged, place.root)} is damaged: arrays.safetensors" in attempt.stdout
    assert "The one before it is used." in attempt.stdout
    assert "resumed: stage 'train' was finished before" in attempt.stdout
    assert f"resumed: stage '{PRUNING}' from step {attempt.began_at:,} of {2 * STEPS}" in attempt.stdout


def test_the_end_is_that_of_a_run_undisturbed(place, finished, undisturbed):
    attempt, (reference, digest) = finished[0], undisturbed
    assert read_digest(attempt.stdout) == digest
    assert drop_durations(place.history()) == drop_durations(reference.history())
    version, wanted = (one.registry.resolve("net") for one in (place, reference))
    check_files(version.path, version.read_manifest())
    assert (version.path / "model.tflite").read_bytes() == (wanted.path / "model.tflite").read_bytes()
    assert (attempt.status.state, attempt.status.attempt, attempt.status.published) == ("finished", 3, "net/1")
    assert place.registry.versions("net") == [1]


def test_seconds_trained_add_up(stopped, killed, finished):
    seconds = [attempt.status.train_s for attempt in (stopped, killed, finished[0])]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


@pytest.mark.parametrize("arguments", [("recipe.yaml",), (RESUME,), ("recipe.yaml", RESUME)], ids=" ".join)
def test_a_finished_run_says_so(place, finished, arguments):
    assert place.finish(*arguments) == (0, "bmp: the run in run is finished: it published net/1\n", "")
    assert place.registry.versions("net") == [1]
    assert place.status() == finished[0].status


def test_a_run_killed_between_publishing_and_writing_that_down_publishes_once(undisturbed, monkeypatch):
    place, digest = undisturbed
    monkeypatch.chdir(place.root)
    killed = place.status().change(state="running", stage="export", published=None, pid_started=1)
    place.run.write_status(killed)
    published = place.registry.resolve("net").read_manifest()
    done = CliRunner().invoke(main, ["run", RESUME, "--run-dir", "run"])
    assert done.exit_code == 0, done.output
    assert read_digest(done.output) == digest
    assert place.registry.versions("net") == [1]
    assert place.registry.resolve("net").read_manifest() == published
    assert (place.status().state, place.status().published) == ("finished", "net/1")
