"""The registry: a directory of models, each a directory of numbered, immutable versions.

    <root>/<name>/<version>/      an artifact, exactly as its manifest says
    <root>/<name>/aliases.json    {"production": 3}
    <root>/<name>/journal.jsonl   what happened, in order

Readers never lock: a version appears whole, by a rename.
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bmp.artifact.manifest import Manifest, check_files, read_manifest
from bmp.errors import NotFoundError, RegistryError, suggest
from bmp.names import check_alias, check_model_name, is_name
from bmp.registry.journal import append_event, read_journal
from bmp.storage import sync_directory, sync_tree, write_atomically

PRODUCTION = "production"


@dataclass(frozen=True)
class Version:
    """One published version of a model."""

    name: str
    number: int
    path: Path

    def read_manifest(self) -> Manifest:
        """Returns the manifest of the version.

        Raises:
            ArtifactError: It is damaged.
        """
        return read_manifest(self.path)


class Registry:
    """Published versions below one directory, which need not exist yet.

    Example:
        >>> registry = Registry("registry")
        >>> version = registry.publish(Path("artifact"), "digits")
        >>> registry.set_alias("digits", "production", version.number)
        >>> registry.resolve("digits").number
        1
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def models(self) -> list[str]:
        """Returns the names of all models that have a version."""
        if not self.root.is_dir():
            return []
        names = (entry.name for entry in self.root.iterdir() if entry.is_dir() and is_name(entry.name))
        return sorted(name for name in names if self.versions(name))

    def versions(self, name: str) -> list[int]:
        """Returns the version numbers of a model, ascending; empty when there is no such model."""
        directory = self.root / check_model_name(name)
        if not directory.is_dir():
            return []
        return sorted(int(entry.name) for entry in directory.iterdir() if entry.is_dir() and _is_version(entry.name))

    def aliases(self, name: str) -> dict[str, int]:
        """Returns alias to version number.

        Raises:
            RegistryError: The file that holds them is damaged.
        """
        path = self.root / check_model_name(name) / "aliases.json"
        try:
            aliases = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            aliases = None
        if not isinstance(aliases, dict) or not all(type(number) is int for number in aliases.values()):
            raise RegistryError(
                f'{path} is damaged; expected an object of alias to version, such as {{"production": 1}}.'
            )
        return aliases

    def get(self, name: str, number: int) -> Version:
        """Returns a version by number.

        Raises:
            NotFoundError: There is no such model or version.
        """
        versions = self._existing_versions(name)
        if number not in versions:
            known = ", ".join(str(version) for version in versions)
            raise NotFoundError(
                f"Model '{name}' has no version {number}; it has {known}.",
                expected=known,
                received=str(number),
            )
        return Version(name, number, self.root / name / str(number))

    def resolve(self, name: str, reference: int | str | None = None) -> Version:
        """Returns the version that a number, an alias or nothing stands for.

        Args:
            name: Of the model.
            reference: A version number (digits in a string will do), an alias, or None for `production` where
                that alias is set and the newest version where it is not.

        Raises:
            NotFoundError: There is no such model, version or alias.
        """
        versions = self._existing_versions(name)
        aliases = self.aliases(name)
        if reference is None:
            return self.get(name, aliases.get(PRODUCTION, versions[-1]))
        if isinstance(reference, int) or _is_version(reference):
            return self.get(name, int(reference))
        if reference not in aliases:
            known = ", ".join(sorted(aliases)) or "none"
            raise NotFoundError(
                f"Model '{name}' has no alias '{reference}'. Aliases: {known}.{suggest(reference, aliases)}",
                expected=known,
                received=reference,
            )
        return self.get(name, aliases[reference])

    def journal(self, name: str) -> list[dict[str, object]]:
        """Returns what happened to a model, oldest first.

        Raises:
            RegistryError: The journal has been altered.
        """
        return read_journal(self.root / check_model_name(name) / "journal.jsonl")

    def publish(self, artifact: Path, name: str) -> Version:
        """Copies an artifact in as the next version: staged, checked, synced, renamed.

        Args:
            artifact: A directory whose manifest lists every file in it.
            name: Of the model.

        Raises:
            ArtifactError: The artifact is not what its manifest says; nothing was published.
            RegistryError: The registry cannot be written to; nothing was published.
        """
        check_model_name(name)
        manifest = read_manifest(artifact)
        check_files(artifact, manifest)
        directory = self.root / name
        staging = directory / f".staging-{secrets.token_hex(8)}"  # no number: TensorFlow Serving passes it over
        try:
            directory.mkdir(parents=True, exist_ok=True)
            shutil.copytree(artifact, staging, symlinks=True)
            check_files(staging, manifest)
            sync_tree(staging)
            with self._lock(name):
                number = self._next_number(name)
                final = staging.rename(directory / str(number))
                try:
                    sync_directory(directory)
                    append_event(directory / "journal.jsonl", "publish", version=number)
                except BaseException:
                    final.rename(staging)  # a version that the journal does not know was never published
                    raise
        except OSError as error:
            raise RegistryError(f"Cannot publish into {directory}: {error}. Nothing was published.") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return Version(name, number, directory / str(number))

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Points an alias at a version.

        Raises:
            NotFoundError: There is no such model or version.
        """
        check_alias(alias)
        self.get(name, number)
        directory = self.root / name
        with self._lock(name):
            aliases = self.aliases(name)
            previous = aliases.get(alias)
            if previous == number:
                return
            write_atomically(directory / "aliases.json", json.dumps({**aliases, alias: number}).encode() + b"\n")
            append_event(directory / "journal.jsonl", "alias", alias=alias, version=number, previous=previous)

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

    def _existing_versions(self, name: str) -> list[int]:
        versions = self.versions(name) if is_name(name) else []
        if not versions:
            models = self.models()
            known = ", ".join(models) or "none"
            raise NotFoundError(
                f"No model is named '{name[:80]}'. Published: {known}.{suggest(name[:80], models)}",
                expected=known,
                received=name[:80],
            )
        return versions

    def _next_number(self, name: str) -> int:
        """A number that was never given before, also not to a version that is gone."""
        published = [record["version"] for record in self.journal(name) if record["event"] == "publish"]
        return 1 + max([0, *self.versions(name), *(version for version in published if isinstance(version, int))])

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with (self.root / name / ".lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a crash
            yield


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and not text.startswith("0")
