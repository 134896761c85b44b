"""Who uses a directory: a lock on the directory itself, which a crash frees as well as a release does.

A server holds a lease on each version that it serves, a publisher on what it is staging; only what nobody holds is
removed. The locks are those of `flock(2)`: they bind the processes of one machine, or of all machines on file systems
that say so.
"""

import fcntl
import os
from pathlib import Path
from types import TracebackType


class Lease:
    """Holds a directory until it is released, or the process ends.

    Args:
        path: Of the directory.
        alone: Whether nobody else may hold it: for removing it.

    Raises:
        BlockingIOError: Somebody holds it alone, or at all where `alone` is asked for.
        OSError: There is no such directory.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self.path = path
        self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(self._descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Lets go; a second time does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_abandoned(path: Path) -> bool:
    """Tells whether a directory is there and nobody holds it."""
    try:
        Lease(path, alone=True).release()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True
