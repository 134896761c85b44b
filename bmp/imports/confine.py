"""Confinement: what a child gives up before it looks at a file that somebody else wrote. The standard library alone."""

import ctypes
import errno
import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass

from bmp.imports.landlock import landlock_version, restrict_paths
from bmp.imports.seccomp import has_seccomp, refuse_calls

_NO_NEW_PRIVILEGES = 38
_CAPABILITIES_VERSION = 0x20080522
_PASSES_FILE_MODES = 1 << 1  # CAP_DAC_OVERRIDE


@dataclass(frozen=True)
class Confinement:
    """How much a child may take.

    Args:
        memory_bytes: Of address space.
        cpu_s: Of processor time, all threads together.
        wall_s: Until it is killed, however little it does.
        file_bytes: Of any one file that it writes.
        open_files: At the same time.
        answer_bytes: Of what it says at the end.
    """

    memory_bytes: int = 8 * 2**30
    cpu_s: int = 900
    wall_s: float = 900.0
    file_bytes: int = 8 * 2**30
    open_files: int = 256
    answer_bytes: int = 4 * 2**20


@dataclass(frozen=True)
class Walls:
    """What the kernel of this machine can keep a process from.

    Args:
        files: Whether by Landlock from files.
        calls: Whether by seccomp from system calls: sockets, new processes, signals.
    """

    files: bool
    calls: bool

    @property
    def are_whole(self) -> bool:
        """Whether there are both."""
        return self.files and self.calls


def find_walls() -> Walls:
    """Returns what this kernel offers; nothing is given up by asking."""
    if os.uname().sysname != "Linux":
        return Walls(False, False)
    return Walls(landlock_version() > 0, has_seccomp())


def confine(limits: Confinement, walls: Walls, readable: Sequence[str], writable: Sequence[str]) -> None:
    """Gives up, for good: memory and time over the limits, privileges, other files, the network, new processes.

    Args:
        limits: On memory, processor time and files.
        walls: Which of them to raise; none is left out quietly.
        readable: Files and directories that stay readable.
        writable: Directories that stay writable.

    Raises:
        OSError: The kernel refuses one of them, or a second thread is running, which would keep everything.
    """
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ):
        held = resource.getrlimit(kind)[1]
        most = most if held == resource.RLIM_INFINITY else min(most, held)
        # Of processor time the first says so by a signal; a process that does not listen is killed a second later.
        resource.setrlimit(kind, (most, most + (kind == resource.RLIMIT_CPU and held != most)))
    if os.uname().sysname != "Linux":
        return
    if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208 - no pathlib before the walls stand
        raise OSError(errno.EBUSY, "a second thread is running already, which would not be confined")
    if ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(errno.EPERM, "no_new_privs is refused")
    if walls.files:
        restrict_paths(readable, writable)
    _drop_capabilities()
    if walls.calls:
        refuse_calls()


def _drop_capabilities() -> None:
    """Leaves root's process nothing but the right to open files whatever their mode says: Landlock says which."""
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then the same of the upper 32
    if library.capget(header, held):
        raise OSError(ctypes.get_errno(), "capabilities cannot be read")
    keeps = held[1] & _PASSES_FILE_MODES
    wanted = (ctypes.c_uint32 * 6)(keeps, keeps, 0, 0, 0, 0)
    if library.capset(header, wanted):
        raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
