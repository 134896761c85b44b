"""The directory of one model: where its parts are, how they are read without a lock and written under one.

<name>/<number>/             a version, exactly as its manifest says
<name>/journal.jsonl         what happened, in order: the truth
<name>/aliases.json          {"production": 3}: what the journal says, for people and programs that look on
<name>/.signatures/<N>.json  who vouches for a version
<name>/.staging-…            a version on its way in or out; TensorFlow Serving passes it over
<name>/.lock                 held by whoever writes
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bmp.errors import RegistryError
from bmp.names import check_model_name
from bmp.registry.events import State, read_event
from bmp.registry.journal import append_event, follow, read_events
from bmp.registry.lease import Lease, is_abandoned
from bmp.registry.version import Version
from bmp.storage import make_directory, write_atomically

_STAGING = ".staging-"
_LEFT_BY_WRITES = ".aliases.json-"


class ModelDirectory:
    """One model of a registry, which need not exist yet.

    Args:
        root: Of the registry.
        name: Of the model.

    Raises:
        ConfigError: The name is none.
        RegistryError: The directory is a symbolic link, which could lead anywhere.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.name = check_model_name(name)
        self.path = root / name
        self.journal_file = self.path / "journal.jsonl"
        self.aliases_file = self.path / "aliases.json"
        if self.path.is_symlink():
            raise RegistryError(say_link(self.path))

    def read_state(self) -> State:
        """Returns what the journal says.

        Raises:
            RegistryError: The journal has been altered, or cannot be read.
        """
        state = State(self.name)
        records, state.position = read_events(self.journal_file)
        for record in records:
            state.apply(read_event(self.name, record))
        return state

    def read_versions(self) -> tuple[State, list[int]]:
        """Returns what the journal says, and which of the versions that it knows are there, ascending.

        Raises:
            RegistryError: The journal has been altered, or cannot be read.
        """
        state, numbers = self.read_state(), self.list_numbers()
        if not set(state.live) <= set(numbers):  # one went in the meantime: the journal says so by now
            state, numbers = self.read_state(), self.list_numbers()
        return state, [number for number in numbers if number in state.published and number not in state.retired]

    def list_numbers(self) -> list[int]:
        """Returns the numbers that have a directory, ascending, whether or not the journal knows them."""
        return sorted(int(entry.name) for entry in self.list_entries() if is_number(entry.name) and _is_real(entry))

    def list_entries(self) -> list["os.DirEntry[str]"]:
        """Returns everything in the directory, in no order; nothing where there is no directory.

        Raises:
            RegistryError: It cannot be read.
        """
        try:
            with os.scandir(self.path) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RegistryError(f"{self.path} cannot be read: {error.strerror}.") from error

    def next_number(self, state: State) -> int:
        """Returns a number that was never given before, also not to a version that is gone."""
        taken = [int(entry.name) for entry in self.list_entries() if is_number(entry.name)]
        return 1 + max([0, *taken, *state.published])

    def version(self, number: int, state: State) -> Version:
        """Returns a version that the journal knows."""
        return Version(self.name, number, self.path / str(number), state.published[number].manifest_sha256)

    def signature_file(self, number: int) -> Path:
        """Returns where the signatures of a version are."""
        return self.path / ".signatures" / f"{number}.json"

    # === Writing ===

    @contextmanager
    def writing(self, outcome: str) -> Iterator[None]:
        """Turns an error of the system into one that tells where it happened, and what state that leaves.

        Args:
            outcome: A sentence: what has been done all the same.

        Raises:
            RegistryError: The system said no.
        """
        try:
            yield
        except OSError as error:
            raise RegistryError(f"Model '{self.name}' cannot be changed: {error}. {outcome}") from error

    @contextmanager
    def lock(self, *, shared: bool = False) -> Iterator[None]:
        """Holds the model's lock.

        Args:
            shared: For readers that must see everything at one moment: needs no right to write. Whoever only
                resolves a version needs no lock at all.
        """
        flags = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
        try:
            descriptor = os.open(self.path / ".lock", flags | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:
            if not shared:
                raise
            yield  # nobody has written here yet
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # releases it, as a crash does

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Makes a directory beside the versions, which is no version; it goes at the end, unless it was renamed."""
        make_directory(self.path)
        path = self.new_staging()
        with self.lock():
            self.sweep()
            path.mkdir()
            lease = Lease(path)  # under the lock: who sweeps takes no new directory for one that was left
        with lease:
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    def new_staging(self) -> Path:
        """Returns a name for a directory that is on its way in or out."""
        return self.path / f"{_STAGING}{secrets.token_hex(8)}"

    def list_leftovers(self) -> list[Path]:
        """Returns what a crash left behind. The caller holds the lock, shared or not."""
        entries = self.list_entries()
        directories = [Path(entry.path) for entry in entries if entry.name.startswith(_STAGING) and _is_real(entry)]
        files = [Path(entry.path) for entry in entries if entry.name.startswith(_LEFT_BY_WRITES)]
        return sorted(files + [path for path in directories if is_abandoned(path)])

    def sweep(self) -> None:
        """Removes what a crash left behind. The caller holds the lock."""
        for path in self.list_leftovers():
            if path.name.startswith(_STAGING):
                shutil.rmtree(path, ignore_errors=True)  # what cannot go must not keep others from publishing
            else:
                path.unlink(missing_ok=True)

    def commit(self, state: State, event: str, **details: Any) -> None:
        """Writes an event down, which makes it true, and goes on to it. The caller holds the lock.

        Args:
            state: As read under this lock.
            event: Its kind.
            details: Of it.
        """
        record = append_event(self.journal_file, event, after=state.position, **details)
        state.position = follow(state.position, record)  # not read back: what is written down must not fail any more
        state.apply(read_event(self.name, record))

    def write_aliases(self, state: State) -> None:
        """Writes the aliases where people and other programs look. The caller holds the lock."""
        write_atomically(self.aliases_file, to_aliases(state))


def to_aliases(state: State) -> bytes:
    """Returns what `aliases.json` should hold."""
    return json.dumps(state.aliases).encode() + b"\n"


def say_link(path: Path) -> str:
    """Returns the sentence that refuses a symbolic link."""
    return f"{path} is a symbolic link; a registry follows none. Put the directory itself in its place."


def is_number(text: str) -> bool:
    """Tells whether a text is a version number as it stands."""
    return text.isascii() and text.isdigit() and not text.startswith("0") and len(text) <= 18


def _is_real(entry: "os.DirEntry[str]") -> bool:
    return entry.is_dir(follow_symlinks=False)
