"""The sandbox: a task run by a child that is confined first, with JSON in and JSON out."""

import json
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bmp
from bmp import errors
from bmp.errors import ArtifactError, BmpError
from bmp.imports.confine import Confinement, Walls, find_walls

_CHUNK_BYTES = 1 << 16
_LOG_BYTES = 1 << 16
_MESSAGE_LENGTH = 2000
_MACHINE_FILES = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime"),
    *("/dev/null", "/dev/zero", "/dev/urandom", "/sys/devices/system"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems"),
)
"""What Python, numpy and TensorFlow read of a machine."""


def run_confined(
    task: str,
    request: dict[str, Any],
    *,
    readable: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    limits: Confinement | None = None,
    walls: Walls | None = None,
) -> dict[str, Any]:
    """Runs `task(request)` in a process that can do nothing but that, and returns what it returns.

    The child sees the Python installation, what is named here, and no network; it cannot start a process. It is dead
    when this returns.

    Args:
        task: `module:function`, which takes and returns what JSON can say.
        request: For the task.
        readable: Files and directories that the child may read, with all that is below.
        writable: Directories that the child may write to; the first is its current and its temporary directory.
        limits: On memory, time, files and the answer.
        walls: Which walls of the kernel to raise; those that it has.

    Raises:
        BmpError: What the task raised.
        ArtifactError: The child crashed, took more than it may, or gave no answer that can be read.
    """
    limits, walls = limits or Confinement(), walls or find_walls()
    message = {
        "request": request,
        "limits": asdict(limits),
        "walls": asdict(walls),
        "readable": [str(path) for path in (*_installation(), *readable)],
        "writable": [str(path) for path in (*writable, "/dev/null")],
    }
    place = Path(writable[0]) if writable else Path("/")
    process = subprocess.Popen(
        [sys.executable, "-P", "-s", "-m", "bmp.imports.child", task],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=place,
        env=_make_environment(place),
        start_new_session=True,
    )
    deadline = time.monotonic() + limits.wall_s
    try:
        said, log = _talk(process, json.dumps(message).encode(), limits, deadline)
        code = process.wait(max(deadline - time.monotonic(), 1))
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"Reading the file took more than {limits.wall_s:g} s and was ended.",
            expected=f"at most {limits.wall_s:g} s",
        ) from error
    finally:
        _end(process)
    return _read_answer(said, log, code, limits)


def _installation() -> list[Path | str]:
    """Returns the directories that Python imports from, bmp's own package among them, and files of the machine."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sysconfig.get_path("purelib"), *bmp.__path__}
    return [*sorted(prefixes), *_MACHINE_FILES]


def _make_environment(place: Path) -> dict[str, str]:
    """Returns the few variables that the child gets: nothing of the user's own."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return kept | {
        "PATH": os.defpath,
        "HOME": str(place),
        "TMPDIR": str(place),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(bmp.__file__).parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "KERAS_BACKEND": "tensorflow",
    }


def _talk(
    process: "subprocess.Popen[bytes]", message: bytes, limits: Confinement, deadline: float
) -> tuple[bytes, bytes]:
    """Sends the request and returns the answer and the end of what was logged.

    Raises:
        ArtifactError: The answer is too long.
        TimeoutExpired: Time is over.
    """
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    said, log, unsent = bytearray(), bytearray(), memoryview(message)
    with selectors.DefaultSelector() as selector:
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE)
        selector.register(process.stdout, selectors.EVENT_READ, said)
        selector.register(process.stderr, selectors.EVENT_READ, log)
        while selector.get_map():
            for key, _ in selector.select(max(deadline - time.monotonic(), 0)):
                if key.fileobj is process.stdin:
                    unsent = _send(process, unsent)
                    done = not unsent
                else:
                    chunk = os.read(key.fd, _CHUNK_BYTES)
                    key.data.extend(chunk)
                    done = not chunk
                if done:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()  # type: ignore[union-attr]
            del log[:-_LOG_BYTES]
            if len(said) > limits.answer_bytes:
                raise ArtifactError("The file makes its reader say more than any model has to say; it is not read.")
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, limits.wall_s)
    return bytes(said), bytes(log)


def _send(process: "subprocess.Popen[bytes]", unsent: memoryview) -> memoryview:
    assert process.stdin is not None
    try:
        return unsent[os.write(process.stdin.fileno(), unsent[:_CHUNK_BYTES]) :]
    except BrokenPipeError:  # it ended before it had listened; its exit code tells why
        return unsent[len(unsent) :]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the child and whatever it started, if anything is left."""
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _read_answer(said: bytes, log: bytes, code: int, limits: Confinement) -> dict[str, Any]:
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        answer = None  # the exit code says more
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        raise _to_error(answer["error"])
    if isinstance(answer, dict) and isinstance(answer.get("done"), dict) and code == 0:
        return dict(answer["done"])
    raise ArtifactError(_say_end(code, log, limits), received=f"exit code {code}")


def _to_error(said: dict[str, Any]) -> BmpError:
    known = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BmpError)]
    kind = next((kind for kind in known if kind.code == said.get("code")), ArtifactError)
    expected, received = (None if said.get(key) is None else clean(str(said[key])) for key in ("expected", "received"))
    return kind(clean(str(said.get("message"))), expected=expected, received=received)


def clean(text: str) -> str:
    """Returns text that may be printed: what is in a file may hold control sequences of a terminal."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= _MESSAGE_LENGTH else f"{shown[:_MESSAGE_LENGTH]}…"


def _say_end(code: int, log: bytes, limits: Confinement) -> str:
    if code == -signal.SIGXCPU:
        return f"Reading the file took more than {limits.cpu_s} s of processor time and was ended."
    lines = clean(log.decode(errors="replace").strip().rpartition("\n")[2])
    if code < 0:
        return (
            f"The file ended its reader by signal {signal.Signals(-code).name}: it is damaged, or needs more than "
            f"{limits.memory_bytes / 2**30:.3g} GiB of memory. {lines}"
        ).strip()
    return f"The reader of the file gave no answer (exit code {code}). {lines}".strip()
