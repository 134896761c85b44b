import subprocess
import sys

import pytest

from bmp.distribution.heartbeat import Beat, Heartbeat, read_beat


def test_what_is_said_is_read(tmp_path):
    Heartbeat(tmp_path / "beat").beat("training", step=3, total_steps=9, figures={"loss": 0.5})
    assert read_beat(tmp_path / "beat") == Beat("training", 3, 9, {"loss": 0.5}, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["beat"]


def test_a_change_of_phase_is_always_said_and_the_rest_seldom(tmp_path):
    heartbeat = Heartbeat(tmp_path / "beat")
    for step in range(1000):
        heartbeat.beat("training", step=step)
    few = read_beat(tmp_path / "beat").count
    assert few < 500
    heartbeat.beat("saving", step=1000)
    heartbeat.beat("training", step=1000)
    beat = read_beat(tmp_path / "beat")
    assert (beat.phase, beat.step, beat.count) == ("training", 1000, few + 2)


def test_without_a_launcher_it_is_silent(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BMP_HEARTBEAT_FILE", raising=False)
    Heartbeat.from_environment().beat("training", step=1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("BMP_HEARTBEAT_FILE", str(tmp_path / "b"))
    Heartbeat.from_environment().beat("waiting")
    assert read_beat(tmp_path / "b").phase == "waiting"


def test_an_unknown_phase_is_a_mistake_of_the_program():
    with pytest.raises(ValueError, match="'trainig' is no phase of a run"):
        Heartbeat(None).beat("trainig")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"phase": "a", "figures": {}, "step": null}', "[" * 10_000])
def test_what_makes_no_sense_is_no_beat(tmp_path, text):
    (tmp_path / "beat").write_text(text)
    assert read_beat(tmp_path / "beat") is None
    assert read_beat(tmp_path / "none") is None


def test_a_signal_dumps_the_stack():
    script = "import os, signal; from bmp.distribution.heartbeat import *; register_stack_dump()\n"
    script += "def here(): os.kill(os.getpid(), signal.SIGUSR1)\nhere()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "in here" in done.stderr


def test_ranks_and_launchers_need_no_tensorflow():
    script = "import sys, bmp.distribution.launch, bmp.distribution.manifests, bmp.distribution.heartbeat\n"
    script += "print({'tensorflow', 'keras', 'tf_keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr
