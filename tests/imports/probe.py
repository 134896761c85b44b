"""What the child of a test tries: run inside the sandbox as `tests.imports.probe:FUNCTION`."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bmp.errors import UnknownNameError


def attempt(request: dict[str, Any]) -> dict[str, Any]:
    """Tries one thing, and says what came of it."""
    try:
        return {"did": str(ATTEMPTS[request["what"]](request.get("path", "")))}
    except OSError as error:
        return {"refused": type(error).__name__}


def fork(path: str) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def connect(path: str) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(path)))


def start_thread(path: str) -> str:
    done = threading.Event()
    threading.Thread(target=done.set).start()
    return "ran" if done.wait(10) else "hung"


def abort(path: str) -> None:
    os.abort()


def spin(path: str) -> None:
    while True:
        pass


def sleep(path: str) -> None:
    threading.Event().wait()


def flood(path: str) -> None:
    answers = max(int(link.name) for link in Path("/proc/self/fd").iterdir() if is_pipe(link))  # behind the first three
    while True:
        os.write(answers, b"x" * 65536)


def is_pipe(link: Path) -> bool:
    try:
        return str(link.readlink()).startswith("pipe:")
    except FileNotFoundError:  # the one that lists them
        return False


def leave(path: str) -> None:
    os._exit(7)


def fill(path: str) -> None:
    with Path(path).open("wb") as file:
        while True:
            file.write(b"x" * 65536)


def fail(path: str) -> None:
    raise UnknownNameError("No thing is named 'x'.", expected="y", received="x")


def fail_loudly(path: str) -> None:
    raise ValueError("\x1b]0;title\x07 \x1b[2J")


ATTEMPTS: dict[str, Callable[[str], Any]] = {
    "read": lambda path: Path(path).read_text(),
    "list": os.listdir,
    "write": lambda path: Path(path).write_text("x"),
    "remove": os.unlink,
    "make directory": os.mkdir,
    "link": lambda path: os.link(path, "here"),
    "chmod": lambda path: Path(path).chmod(0o777),
    "touch": os.utime,
    "connect": connect,
    "unix socket": lambda path: socket.socket(socket.AF_UNIX),
    "udp": lambda path: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "fork": fork,
    "start a program": lambda path: subprocess.run(["/usr/bin/true"]).returncode,
    "signal the parent": lambda path: os.kill(os.getppid(), signal.SIGCONT),
    "read the parent": lambda path: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "start a thread": start_thread,
    "environment": lambda path: sorted(os.environ),
    "allocate": lambda path: len(bytearray(int(path))),
    "abort": abort,
    "spin": spin,
    "sleep": sleep,
    "flood": flood,
    "exit": leave,
    "fill": fill,
    "raise": fail,
    "raise control characters": fail_loudly,
}
