"""Where the processes of one server put what they count, so that each can answer for all of them.

`prometheus_client` decides when it is imported whether it counts into files: the directory has to be named before.
"""

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_PREFIX = "bmp-metrics-"
_MEMORY = Path("/dev/shm")  # counting then never waits for a disk
_MIN_FREE_BYTES = 64 * 2**20  # a process that cannot write to a mapped file is killed: only where there is plenty


def open_directory() -> None:
    """Names a directory for the processes that are started from here on: a new one, or the operator's, emptied.

    One that a server has left to the server that replaces it stays as it is: its counts go on.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        os.environ[VARIABLE] = _make_directory(_find_place())
    elif _is_ours(named):
        _hold(named)
    else:
        check_directory()
        for file in Path(named).glob("*.db"):
            file.unlink()


def check_directory() -> None:
    """Makes the directory that an operator has named, where there is none; servers other than ours just use it."""
    named = os.environ.get(VARIABLE)
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)


def forget_process(pid: int) -> None:
    """Drops what only counts as long as a process lives; what it has counted stays."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(pid)


def close_directory() -> None:
    """Removes the directory, unless it is the operator's."""
    named = os.environ.get(VARIABLE)
    if named and _is_ours(named):
        shutil.rmtree(named, ignore_errors=True)


def find_processes() -> list[int]:
    """Returns the processes of this server that live, with gunicorn's arbiter; this one alone where it counts alone."""
    named = os.environ.get(VARIABLE)
    if not named:
        return [os.getpid()]
    pids = {int(file.stem.rpartition("_")[2]) for file in Path(named).glob("gauge_live*.db")} | {os.getpid()}
    if os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"):  # gunicorn says so to its workers
        pids.add(os.getppid())
    return sorted(pids)


def _is_ours(directory: str) -> bool:
    return Path(directory).name.startswith(_PREFIX)


def _find_place() -> Path:
    if os.access(_MEMORY, os.W_OK):
        space = os.statvfs(_MEMORY)
        if space.f_bavail * space.f_frsize > _MIN_FREE_BYTES:
            return _MEMORY
    return Path(tempfile.gettempdir())


def _make_directory(place: Path) -> str:
    """Returns a new directory, and removes those of servers that were killed."""
    for left in place.glob(f"{_PREFIX}*"):
        _remove_if_left(left)
    hidden = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=place))
    _hold(hidden)  # before its name can be found
    return str(hidden.rename(place / hidden.name.removeprefix(".")))


def _hold(directory: str | Path) -> None:
    """Marks a directory as in use, for as long as this process or one that it starts lives."""
    fcntl.flock(os.open(directory, os.O_RDONLY), fcntl.LOCK_SH)


def _remove_if_left(directory: Path) -> None:
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError:  # another user's, or gone by now
        return
    with suppress(BlockingIOError):  # its server lives
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)
    os.close(handle)
