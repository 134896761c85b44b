"""One published version of a model: where it is, and its files checked against what was published."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from bmp.artifact.manifest import MANIFEST_FILE, Manifest, check_files, read_manifest
from bmp.errors import ArtifactError
from bmp.storage import read_plain


@dataclass(frozen=True)
class Version:
    """One published version of a model.

    Args:
        name: Of the model.
        number: Of the version.
        path: Of its directory.
        manifest_sha256: Of its manifest, as it was published; None where the journal is of before it held that.
    """

    name: str
    number: int
    path: Path
    manifest_sha256: str | None = None

    def read_manifest(self) -> Manifest:
        """Returns the manifest of the version, which is the one that was published.

        Raises:
            ArtifactError: It is damaged, or another one.
        """
        file = self.path / MANIFEST_FILE
        try:
            found = hashlib.sha256(read_plain(file, below=self.path)).hexdigest()
        except OSError as error:
            raise ArtifactError(f"{file} cannot be read: {error.strerror}.") from error
        if self.manifest_sha256 not in (None, found):
            raise ArtifactError(
                f"{file} has been altered since it was published: its SHA-256 is {found[:12]}…, the journal says "
                f"{str(self.manifest_sha256)[:12]}….",
                expected=self.manifest_sha256,
                received=found,
            )
        return read_manifest(self.path)

    def check_files(self) -> Manifest:
        """Returns the manifest after checking every file of the version, byte for byte.

        Raises:
            ArtifactError: A file is damaged, missing or not listed.
        """
        manifest = self.read_manifest()
        check_files(self.path, manifest)
        return manifest
