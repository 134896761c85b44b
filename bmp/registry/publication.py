"""How a version comes into a model: staged, checked, synced, renamed, written down."""

import shutil
from pathlib import Path

from bmp.artifact.manifest import MANIFEST_FILE, Manifest, check_files, digest_file, read_manifest
from bmp.registry.directory import ModelDirectory
from bmp.registry.events import Facts
from bmp.registry.version import Version
from bmp.storage import sync_directory, sync_tree


def publish_into(directory: ModelDirectory, artifact: Path, origin: str | None) -> Version:
    """Copies an artifact in as the next version.

    Raises:
        ArtifactError: The artifact is not what its manifest says; nothing was published.
        RegistryError: The registry cannot be written to; nothing was published.
    """
    with directory.writing("Nothing was published."):
        _check_artifact(artifact)  # before anything is made
        with directory.stage() as staging:
            shutil.copytree(artifact, staging, symlinks=True, dirs_exist_ok=True)
            manifest = _check_artifact(staging)
            sync_tree(staging)
            with directory.lock():
                return _settle(directory, staging, manifest, origin)


def describe_version(path: Path, manifest: Manifest) -> dict[str, object]:
    """Returns what the journal keeps of a version: the digest of its manifest, and the facts of it."""
    return {
        "manifest_sha256": digest_file(path / MANIFEST_FILE).sha256,
        "facts": Facts.of(manifest).model_dump(mode="json"),
    }


def _check_artifact(path: Path) -> Manifest:
    manifest = read_manifest(path)
    check_files(path, manifest)
    return manifest


def _settle(directory: ModelDirectory, staging: Path, manifest: Manifest, origin: str | None) -> Version:
    """Makes what is staged the next version. The caller holds the lock.

    Renamed first and written down then: what a crash leaves in between is whole, and no version yet.
    """
    state = directory.read_state()
    number = directory.next_number(state)
    details = describe_version(staging, manifest) | ({} if origin is None else {"origin": origin})
    final = staging.rename(directory.path / str(number))
    try:
        sync_directory(directory.path)
        directory.commit(state, "publish", version=number, **details)
    except BaseException:
        if number not in directory.read_state().published:
            final.rename(staging)  # a version that the journal does not know was never published
        raise
    return directory.version(number, state)
