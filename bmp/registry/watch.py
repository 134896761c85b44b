"""Watching a registry: each event of each model, soon after its line is on the disk; from any process."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bmp.errors import RegistryError
from bmp.names import is_name
from bmp.registry.events import Event, read_event
from bmp.registry.journal import Position, read_events

Stamp = tuple[int, int, int]
"""Inode, bytes and time of change of a file."""


class Watcher:
    """Tells what has happened since it was last asked, first since it was made.

    When nothing happens it costs one look at the root and one at each journal. A journal that cannot be read holds up
    no other.

    Args:
        root: Of the registry; it need not exist yet.

    Example:
        >>> watcher = Watcher(Path("registry"))
        >>> registry.set_alias("digits", "production", 3)
        >>> [event.event for event in watcher.poll()]
        ['alias']
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.failures: dict[str, RegistryError] = {}
        """By model: why its journal cannot be read at present."""
        self._stamps: dict[str, Stamp] = {}
        self._positions: dict[str, Position] = {}
        self.poll()

    def poll(self) -> list[Event]:
        """Returns what has happened, model by model, oldest first; waits for nothing."""
        events = []
        for name, stamp in look(self.root):
            if self._stamps.get(name) != stamp:
                events += self._read(name, size_bytes=stamp[1])
                self._stamps[name] = stamp
        return events

    def watch(self, poll_s: float) -> Iterator[Event]:
        """Yields events as they come, and waits for the next for ever."""
        while True:
            yield from self.poll()
            time.sleep(poll_s)

    def _read(self, name: str, size_bytes: int) -> list[Event]:
        try:
            records, self._positions[name] = self._read_on(name, size_bytes)
            events = [read_event(name, record) for record in records]
        except RegistryError as error:
            self.failures[name] = error
            return []
        self.failures.pop(name, None)
        return events

    def _read_on(self, name: str, size_bytes: int) -> tuple[list[dict[str, Any]], Position]:
        """Returns the new records; reads all of a journal that does not go on from where it was.

        That is so after a write that failed was taken back, or when the registry came out of a backup.
        """
        path, last = self.root / name / "journal.jsonl", self._positions.get(name, Position())
        if size_bytes >= last.offset:
            with suppress(RegistryError):  # whoever altered it is found by reading all of it
                return read_events(path, last)
        records, position = read_events(path)
        known = last.sequence
        if 0 < known <= len(records) and records[known - 1]["sha256"] != last.sha256:
            known -= 1
        return records[known:], position


def look(root: Path) -> Iterator[tuple[str, Stamp]]:
    """Yields name and stamp of each journal of a registry; none of a registry that is not there at present."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if is_name(entry.name) and not entry.is_symlink())
    except OSError:
        return
    for name in names:
        try:
            found = os.lstat(f"{root}/{name}/journal.jsonl")  # a Path costs more than the look
        except OSError:
            continue
        yield name, (found.st_ino, found.st_size, found.st_mtime_ns)
