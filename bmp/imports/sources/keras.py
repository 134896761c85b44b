"""`.keras`: of Keras 2 or of Keras 3, which tell themselves apart by the version in `metadata.json`."""

from pathlib import Path

from bmp.errors import ArtifactError
from bmp.imports.original import Options, Original


def check_keras_source(path: Path) -> None:
    """Checks that the file is data and nothing else; see bmp.artifact.guard."""
    from bmp.artifact.guard import check_keras

    check_keras(path)


def read_keras_source(path: Path, options: Options) -> Original:
    """Reads the file.

    Raises:
        ArtifactError: It is of another Keras than 2 and 3.
    """
    from bmp.artifact.guard import read_keras_version
    from bmp.imports.sources.keras2 import read_keras2
    from bmp.imports.sources.keras3 import read_keras3

    written_by = read_keras_version(path)
    readers = {"2": read_keras2, "3": read_keras3}
    major = written_by.partition(".")[0]
    if major not in readers:
        raise ArtifactError(
            f"{path} says that Keras {written_by} wrote it; Keras 2 and Keras 3 can be read.",
            expected="2 or 3",
            received=written_by,
        )
    return readers[major](path, trust=options.trust)
