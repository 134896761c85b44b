"""A real server with two workers, and what is looked at while it is tried: its processes, its memory, its log."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.conftest import Server, find_free_port, run_server
from tests.soak.place import PROJECT, quiet_environ
from tests.soak.tally import wait_until

WORKERS = 2
_PUBLISH = """
import sys
from pathlib import Path
from door_models import publish_door_models
from raw_models import publish_models
publish_door_models(Path(sys.argv[1]))
publish_models(Path(sys.argv[1]), ["photos", "clips", "letters", "adverts"])
"""


@dataclass(frozen=True)
class Tried:
    """A server that is tried.

    Args:
        server: It.
        grpc_port: Of its gRPC doors.
        workers: Their process ids at the start.
    """

    server: Server
    grpc_port: int
    workers: tuple[int, ...]

    @property
    def address(self) -> tuple[str, int]:
        """Of HTTP."""
        host, _, port = self.server.url.removeprefix("http://").partition(":")
        return host, int(port)

    def memory_bytes(self) -> int:
        """Returns what all its processes take; what they share is counted once."""
        root = psutil.Process(self.server.process.pid)
        return sum(process.memory_full_info().pss for process in (root, *root.children(recursive=True)))

    def find_trouble(self) -> str:
        """Returns what is wrong with the processes or in the log, in words."""
        if self.server.process.poll() is not None:
            return f"the server ended with {self.server.process.returncode}"
        workers = list_workers(self.server)
        if workers != self.workers:
            return f"the workers were {self.workers} and are {workers}: one went down"
        lines = self.server.log.read_text(errors="replace").splitlines()
        bugs = [line for line in lines if "Traceback" in line or "CRITICAL" in line]
        return f"{len(bugs)} times the log has a traceback: {self.server.log}" if bugs else ""


def list_workers(server: Server) -> tuple[int, ...]:
    return tuple(sorted(child.pid for child in psutil.Process(server.process.pid).children()))


@contextmanager
def tried(registry: Path, log: Path, *options: str, **settings: str) -> Iterator[Tried]:
    """Runs a server of this registry.

    Args:
        registry: What it serves.
        log: Where it writes to.
        options: Of `bmp serve`.
        settings: Variables `BMP_*`.
    """
    grpc_port = find_free_port()
    arguments = ["--workers", str(WORKERS), "--grpc-port", str(grpc_port), *options]
    with run_server(registry, log, *arguments, environ=settings) as server:
        wait_until(lambda: len(list_workers(server)) == WORKERS, within_s=20)
        yield Tried(server, grpc_port, list_workers(server))


def publish_models(root: Path) -> Path:
    """Publishes the models of the tests of the doors, and one of each raw kind; returns the registry.

    A process of its own does it, which takes TensorFlow along when it ends.
    """
    environ = quiet_environ() | {"PYTHONPATH": os.pathsep.join((str(PROJECT / "tests" / "serving"), str(PROJECT)))}
    subprocess.run([sys.executable, "-c", _PUBLISH, str(root)], env=environ, check=True, stderr=subprocess.DEVNULL)
    return root / "registry"
