"""What a child in the sandbox tries, and what becomes of it; see `probe`."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import PROJECT

from bmp.errors import ArtifactError, UnknownNameError
from bmp.imports.confine import Confinement, Walls, find_walls
from bmp.imports.sandbox import clean, run_confined

WALLS = find_walls()
needs_walls = pytest.mark.skipif(not WALLS.are_whole, reason="this kernel has no Landlock or no seccomp")


@pytest.fixture
def place(tmp_path):
    """A directory that the child may write to, beside a file that it must not touch."""
    (tmp_path / "secret").write_text("as it was")
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def attempt(place: Path, what: str, path: object = "", **kwargs: object) -> dict[str, str]:
    return run_confined(
        "tests.imports.probe:attempt",
        {"what": what, "path": str(path)},
        readable=[PROJECT],
        writable=[place],
        **kwargs,
    )


@needs_walls
@pytest.mark.parametrize("what", ["read", "write", "remove", "chmod", "touch", "link"])
def test_a_file_outside_is_out_of_reach(place, what):
    secret = place.parent / "secret"
    before = secret.stat()
    assert attempt(place, what, secret)["refused"] in ("PermissionError", "OSError")
    assert secret.read_text() == "as it was" and secret.stat().st_mtime_ns == before.st_mtime_ns
    assert secret.stat().st_mode == before.st_mode


@needs_walls
@pytest.mark.parametrize(("what", "path"), [("list", ""), ("make directory", "new"), ("read", "own/../secret")])
def test_nor_is_a_directory_or_a_way_around(place, what, path):
    assert attempt(place, what, place.parent / path) == {"refused": "PermissionError"}


@needs_walls
@pytest.mark.parametrize("path", ["/etc/passwd", "/root/.bash_history", "/proc/1/environ", "/tmp"])
def test_nor_is_what_a_machine_holds(place, path):
    what = "list" if Path(path).is_dir() else "read"
    assert "did" not in attempt(place, what, path)


@needs_walls
@pytest.mark.parametrize(
    "what", ["unix socket", "udp", "fork", "start a program", "signal the parent", "read the parent"]
)
def test_no_socket_and_no_other_process(place, what):
    assert attempt(place, what) == {"refused": "PermissionError"}


@needs_walls
def test_no_connection_though_somebody_listens(place):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        assert attempt(place, "connect", server.getsockname()[1]) == {"refused": "PermissionError"}
        with pytest.raises(TimeoutError):
            server.accept()


def test_its_own_directory_and_threads_are_its_own(place):
    assert attempt(place, "write", place / "file") == {"did": "1"}
    assert (place / "file").read_text() == "x"
    assert attempt(place, "start a thread") == {"did": "ran"}


def test_nothing_of_the_users_is_in_its_environment(place, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "x")
    assert "SECRET_TOKEN" not in attempt(place, "environment")["did"]


def test_memory_is_bounded(place):
    limits = Confinement(memory_bytes=1 << 30)
    with pytest.raises(ArtifactError, match="needs more memory than it was given"):
        attempt(place, "allocate", 2 << 30, limits=limits)
    assert attempt(place, "allocate", 1 << 20, limits=limits) == {"did": str(1 << 20)}


def test_a_file_that_grows_is_stopped(place):
    assert attempt(place, "fill", place / "file", limits=Confinement(file_bytes=1 << 20)) == {"refused": "OSError"}
    assert (place / "file").stat().st_size <= 1 << 20


@pytest.mark.parametrize(
    ("what", "limits", "said"),
    [
        ("sleep", Confinement(wall_s=0.5), "took more than 0.5 s and was ended"),
        ("spin", Confinement(cpu_s=1, wall_s=60), "took more than 1 s of processor time and was ended"),
        ("flood", Confinement(answer_bytes=1 << 20), "say more than any model has to say"),
        ("abort", Confinement(), "ended its reader by signal SIGABRT"),
        ("exit", Confinement(), r"gave no answer \(exit code 7\)"),
    ],
)
def test_whoever_goes_on_or_goes_wrong_is_ended_with_a_sentence(place, what, limits, said):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(ArtifactError, match=said):
        attempt(place, what, limits=limits)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def test_our_errors_come_back_as_they_were(place):
    with pytest.raises(UnknownNameError, match="No thing is named 'x'") as caught:
        attempt(place, "raise")
    assert (caught.value.expected, caught.value.received) == ("y", "x")


def test_what_a_terminal_would_obey_is_not_printed(place):
    with pytest.raises(ArtifactError) as caught:
        attempt(place, "raise control characters")
    assert str(caught.value).isprintable() and "ValueError" in str(caught.value)
    assert clean("a\x1b[2Jb\u202e") == "a [2Jb "


def test_without_walls_the_limits_stay(place):
    assert attempt(place, "unix socket", walls=Walls(False, False))["did"]
    with pytest.raises(ArtifactError, match="memory"):
        attempt(place, "allocate", 16 << 30, walls=Walls(False, False))


def test_nothing_but_the_standard_library_is_imported_before_the_walls_stand():
    script = "import sys, bmp.imports.child; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"numpy", "pydantic", "tensorflow", "keras", "h5py", "rich"} == set()


def test_a_second_thread_would_escape_and_so_nothing_begins():
    script = (
        "import threading, time; threading.Thread(target=time.sleep, args=(20,), daemon=True).start();"
        "from bmp.imports.confine import *; confine(Confinement(), find_walls(), [], [])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert "second thread is running already" in done.stderr and time.monotonic() - began < 19
