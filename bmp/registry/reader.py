"""Reading a registry: models, versions, aliases, history. Readers never lock, and need no right to write."""

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bmp.errors import ConfigError, NotFoundError, RegistryError, suggest
from bmp.names import is_name
from bmp.registry.aliases import find_number
from bmp.registry.directory import ModelDirectory, is_number
from bmp.registry.events import Event, Metadata, Moved, State, read_event
from bmp.registry.journal import read_journal
from bmp.registry.lease import Lease
from bmp.registry.lineage import Node, build_lineage
from bmp.registry.summary import Summary, summarise
from bmp.registry.version import Version
from bmp.registry.watch import Watcher

PRODUCTION = "production"


class RegistryReader:
    """What can be asked of a registry; `Registry` adds what changes it.

    Args:
        root: Its directory, which need not exist yet.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def models(self) -> list[str]:
        """Returns the names of all models that have a version.

        Raises:
            RegistryError: The registry cannot be read.
        """
        return [name for name in self._names() if self._has_version(name)]

    def versions(self, name: str) -> list[int]:
        """Returns the version numbers of a model, ascending; empty when there is no such model.

        Raises:
            RegistryError: The journal has been altered.
        """
        return self._open(name).read_versions()[1]

    def aliases(self, name: str) -> dict[str, int]:
        """Returns alias to version number, as the journal has it.

        Raises:
            RegistryError: The journal has been altered.
        """
        return self._open(name).read_state().aliases

    def get(self, name: str, number: int) -> Version:
        """Returns a version by number.

        Raises:
            NotFoundError: There is no such model or version.
            RegistryError: The journal has been altered.
        """
        return self._pick(number, *self._read(name))

    def resolve(self, name: str, reference: int | str | None = None) -> Version:
        """Returns the version that a number, an alias or nothing stands for.

        Args:
            name: Of the model.
            reference: A version number (digits in a string will do), an alias, or None for `production` where
                that alias is set and the newest version where it is not.

        Raises:
            NotFoundError: There is no such model, version or alias.
            RegistryError: The journal has been altered.
        """
        state, versions = self._read(name)
        if reference is None:
            return self._pick(state.aliases.get(PRODUCTION, versions[-1]), state, versions)
        if isinstance(reference, int) or is_number(reference):
            return self._pick(int(reference), state, versions)
        return self._pick(find_number(state, reference), state, versions)

    def lease(self, version: Version) -> Lease:
        """Holds a version, so that it is not removed before the lease is released or the process ends.

        Raises:
            NotFoundError: It is gone, or is just being removed.
        """
        try:
            lease = Lease(version.path)
        except (FileNotFoundError, BlockingIOError) as error:
            raise NotFoundError(f"Version {version.number} of model '{version.name}' has been removed.") from error
        try:
            self.get(version.name, version.number)  # it may have been retired before the lease was taken
        except BaseException:
            lease.release()
            raise
        return lease

    def journal(self, name: str) -> list[dict[str, object]]:
        """Returns what happened to a model, oldest first, as it is written.

        Raises:
            RegistryError: The journal has been altered.
        """
        return read_journal(self._open(name).journal_file)

    def history(self, name: str) -> list[Event]:
        """Returns what happened to a model, oldest first.

        Raises:
            NotFoundError: There is no such model.
            RegistryError: The journal has been altered.
        """
        records = self.journal(name) if is_name(name) else []
        if not records:
            raise self._explain_missing(name)
        return [read_event(name, record) for record in records]

    def at(self, name: str, time: datetime, alias: str = PRODUCTION) -> int | None:
        """Returns the version that an alias named at a time; None where it named none.

        Raises:
            ConfigError: The time has no zone.
            NotFoundError: There is no such model.
            RegistryError: The journal has been altered.
        """
        if time.tzinfo is None:
            raise ConfigError(f"The time {time} has no zone; expected one such as {time.isoformat()}+00:00.")
        moves = (event for event in self.history(name) if isinstance(event, Moved) and event.alias == alias)
        return next((event.version for event in reversed([*moves]) if event.time <= time), None)

    def metadata(self, name: str, number: int) -> Metadata:
        """Returns the description and the tags of a version.

        Raises:
            NotFoundError: There is no such model or version.
        """
        state, versions = self._read(name)
        self._pick(number, state, versions)
        return state.metadata.get(number, Metadata())

    def signature_file(self, name: str, number: int) -> Path:
        """Returns where the signatures of a version are, if there are any."""
        return self._open(name).signature_file(number)

    def summaries(self, name: str | None = None) -> Iterator[Summary]:
        """Yields what a list tells of each version of a model, or of all models, one model in memory at a time.

        Raises:
            RegistryError: A journal has been altered.
        """
        for each in self._names() if name is None else [name]:
            directory = self._open(each)
            yield from summarise(directory, *directory.read_versions())

    def lineage(self, name: str) -> list[Node]:
        """Returns the versions of a model, removed ones too, as trees of what was made from what.

        Raises:
            NotFoundError: There is no such model.
        """
        directory = self._open_any(name)
        return build_lineage(directory, directory.read_state())

    def watch(self, poll_s: float = 0.25) -> Iterator[Event]:
        """Yields every event from now on, of all models, also of those to come; waits for the next for ever.

        Args:
            poll_s: How often to look.
        """
        return Watcher(self.root).watch(poll_s)

    # === Finding ===

    def _names(self, *, links: bool = False) -> list[str]:
        """Returns the names of everything that may be a model, or of the symbolic links that look like one."""
        try:
            with os.scandir(self.root) as entries:
                found = [entry.name for entry in entries if is_name(entry.name) and _is_kind(entry, links)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RegistryError(f"The registry {self.root} cannot be read: {error.strerror}.") from error
        return sorted(found)

    def _has_version(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except RegistryError:
            return True  # whoever opens it is told why it cannot be read

    def _open(self, name: str) -> ModelDirectory:
        return ModelDirectory(self.root, name)

    def _open_any(self, name: str) -> ModelDirectory:
        """Returns a model that has a directory, whatever is in it."""
        directory = self._open(name) if is_name(name) else None
        if directory is None or not directory.path.is_dir():
            raise self._explain_missing(name)
        return directory

    def _read(self, name: str) -> tuple[State, list[int]]:
        """Returns what a model is, and its versions, of which there is one at least."""
        state, versions = self._open(name).read_versions() if is_name(name) else (None, [])
        if state is None or not versions:
            raise self._explain_missing(name)
        return state, versions

    def _pick(self, number: int, state: State, versions: list[int]) -> Version:
        if number not in versions:
            known = ", ".join(str(version) for version in versions)
            raise NotFoundError(
                f"Model '{state.name}' has no version {number}; it has {known}.", expected=known, received=str(number)
            )
        return self._open(state.name).version(number, state)

    def _explain_missing(self, name: str) -> NotFoundError:
        models = self.models()
        known = ", ".join(models) or "none"
        return NotFoundError(
            f"No model is named '{name[:80]}'. Published: {known}.{suggest(name[:80], models)}",
            expected=known,
            received=name[:80],
        )


def _is_kind(entry: "os.DirEntry[str]", links: bool) -> bool:
    return entry.is_symlink() if links else entry.is_dir(follow_symlinks=False)
