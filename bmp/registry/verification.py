"""What is wrong with a model: journal, aliases and every byte of its versions; and putting right what a crash left."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bmp.artifact.manifest import MANIFEST_FILE, check_file
from bmp.errors import ArtifactError, RegistryError
from bmp.registry.collection import set_aside
from bmp.registry.directory import ModelDirectory, is_number, say_link, to_aliases
from bmp.registry.events import State
from bmp.registry.lease import Lease
from bmp.registry.publication import describe_version
from bmp.registry.version import Version
from bmp.storage import read_plain

Kind = Literal[
    "journal",  # its lines do not hold together
    "altered",  # a file is not what was published, is missing, or was never published
    "link",  # a symbolic link in the place of a directory
    "gone",  # an alias names a version that is not there
    "cut",  # the last line of the journal is not whole; from here on, a repair mends it
    "unknown",  # a version that the journal does not know
    "unrecorded",  # a version of which the journal does not hold the digest of the manifest
    "lost",  # a version that the journal knows, and that is not there
    "retired",  # a version that was retired, and is still there
    "aliases",  # aliases.json does not show what the journal says
    "leftover",  # what an interrupted publication or removal left
]


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a model.

    Args:
        model: Its name.
        version: Which of its versions; None where it is none of one version.
        kind: Of problem.
        message: What is wrong; a sentence.
    """

    model: str
    version: int | None
    kind: Kind
    message: str

    @property
    def can_be_repaired(self) -> bool:
        """Whether `repair` puts it right: it is what a crash may leave, and nothing is damaged."""
        return self.kind in _MENDERS


def find_problems(directory: ModelDirectory) -> Iterator[Problem]:
    """Yields all that is wrong with a model. Versions may come and go meanwhile.

    Raises:
        RegistryError: The directory cannot be read.
    """
    try:
        with directory.lock(shared=True):
            state = directory.read_state()
            found = list(_look_over(directory, state))
    except (RegistryError, OSError) as error:
        yield Problem(directory.name, None, "journal", str(error))
        for number in directory.list_numbers():  # the files can be checked all the same, but not what lists them
            yield from _check_version(Version(directory.name, number, directory.path / str(number)))
        return
    yield from found
    for number in set(state.live) & set(directory.list_numbers()):
        yield from _check_held(directory, directory.version(number, state))


def mend(directory: ModelDirectory) -> list[Problem]:
    """Puts right what a crash leaves behind, and returns it.

    Raises:
        RegistryError: The journal has been altered, or something cannot be written.
    """
    with directory.writing("Run the repair again once it can."):
        with directory.lock(shared=True):
            if not list(_look_over(directory, directory.read_state())):
                return []  # what may be no model at all gets no lock file
        with directory.lock():
            return list(_mend_all(directory, directory.read_state()))


def _mend_all(directory: ModelDirectory, state: State) -> Iterator[Problem]:
    for problem in list(_look_over(directory, state)):
        mender = _MENDERS.get(problem.kind)
        if mender is not None and mender(directory, state, problem):
            yield problem


# === What stands where ===


def _look_over(directory: ModelDirectory, state: State) -> Iterator[Problem]:
    """Yields what is wrong without opening a version. The caller holds the lock, shared or not."""
    yield from _check_journal(directory, state)
    yield from _check_versions(directory, state)
    yield from _check_aliases(directory, state)
    for path in directory.list_leftovers():
        yield Problem(directory.name, None, "leftover", f"{path} was left by an interrupted change.")


def _check_journal(directory: ModelDirectory, state: State) -> Iterator[Problem]:
    file = directory.journal_file
    if file.exists() and file.stat().st_size != state.position.offset:
        yield Problem(directory.name, None, "cut", f"The last line of {file} is cut short, and does not count.")


def _check_versions(directory: ModelDirectory, state: State) -> Iterator[Problem]:
    name, numbers = directory.name, directory.list_numbers()
    for number in numbers:
        path = directory.path / str(number)
        if number in state.retired:
            yield Problem(name, number, "retired", f"{path} was retired, but is still there.")
        elif number not in state.published:
            yield Problem(name, number, "unknown", f"{path} is not in the journal: it was never published.")
        elif state.published[number].manifest_sha256 is None:
            message = f"The journal does not hold the digest of the manifest of {path}; an older bmp published it."
            yield Problem(name, number, "unrecorded", message)
    for number in set(state.live) - set(numbers) - set(state.aliases.values()):
        message = f"{directory.path / str(number)} was published and never retired, but is not there."
        yield Problem(name, number, "lost", message)
    for entry in directory.list_entries():
        if is_number(entry.name) and entry.is_symlink():
            yield Problem(name, int(entry.name), "link", say_link(Path(entry.path)))


def _check_aliases(directory: ModelDirectory, state: State) -> Iterator[Problem]:
    name, numbers = directory.name, directory.list_numbers()
    for alias, number in state.aliases.items():
        if number not in numbers or number in state.retired:
            message = f"Alias '{alias}' of model '{name}' names version {number}, which is not there."
            yield Problem(name, number, "gone", message)
    if not _shows_aliases(directory, state):
        message = f"{directory.aliases_file} does not say what the journal says."
        yield Problem(name, None, "aliases", message)


def _shows_aliases(directory: ModelDirectory, state: State) -> bool:
    try:
        return read_plain(directory.aliases_file) == to_aliases(state)
    except FileNotFoundError:
        return not state.trails  # it comes with the first alias, and stays
    except OSError:
        return False


# === Every byte ===


def _check_held(directory: ModelDirectory, version: Version) -> Iterator[Problem]:
    """Checks a version while nobody can remove it."""
    try:
        lease = Lease(version.path)
    except (BlockingIOError, FileNotFoundError):
        return  # it is being removed, or was: the next look tells
    with lease:
        if version.number in directory.read_state().retired:
            return
        yield from _check_version(version)


def _check_version(version: Version) -> Iterator[Problem]:
    return (Problem(version.name, version.number, "altered", message) for message in _check_bytes(version))


def _check_bytes(version: Version) -> Iterator[str]:
    """Yields a sentence for each file of a version that is not what was published."""
    try:
        manifest = version.read_manifest()
    except ArtifactError as error:
        yield str(error)
        return
    for relative in manifest.files:
        try:
            check_file(version.path, manifest, relative)
        except ArtifactError as error:
            yield str(error)
    for relative in sorted(_list_files(version.path) - set(manifest.files) - {MANIFEST_FILE}):
        yield f"{version.path / relative} is none of the files that were published."


def _list_files(directory: Path) -> set[str]:
    """Returns everything below a directory that is no directory, symbolic links too, by path inside it."""
    found: set[str] = set()
    for parent, directories, files in os.walk(directory):
        links = [name for name in directories if (Path(parent) / name).is_symlink()]
        found.update((Path(parent) / name).relative_to(directory).as_posix() for name in [*files, *links])
    return found


# === Mending ===


def _cut_line(directory: ModelDirectory, state: State, problem: Problem) -> bool:
    os.truncate(directory.journal_file, state.position.offset)
    return True


def _adopt(directory: ModelDirectory, state: State, problem: Problem) -> bool:
    """Takes in a version that is what its manifest says; another is left for a person to look at."""
    assert problem.version is not None
    version = Version(directory.name, problem.version, directory.path / str(problem.version))
    try:
        manifest = version.check_files()
    except ArtifactError:
        return False  # it is told of as long as it is there
    directory.commit(state, "adopt", version=version.number, **describe_version(version.path, manifest))
    return True


def _retire_lost(directory: ModelDirectory, state: State, problem: Problem) -> bool:
    directory.commit(state, "retire", version=problem.version, freed_bytes=0, lost=True)
    return True


def _remove_retired(directory: ModelDirectory, state: State, problem: Problem) -> bool:
    assert problem.version is not None
    set_aside(directory, problem.version)
    directory.sweep()
    return True


def _write_aliases(directory: ModelDirectory, state: State, problem: Problem) -> bool:
    directory.write_aliases(state)
    return True


def _sweep(directory: ModelDirectory, state: State, problem: Problem) -> bool:
    directory.sweep()
    return True


_MENDERS: dict[Kind, Callable[[ModelDirectory, State, Problem], bool]] = {
    "cut": _cut_line,
    "unknown": _adopt,
    "unrecorded": _adopt,
    "lost": _retire_lost,
    "retired": _remove_retired,
    "aliases": _write_aliases,
    "leftover": _sweep,
}
