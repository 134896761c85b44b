"""A change struck at every one of its system calls, in turn: the process is killed there, or the call fails.

strace attaches to a process that is about to make the change, and strikes at the N-th call of a kind, for every N and
kind.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bmp.errors import BmpError
from tests.soak.tally import Tally, complain

KILL, FAULTS = "signal=SIGKILL", ("error=ENOSPC", "error=EIO")
DONE, REFUSED = 0, 11
_BAD = 12
_CALLS = (
    "openat,open,creat,read,pread64,write,writev,pwrite64,fsync,fdatasync,close,ftruncate,truncate,lseek,flock,"
    "rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink,unlinkat,rmdir,getdents64,utimensat,fchmod,chmod,"
    "sendfile,copy_file_range,stat,lstat,fstat,newfstatat,statx"
)
_MAY_FAIL = (
    *("openat", "read", "write", "fsync", "ftruncate", "truncate", "rename", "link", "mkdir"),
    *("unlink", "unlinkat", "rmdir", "getdents64", "utimensat", "sendfile", "copy_file_range"),
)
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)


@dataclass(frozen=True)
class Strike:
    """Where and how.

    Args:
        call: The system call.
        number: Which of them, from 1.
        how: As strace has it.
    """

    call: str
    number: int
    how: str

    def __str__(self) -> str:
        return f"{self.call} {self.number} {self.how}"


def check_strace() -> None:
    """Ends the campaign where there is none."""
    if shutil.which("strace") is None:
        complain("strace is missing: apt-get install strace")


def count_calls(change: Callable[[], object], trace: Path) -> Counter[str]:
    """Returns how often a change makes each system call, by making it."""
    code, sentence = _run_under_strace(change, ["-e", f"trace={_CALLS}", "-o", str(trace)])
    if code != DONE:
        complain(f"a change that strace only watches ended with {code}: {sentence}")
    return Counter(re.findall(r"^\d* *(\w+)\(", trace.read_text(), flags=re.MULTILINE))


def list_strikes(counts: Counter[str]) -> list[Strike]:
    """Returns every strike: a kill at each call, and both faults at each that touches a disk."""
    return [
        Strike(call, number, how)
        for call, count in sorted(counts.items())
        for how in (KILL, *(FAULTS if call in _MAY_FAIL else ()))
        for number in range(1, count + 1)
    ]


def make_struck(change: Callable[[], object], found: Strike) -> tuple[int, str, str]:
    """Has a process of its own make a change, and strikes.

    Returns:
        How it ended, what it said, and in words what is wrong with that.
    """
    inject = f"inject={found.call}:{found.how}:when={found.number}"
    code, sentence = _run_under_strace(change, ["-o", "/dev/null", "-e", f"trace={found.call}", "-e", inject])
    if found.how == KILL and code != -signal.SIGKILL:
        return code, sentence, f"it was not killed but ended with {code}"
    if found.how != KILL and code not in (DONE, REFUSED):
        return code, sentence, f"it ended with {code}: {sentence}"
    return code, sentence, ""


def note_calls(tally: Tally, what: str, counts: Counter[str]) -> None:
    """Has said where it was struck."""
    called = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    tally.note(f"the calls of {what}, each killed at: {called}")
    tally.note(f"and each of {', '.join(name for name in _MAY_FAIL if counts[name])} failed by ENOSPC and by EIO")


def _run_under_strace(change: Callable[[], object], options: list[str]) -> tuple[int, str]:
    """Has a process of its own make a change; returns how it ended (-N: by signal N), and what it said."""
    out, into = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # so that it waits, however early it comes
    child = os.fork()
    if child == 0:
        _change_when_asked(change, into)
    os.close(into)
    os.read(out, 1)
    tracer = subprocess.Popen(["strace", *options, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    try:
        if "attached" not in (said_first := tracer.stderr.readline()):  # said when the child can make no call unseen
            complain(f"strace cannot attach to a process here: {said_first.strip()}")
        os.kill(child, signal.SIGUSR1)
        with os.fdopen(out, "rb") as said:  # to the end: the child has ended
            sentence = said.read().decode()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        return code, sentence
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        tracer.stderr.close()
        tracer.wait(timeout=10)


def _change_when_asked(change: Callable[[], object], into: int) -> None:
    """The child: waits for SIGUSR1, makes the change, and ends without any of the parent's clean-up."""
    code, sentence = _BAD, ""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)  # where only a parent may trace
        os.write(into, b"!")
        signal.sigwait([signal.SIGUSR1])
        change()
        code = DONE
    except BmpError as error:
        code, sentence = REFUSED, error.message
    except BaseException as error:
        sentence = repr(error)
    if sentence:
        os.write(into, sentence.encode())
    os._exit(code)
