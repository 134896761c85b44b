"""The registry: a directory of models, each a directory of numbered, immutable versions and a journal.

A version appears whole, by a rename, and counts from the moment that the journal has its line. Those who write one
model take turns.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bmp.errors import ConfigError, RegistryError
from bmp.names import check_alias, check_description, check_tag
from bmp.registry.aliases import UNSET, Unset, check_expected, find_earlier, find_number, move_alias
from bmp.registry.collection import Collected, collect
from bmp.registry.directory import ModelDirectory, say_link
from bmp.registry.events import Metadata, State
from bmp.registry.publication import publish_into
from bmp.registry.reader import PRODUCTION, RegistryReader
from bmp.registry.verification import Problem, find_problems, mend
from bmp.registry.version import Version


class Registry(RegistryReader):
    """Published versions below one directory, which need not exist yet.

    Example:
        >>> registry = Registry("registry")
        >>> version = registry.publish(Path("artifact"), "digits")
        >>> registry.set_alias("digits", "production", version.number)
        >>> registry.resolve("digits").number
        1
    """

    def publish(self, artifact: Path, name: str, *, origin: str | None = None) -> Version:
        """Copies an artifact in as the next version: staged, checked, synced, renamed, written down.

        Args:
            artifact: A directory whose manifest lists every file in it.
            name: Of the model.
            origin: Where it comes from, if not from a run here.

        Raises:
            ArtifactError: The artifact is not what its manifest says; nothing was published.
            RegistryError: The registry cannot be written to; nothing was published.
        """
        return publish_into(self._open(name), artifact, origin)

    def set_alias(self, name: str, alias: str, number: int, *, expected: int | Unset | None = UNSET) -> None:
        """Points an alias at a version.

        Args:
            name: Of the model.
            alias: To point.
            number: Of the version.
            expected: What the alias must name now, None for nothing; where it names another, it stays.

        Raises:
            NotFoundError: There is no such model or version.
            RegistryError: The alias does not name what was expected, or nothing can be written.
        """
        check_alias(alias)
        with self._changing(name, f"Alias '{alias}' is as it was.") as (directory, state, versions):
            self._pick(number, state, versions)
            check_expected(state, alias, expected)
            if state.aliases.get(alias) != number:
                move_alias(directory, state, alias, number)

    def remove_alias(self, name: str, alias: str, *, expected: int | Unset | None = UNSET) -> None:
        """Removes an alias.

        Raises:
            NotFoundError: There is no such model or alias.
            RegistryError: The alias does not name what was expected, or nothing can be written.
        """
        check_alias(alias)
        with self._changing(name, f"Alias '{alias}' is as it was.") as (directory, state, _):
            check_expected(state, alias, expected)
            find_number(state, alias)
            move_alias(directory, state, alias, None)

    def promote(self, name: str, reference: int | str | None = None, alias: str = PRODUCTION) -> Version:
        """Points an alias at what a number or another alias stands for, and returns that version.

        Args:
            name: Of the model.
            reference: A number, an alias, or None for the newest version.
            alias: To point.

        Raises:
            NotFoundError: There is no such model, version or alias.
            RegistryError: Nothing can be written.
        """
        version = self.resolve(name, self._read(name)[1][-1] if reference is None else reference)
        self.set_alias(name, alias, version.number)
        return version

    def rollback(self, name: str, alias: str = PRODUCTION) -> Version:
        """Returns an alias to the version that it named before, and returns that version.

        A second time goes one further back, never forth again: after 1, 2, 3 come 2 and 1. An alias that was removed
        comes back.

        Raises:
            NotFoundError: There is no such model or alias, or the version is gone.
            RegistryError: The alias named nothing before, or nothing can be written.
        """
        check_alias(alias)
        with self._changing(name, f"Alias '{alias}' is as it was.") as (directory, state, versions):
            number = find_earlier(state, versions, alias)
            move_alias(directory, state, alias, number, rollback=True)
            return directory.version(number, state)

    def tag(self, name: str, number: int, key: str, value: str | None) -> None:
        """Sets a tag of a version, or removes it with the value None.

        Raises:
            ConfigError: It is no key, or no value.
            NotFoundError: There is no such model or version.
            RegistryError: Nothing can be written.
        """
        check_tag(key, value)
        with self._changing(name, "The tag is as it was.") as (directory, state, versions):
            self._pick(number, state, versions)
            if state.metadata.get(number, Metadata()).tags.get(key) != value:
                directory.commit(state, "tag", version=number, key=key, value=value)

    def describe(self, name: str, number: int, text: str) -> None:
        """Writes the description of a version anew.

        Raises:
            ConfigError: It is no text that can be shown.
            NotFoundError: There is no such model or version.
            RegistryError: Nothing can be written.
        """
        check_description(text)
        with self._changing(name, "The description is as it was.") as (directory, state, versions):
            self._pick(number, state, versions)
            if state.metadata.get(number, Metadata()).description != text:
                directory.commit(state, "describe", version=number, text=text)

    # === Keeping house ===

    def gc(self, name: str | None = None, *, keep: int = 1) -> Collected:
        """Removes the versions of a model, or of all, that no alias names, that nobody holds and that are not new.

        Args:
            name: Of the model.
            keep: How many of the newest versions of each model stay.

        Raises:
            ConfigError: Not even one shall stay.
            NotFoundError: There is no such model.
            RegistryError: Something cannot be removed.
        """
        if keep < 1:
            raise ConfigError(f"gc was to keep {keep} versions; expected at least 1, the newest.", received=str(keep))
        names = self.models() if name is None else [name]
        return Collected.join(collect(self._open_any(each), keep) for each in names)

    def verify(self, name: str | None = None) -> list[Problem]:
        """Returns all that is wrong with a model, or with all of them: journal, aliases, every byte of every version.

        Raises:
            NotFoundError: There is no such model.
            RegistryError: The registry cannot be read.
        """
        if name is not None:
            return list(find_problems(self._open_any(name)))
        problems = [Problem(each, None, "link", say_link(self.root / each)) for each in self._names(links=True)]
        return problems + [problem for each in self._names() for problem in find_problems(self._open(each))]

    def repair(self, name: str | None = None) -> list[Problem]:
        """Puts right what a crash leaves behind, and returns that; what is damaged stays for `verify` to tell.

        Raises:
            NotFoundError: There is no such model.
            RegistryError: A journal has been altered, or nothing can be written.
        """
        directories = map(self._open, self._names()) if name is None else [self._open_any(name)]
        return [problem for directory in directories for problem in mend(directory)]

    def check_writable(self) -> None:
        """Makes the root directory if need be.

        Raises:
            RegistryError: Nothing can be written there.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryError(f"The registry {self.root} cannot be made: {error}.") from error
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise RegistryError(f"The registry {self.root} cannot be written to; check its owner and mode.")

    @contextmanager
    def _changing(self, name: str, outcome: str) -> Iterator[tuple[ModelDirectory, State, list[int]]]:
        """Holds the lock of a model that has a version, and tells what it is by then."""
        directory = self._open_any(name)
        with directory.writing(outcome), directory.lock():
            state, versions = directory.read_versions()
            if not versions:
                raise self._explain_missing(name)
            yield directory, state, versions
