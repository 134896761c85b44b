"""Removing versions that nobody needs: no alias names them, nobody holds them, newer ones are there."""

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bmp.registry.directory import ModelDirectory
from bmp.registry.lease import Lease
from bmp.registry.version import Version


@dataclass(frozen=True)
class Removed:
    """A version that is gone.

    Args:
        name: Of the model.
        number: Of the version.
        size_bytes: Of all its files.
    """

    name: str
    number: int
    size_bytes: int


@dataclass(frozen=True)
class Collected:
    """What a collection came to.

    Args:
        removed: Versions that are gone.
        in_use: Versions that would be, if nobody held them: a server, for example.
    """

    removed: tuple[Removed, ...] = ()
    in_use: tuple[Version, ...] = ()

    @property
    def freed_bytes(self) -> int:
        """How much is free again."""
        return sum(version.size_bytes for version in self.removed)

    @classmethod
    def join(cls, parts: Iterable["Collected"]) -> "Collected":
        """Returns several as one."""
        every = list(parts)
        return cls(
            tuple(version for part in every for version in part.removed),
            tuple(version for part in every for version in part.in_use),
        )


def collect(directory: ModelDirectory, keep: int) -> Collected:
    """Removes the versions of a model but the newest, those that an alias names, and those that somebody holds.

    Args:
        directory: Of the model.
        keep: How many of the newest stay, at least 1.

    Raises:
        RegistryError: Something cannot be removed; what is retired by then stays retired.
    """
    rest = f"What was retired stays so; 'bmp models repair {directory.name}' removes what is left of it."
    with directory.writing(rest), ExitStack() as held:  # the files go after the lock: that may take long
        return _retire_old(directory, keep, held)


def _retire_old(directory: ModelDirectory, keep: int, held: ExitStack) -> Collected:
    """Retires what shall go; their files go, and the leases on them end, with the stack."""
    removed, in_use = [], []
    with directory.lock():
        directory.sweep()
        state, versions = directory.read_versions()
        for number in versions[:-keep]:
            version = directory.version(number, state)
            if number in state.aliases.values():
                continue
            try:
                held.enter_context(Lease(version.path, alone=True))
            except BlockingIOError:
                in_use.append(version)
                continue
            size_bytes = _measure(version.path)
            directory.commit(state, "retire", version=number, freed_bytes=size_bytes)
            held.callback(shutil.rmtree, set_aside(directory, number))
            removed.append(Removed(directory.name, number, size_bytes))
    return Collected(tuple(removed), tuple(in_use))


def set_aside(directory: ModelDirectory, number: int) -> Path:
    """Renames the directory of a version that is none any more, so that nobody takes it for one."""
    directory.signature_file(number).unlink(missing_ok=True)
    return (directory.path / str(number)).rename(directory.new_staging())


def _measure(path: Path) -> int:
    """Returns the bytes of all files below a directory."""
    return sum(entry.lstat().st_size for entry in path.rglob("*") if not entry.is_dir())
