"""All runs below a directory, and one of them by name."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bmp.errors import BmpError, ConfigError, UnknownNameError, suggest
from bmp.runs.directory import RunDirectory
from bmp.runs.status import Status, find_state

_MAX_NAMED = 6


@dataclass(frozen=True)
class ListedRun:
    """A directory below the root of all runs."""

    directory: RunDirectory
    status: Status | None
    """None where it cannot be read."""
    problem: str | None = None
    """Why it cannot."""

    @property
    def name(self) -> str:
        """Of the directory."""
        return self.directory.path.name

    @property
    def state(self) -> str:
        """`running`, `finished`, `stopped`, `failed`, `died` or `unreadable`."""
        return find_state(self.status) if self.status else "unreadable"

    @property
    def started(self) -> datetime:
        """When the run began; of one that cannot be read, when its directory last changed."""
        if self.status:
            return self.status.started
        return datetime.fromtimestamp(self.directory.path.stat().st_mtime, UTC)


def list_runs(root: str | Path) -> list[ListedRun]:
    """Returns every run below a directory, the oldest first; one that cannot be read with the reason.

    Raises:
        ConfigError: There is no such directory.
    """
    root = Path(root)
    if not root.is_dir():
        raise ConfigError(
            f"There is no directory '{root}' of runs. Start a run with 'bmp run', or name another with --root.",
            expected="a directory",
            received=str(root),
        )
    found = [path for path in root.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."]
    return sorted(map(_look_at, found), key=lambda run: (run.started, run.name))


def find_run(text: str, root: str | Path) -> ListedRun:
    """Finds a run by the path of its directory, by its name below the root, or by the beginning of that name.

    Raises:
        UnknownNameError: There is none.
        ConfigError: There are several, or there is no root.
    """
    if RunDirectory(text).exists():
        return _look_at(Path(text))
    known = [run.name for run in list_runs(root)]
    matches = [text] if text in known else [name for name in known if text and name.startswith(text)]
    if len(matches) > 1:
        raise ConfigError(
            f"'{text}' may be any of {', '.join(matches)}; write more of the name.",
            expected="the beginning of one name",
            received=text,
        )
    if not matches:
        last = ", ".join(known[-_MAX_NAMED:]) or "none"
        more = f" and {len(known) - _MAX_NAMED} older" if len(known) > _MAX_NAMED else ""
        raise UnknownNameError(
            f"'{text}' is neither the directory of a run nor the name of one below '{root}', which holds {last}{more}."
            f"{suggest(Path(text).name, known)}",
            expected="a run",
            received=text,
        )
    return _look_at(Path(root) / matches[0])


def _look_at(path: Path) -> ListedRun:
    directory = RunDirectory(path)
    try:
        return ListedRun(directory, directory.read_status())
    except BmpError as error:
        return ListedRun(directory, None, error.message)
