"""Every system call of the writing of a checkpoint, struck in turn: the process killed there, or the call failed.

strace attaches to a process that is about to write, and strikes at the N-th call of a kind, for every N and kind.
"""

import ctypes
import os
import random
import re
import shutil
import signal
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmp.errors import CheckpointError
from bmp.training.checkpoint import Checkpoint, CheckpointStore
from tests.soak.tally import Tally, complain, wait_until

KILL, FAULTS = "signal=SIGKILL", ("error=ENOSPC", "error=EIO")
_CALLS = (
    "openat,open,creat,read,pread64,write,writev,pwrite64,fsync,fdatasync,close,ftruncate,lseek,"
    "rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,getdents64,stat,lstat,fstat,newfstatat,statx"
)
_MAY_FAIL = ("openat", "read", "write", "fsync", "rename", "mkdir", "unlink", "unlinkat", "rmdir", "getdents64")
_STEPS = (10, 20, 30)
_NEW, _NEXT = 40, 50
_WRITTEN, _REFUSED, _BAD = 0, 11, 12
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


def strike(root: Path, rng: random.Random, rounds: int) -> Tally:
    """Strikes everywhere, and looks at what is left."""
    if shutil.which("strace") is None:
        complain("strace is missing: apt-get install strace")
    tally = Tally("calls", "strikes left the old checkpoint or the new one, said so, and let the next be written")
    counts = _count_calls(root)
    strikes = _list_strikes(counts) * rounds
    rng.shuffle(strikes)
    for found in strikes:
        trouble = _try(root / "store", found)
        tally.add(not trouble, f"{found}: {trouble}")
    called = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    tally.note(f"the calls of one write, each killed at: {called}")
    tally.note(f"and each of {', '.join(name for name in _MAY_FAIL if counts[name])} failed by ENOSPC and by EIO")
    shutil.rmtree(root / "store", ignore_errors=True)
    return tally


def _list_strikes(counts: Counter[str]) -> list[Strike]:
    return [
        Strike(call, number, how)
        for call, count in sorted(counts.items())
        for how in (KILL, *(FAULTS if call in _MAY_FAIL else ()))
        for number in range(1, count + 1)
    ]


def _count_calls(root: Path) -> Counter[str]:
    trace = root / "trace.txt"
    code, _ = _write_under_strace(_make_store(root / "store"), ["-e", f"trace={_CALLS}", "-o", str(trace)])
    if code != _WRITTEN:
        complain(f"a write that strace only watches ended with {code}")
    return Counter(re.findall(r"^\d* *(\w+)\(", trace.read_text(), flags=re.MULTILINE))


def _try(directory: Path, found: Strike) -> str:
    """Strikes once; returns what is wrong afterwards."""
    store = _make_store(directory)
    code, sentence = _write_under_strace(
        store,
        ["-o", "/dev/null", "-e", f"trace={found.call}", "-e", f"inject={found.call}:{found.how}:when={found.number}"],
    )
    if found.how == KILL and code != -signal.SIGKILL:
        return f"it was not killed but ended with {code}"
    if found.how != KILL and code not in (_WRITTEN, _REFUSED):
        return f"it ended with {code}: {sentence}"
    if code == _REFUSED and not re.search(
        r"step 40 could not be written to .*Earlier checkpoints are intact", sentence
    ):
        return f"the sentence is: {sentence}"
    try:
        return _look(store, must_be_new=code == _WRITTEN) or _go_on(store)
    except CheckpointError as error:
        return error.message


def _look(store: CheckpointStore, *, must_be_new: bool) -> str:
    newest, problems = store.read_newest()
    if problems:
        return " ".join(problems)
    if newest is None or not _is_sound(newest):
        return "what is read was never written"
    if newest.step not in ((_NEW,) if must_be_new else (_STEPS[-1], _NEW)):
        return f"the newest is of step {newest.step}"
    return ""


def _go_on(store: CheckpointStore) -> str:
    """Writes the next one, as a resumed run does; nothing may be left but the three newest."""
    store.write(_make(_NEXT))
    left = sorted(path.name for path in store.directory.iterdir())
    if len(left) != store.keep or any(name.startswith(".") for name in left):
        return f"after the next write there are {left}"
    return _look_at_next(store)


def _look_at_next(store: CheckpointStore) -> str:
    newest, problems = store.read_newest()
    return "" if newest is not None and newest.step == _NEXT and not problems else "the next one is not there"


def _make(step: int) -> Checkpoint:
    arrays = {f"weight/{number:04d}": np.full((50, 7), step + number, np.float32) for number in range(4)}
    return Checkpoint(step, {"finished": False, "observers": {}}, arrays)


def _is_sound(checkpoint: Checkpoint) -> bool:
    wanted = _make(checkpoint.step).arrays
    return checkpoint.arrays.keys() == wanted.keys() and all(
        np.array_equal(checkpoint.arrays[name], array) for name, array in wanted.items()
    )


def _make_store(directory: Path) -> CheckpointStore:
    """A store of three checkpoints, and what a killed write has left beside them."""
    shutil.rmtree(directory, ignore_errors=True)
    store = CheckpointStore(directory)
    for step in _STEPS:
        store.write(_make(step))
    shutil.copytree(store.paths()[0], directory / f".step-{_NEW:012d}-0123456789abcdef")
    return store


def _write_under_strace(store: CheckpointStore, options: list[str]) -> tuple[int, str]:
    """Has a process of its own write a checkpoint; returns how it ended (-N: by signal N), and what it said."""
    out, into = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # so that it waits, however early it comes
    child = os.fork()
    if child == 0:
        _write_when_asked(store, into)
    os.close(into)
    os.read(out, 1)
    tracer = subprocess.Popen(["strace", "-q", *options, "-p", str(child)], stderr=subprocess.PIPE, text=True)
    try:
        if not wait_until(lambda: _is_traced(child) or tracer.poll() is not None, 10, every_s=0.001) or tracer.poll():
            tracer.kill()
            complain(f"strace cannot attach to a process here: {tracer.communicate()[1].strip()}")
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
        tracer.wait(timeout=10)
        if tracer.stderr is not None:
            tracer.stderr.close()


def _write_when_asked(store: CheckpointStore, into: int) -> None:
    """The child: waits for SIGUSR1, writes, and ends without any of the parent's clean-up."""
    code, sentence = _BAD, ""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)  # where only a parent may trace
        os.write(into, b"!")
        signal.sigwait([signal.SIGUSR1])
        store.write(_make(_NEW))
        code = _WRITTEN
    except CheckpointError as error:
        code, sentence = _REFUSED, error.message
    except BaseException as error:
        sentence = repr(error)
    if sentence:
        os.write(into, sentence.encode())
    os._exit(code)


def _is_traced(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    return "TracerPid:\t0\n" not in status
