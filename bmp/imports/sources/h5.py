"""`.h5` of Keras 2, or of `tf.keras` before it."""

from pathlib import Path

from bmp.imports.original import Options, Original
from bmp.imports.sources.keras2 import read_keras2


def check_h5_source(path: Path) -> None:
    """Checks that the file is data and nothing else; see bmp.artifact.guard."""
    from bmp.artifact.guard import check_h5

    check_h5(path)


def read_h5_source(path: Path, options: Options) -> Original:
    """Reads the file."""
    return read_keras2(path, trust=options.trust)
