"""What clients want loaded, where BMP_MODEL_CONTROL leaves that to them: agreed on by all processes of a server."""

import fcntl
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bmp.errors import BmpError, RegistryError

Names = frozenset[str]
VARIABLE = "BMP_CONTROL_FILE"
_PREFIX = "bmp-control-"


class ControlError(BmpError):
    """Loading and unloading is not for clients to decide."""

    code = "forbidden"


class Control:
    """The names of the models that are to be loaded.

    Each process follows them as it follows the registry. They last as long as the server does.

    Args:
        names: Loaded at the start.
        file: Holds the names, for all processes of a server; None where there is one process.
    """

    def __init__(self, names: Iterable[str] = (), file: Path | None = None) -> None:
        self._names = frozenset(names)
        self._file = file
        self._lock = threading.Lock()

    def names(self) -> Names:
        """Returns what is to be loaded now.

        Raises:
            RegistryError: The file cannot be read.
        """
        return self._change(None)

    def add(self, name: str) -> None:
        """Has a model loaded."""
        self._change(lambda names: names | {name})

    def remove(self, name: str) -> None:
        """Has a model unloaded."""
        self._change(lambda names: names - {name})

    def _change(self, change: Callable[[Names], Names] | None) -> Names:
        with self._lock:
            if self._file is None:
                self._names = self._names if change is None else change(self._names)
                return self._names
            try:
                with _open_locked(self._file, alone=change is not None) as descriptor:
                    return _change_file(descriptor, self._names, change)
            except (OSError, ValueError) as error:
                raise RegistryError(f"What is to be loaded cannot be read from {self._file}: {error}.") from error


def open_file() -> None:
    """Names a file for the processes that are started from here on, unless there is one."""
    if not os.environ.get(VARIABLE):
        descriptor, os.environ[VARIABLE] = tempfile.mkstemp(prefix=_PREFIX)
        os.close(descriptor)


def close_file() -> None:
    """Removes the file, unless it is the operator's."""
    file = Path(os.environ.get(VARIABLE, ""))
    if file.name.startswith(_PREFIX):
        file.unlink(missing_ok=True)


@contextmanager
def _open_locked(path: Path, *, alone: bool) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


def _change_file(descriptor: int, first: Names, change: Callable[[Names], Names] | None) -> Names:
    """Changes the names in a file, if at all, and returns them; an empty file stands for the first ones."""
    text = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    names = frozenset(json.loads(text)) if text else first
    if change is None:
        return names
    names = change(names)
    data = json.dumps(sorted(names)).encode()
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))
    return names
