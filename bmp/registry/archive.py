"""A version as one file, to carry it from one registry to another; the same version always makes the same bytes.

bmp-archive.json       which version it was, and the digest of its manifest
metadata.json          tags and description, where there are any
signatures.json        as they are, where it is signed
version/…              the version, exactly as its manifest says
"""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bmp.artifact.guard.limits import Limits
from bmp.artifact.manifest import MANIFEST_FILE, FileEntry, check_files, digest_file, read_manifest
from bmp.errors import ArtifactError, ConfigError, RegistryError, UnsafeError
from bmp.names import check_description, check_model_name, check_tag
from bmp.registry.registry import Registry
from bmp.registry.signing import read_signatures, write_signatures
from bmp.registry.ustar import unpack, write_end, write_member
from bmp.registry.version import Version
from bmp.storage import open_atomically

_DESCRIPTION = "bmp-archive.json"
_METADATA = "metadata.json"
_SIGNATURES = "signatures.json"
_VERSION = "version"


_DOCUMENTS = (_DESCRIPTION, _METADATA, _SIGNATURES, f"{_VERSION}/{MANIFEST_FILE}")
_MAX_DOCUMENT_BYTES = 16 * 2**20
"""Of each of these; they are read as a whole."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1


Kind = TypeVar("Kind", bound=_Document)


class Source(_Document):
    """Which version an archive holds."""

    model: str
    version: int = Field(ge=1)
    manifest_sha256: str


class Notes(_Document):
    """What people said of it."""

    description: str
    tags: dict[str, str]


def export_version(registry: Registry, version: Version, path: Path) -> FileEntry:
    """Writes a version with its metadata and signatures to a file that `import_archive` reads.

    Args:
        registry: That holds the version.
        version: Of it; its files are checked first.
        path: Must end in `.tar`; what is there is replaced when the new file is whole.

    Returns:
        Digest and size of the file.

    Raises:
        ConfigError: The path does not end in `.tar`, or is a directory.
        ArtifactError: The version is damaged, or no such file can hold it.
        RegistryError: The file cannot be written.
    """
    if path.suffix != ".tar" or path.is_dir():
        raise ConfigError(
            f"A version cannot be written to '{path}'; expected the name of a file that ends in .tar.",
            expected="FILE.tar",
            received=str(path),
        )
    try:
        with registry.lease(version), open_atomically(path) as file:
            version.check_files()
            _write_documents(file, registry, version)
            _write_files(file, version)
            write_end(file)
        return digest_file(path)
    except OSError as error:
        raise RegistryError(f"{path} cannot be written: {error.strerror or error}.") from error


def _write_documents(file: BinaryIO, registry: Registry, version: Version) -> None:
    digest = digest_file(version.path / MANIFEST_FILE).sha256
    metadata = registry.metadata(version.name, version.number)
    signatures = registry.signature_file(version.name, version.number)
    documents: dict[str, BaseModel] = {
        _DESCRIPTION: Source(model=version.name, version=version.number, manifest_sha256=digest),
        _METADATA: Notes(description=metadata.description, tags=dict(sorted(metadata.tags.items()))),
    }
    if signatures.exists():
        documents[_SIGNATURES] = read_signatures(signatures)
    for name, document in documents.items():
        write_member(file, name, io.BytesIO(document.model_dump_json(indent=2).encode() + b"\n"))


def _write_files(file: BinaryIO, version: Version) -> None:
    for path in (version.path, *sorted(version.path.rglob("*"))):
        name = (Path(_VERSION) / path.relative_to(version.path)).as_posix()
        if path.is_dir():
            write_member(file, name, None)
            continue
        with path.open("rb") as source:
            write_member(file, name, source)


def import_archive(
    registry: Registry,
    path: Path,
    name: str | None = None,
    *,
    check: Callable[[Path], None],
    limits: Limits = Limits(),  # noqa: B008 - immutable
) -> Version:
    """Publishes what `export_version` wrote, as the next version; its journal says where it comes from.

    Tags and description come along. So do signatures where the model keeps its name; they are not looked at.

    Args:
        registry: Where it is published.
        path: Of the archive.
        name: Of the model; by default the one it had.
        check: Is given the directory of the unpacked version before it is published, and raises where its files could
            do harm: what a manifest describes byte for byte may still be a program.
        limits: What the archive may hold.

    Raises:
        UnsafeError: The archive holds what a version never does; the message says what. Nothing was published.
        ArtifactError: It is no archive of a version, or damaged. Nothing was published.
        RegistryError: It cannot be read, or the registry cannot be written to. Nothing was published.
    """
    with tempfile.TemporaryDirectory(prefix="bmp-import-") as place, _naming(path, Path(place)):
        unpacked = Path(place)
        digest = _unpack(path, unpacked, limits)
        source = _read_document(Source, unpacked / _DESCRIPTION, path)
        notes = _read_notes(unpacked, path)
        signatures = read_signatures(unpacked / _SIGNATURES) if (unpacked / _SIGNATURES).exists() else None
        name = check_model_name(name or source.model)
        _check_version(unpacked / _VERSION, source, path)
        check(unpacked / _VERSION)
        origin = f"{path.name} (SHA-256 {digest}), which held {source.model}/{source.version}"
        version = registry.publish(unpacked / _VERSION, name, origin=origin)
    for key, value in notes.tags.items():
        registry.tag(name, version.number, key, value)
    if notes.description:
        registry.describe(name, version.number, notes.description)
    if signatures is not None and name == source.model:
        write_signatures(signatures, registry.signature_file(name, version.number))
    return version


@contextmanager
def _naming(path: Path, unpacked: Path) -> Iterator[None]:
    """Lets errors name the archive, and not where it was unpacked, which nobody ever sees."""
    try:
        yield
    except ArtifactError as error:
        message = error.message.replace(f"{unpacked}/", "")
        if str(path) in message:
            raise type(error)(message, expected=error.expected, received=error.received) from error
        raise type(error)(f"{path}: {message}", expected=error.expected, received=error.received) from error


def _unpack(path: Path, directory: Path, limits: Limits) -> str:
    """Unpacks an archive, and returns its SHA-256."""
    if not path.is_file():
        raise RegistryError(f"'{path}' is no plain file." if path.exists() else f"There is no file '{path}'.")
    try:
        with path.open("rb") as file:
            unpack(file, path, directory, limits)
        digest = digest_file(path).sha256
    except OSError as error:
        raise RegistryError(f"{path} cannot be unpacked: {error.strerror or error}.") from error
    known = {_DESCRIPTION, _METADATA, _SIGNATURES, _VERSION}
    unknown = sorted({entry.name for entry in directory.iterdir()} - known)
    if unknown:
        raise UnsafeError(f"{path} holds {', '.join(unknown)}, which is no part of a version that was exported.")
    for name in _DOCUMENTS:
        if (directory / name).is_file() and (size := (directory / name).stat().st_size) > _MAX_DOCUMENT_BYTES:
            raise UnsafeError(f"{name} in {path} has {size:,} bytes; at most {_MAX_DOCUMENT_BYTES:,} are read.")
    return digest


def _read_document(kind: type[Kind], file: Path, path: Path) -> Kind:
    try:
        return kind.model_validate_json(file.read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ArtifactError(f"{path} holds no {file.name}; expected what 'bmp models export' wrote.") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ArtifactError(f"{file.name} in {path} cannot be understood: {problem['msg']}.") from error


def _read_notes(unpacked: Path, path: Path) -> Notes:
    notes = _read_document(Notes, unpacked / _METADATA, path)
    try:
        check_description(notes.description)
        for key, value in notes.tags.items():
            check_tag(key, value)
    except ConfigError as error:
        raise ArtifactError(f"{_METADATA} in {path}: {error}") from error
    return notes


def _check_version(artifact: Path, source: Source, path: Path) -> None:
    manifest = read_manifest(artifact)
    if digest_file(artifact / MANIFEST_FILE).sha256 != source.manifest_sha256:
        raise ArtifactError(f"The manifest in {path} is not the one that was exported; the file has been altered.")
    check_files(artifact, manifest)
