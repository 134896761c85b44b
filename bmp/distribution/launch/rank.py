"""One rank: a process in its own session, on its own cores, that cannot outlive its launcher."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Self

from bmp.distribution.heartbeat import Beat, read_beat
from bmp.distribution.launch import keeper
from bmp.distribution.launch.roles import Role

_PR_SET_PDEATHSIG = 1
TAIL_BYTES = 65_536
TAIL_LINES = 15
LINE_CHARACTERS = 500


class Keeper:
    """The launcher's side of `keeper.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        self._process.wait()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    def watch(self, group: int) -> None:
        """Has a process group killed once this process is gone."""
        self._say(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Leaves a process group alone that is gone."""
        self._say(f"-{group}\n")

    def _say(self, line: str) -> None:
        self._input.write(line.encode())
        self._input.flush()


@dataclass(frozen=True)
class Start:
    """How to start a rank.

    Args:
        role: What it is.
        command: The program and its arguments.
        environ: Its whole environment.
        cores: The cores it may use.
        log: The file that gets all it writes.
        beat_file: The file that it reports to.
        shows_output: Whether the launcher shows what it prints; then that comes through the launcher.
    """

    role: Role
    command: Sequence[str]
    environ: Mapping[str, str]
    cores: Sequence[int]
    log: Path
    beat_file: Path
    shows_output: bool


class Rank:
    """A rank that runs, or has run.

    Args:
        start: How to start it.
        keeper: Who kills it if this process cannot.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, start: Start, keeper: Keeper) -> None:
        self.role = start.role
        self.log = start.log
        self.code: int | None = None
        self._beat_file = start.beat_file
        self._keeper = keeper
        self._partial = b""
        start.beat_file.unlink(missing_ok=True)  # of an earlier launch in the same run directory
        self._file = start.log.open("ab")
        self._header_bytes = self._write_header(start)
        self._process = subprocess.Popen(
            list(start.command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if start.shows_output else self._file,
            stderr=self._file,
            env=dict(start.environ),
            start_new_session=True,
            preexec_fn=_make_bound(start.cores),
        )
        keeper.watch(self._process.pid)
        if self._process.stdout is not None:
            os.set_blocking(self._process.stdout.fileno(), False)

    def _write_header(self, start: Start) -> int:
        cores = ",".join(map(str, start.cores))
        self._file.write(f"--- {start.role.name}, {datetime.now():%Y-%m-%d %H:%M:%S}, cores {cores}\n".encode())
        self._file.flush()
        return self._file.tell()

    @property
    def pid(self) -> int:
        """Its process, and its process group."""
        return self._process.pid

    def read_beat(self) -> Beat | None:
        """Returns what it said last."""
        return read_beat(self._beat_file)

    def read_output(self) -> list[str]:
        """Returns the whole lines it has printed since the last call, and keeps them in its log."""
        stream = self._process.stdout
        if stream is None or stream.closed:
            return []
        block = _read_available(stream.fileno())
        self._file.write(block)
        self._file.flush()
        *lines, self._partial = (self._partial + block).split(b"\n")
        if self._partial and (self.code is not None or len(self._partial) > TAIL_BYTES):
            lines, self._partial = [*lines, self._partial], b""
        return [_as_shown(line) for line in lines]

    def poll(self) -> int | None:
        """Returns the exit code once it has ended (-N: killed by signal N), and kills what it has left behind."""
        if self.code is None and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self.kill()  # before it is waited for: its number, the group's, is not given to another until then
            self.code = self._process.wait()
            self._keeper.forget(self.pid)
        return self.code

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process, not to its children."""
        if self.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kills the process and its children, at once."""
        if self.code is None:
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Lets go of the files of a rank that has ended."""
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._file.close()

    def read_tail(self) -> list[str]:
        """Returns the last lines of its log that this start has written."""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._header_bytes, end - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
        return [line[:LINE_CHARACTERS].rstrip() for line in text.splitlines()[-TAIL_LINES:]]


def _as_shown(line: bytes) -> str:
    """A line that was written over itself, as progress bars are, is what it was in the end."""
    return line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]


def _read_available(descriptor: int, most: int = 1 << 20) -> bytes:
    blocks: list[bytes] = []
    while sum(map(len, blocks)) < most:
        try:
            block = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            break
        if not block:
            break
        blocks.append(block)
    return b"".join(blocks)


def _make_bound(cores: Sequence[int]) -> Callable[[], None]:
    """Returns what the child does before it becomes the rank.

    The kernel kills it when the thread that started it ends; that thread is the launcher's only one.
    """
    libc, launcher = ctypes.CDLL(None, use_errno=True), os.getpid()

    def bind() -> None:
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
        if os.getppid() != launcher:  # it ended before the line above
            os.kill(os.getpid(), signal.SIGKILL)
        os.sched_setaffinity(0, cores)

    return bind
