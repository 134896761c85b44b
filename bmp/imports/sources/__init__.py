"""IMPORTERS: the formats that models come in; each file is read here, inside the sandbox, by one function."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bmp.catalog import Catalog
from bmp.imports.original import Options, Original
from bmp.imports.sources.h5 import check_h5_source, read_h5_source
from bmp.imports.sources.keras import check_keras_source, read_keras_source
from bmp.imports.sources.litert import check_litert_source, read_litert_source
from bmp.imports.sources.saved_model import check_saved_model_source, read_saved_model_source
from bmp.imports.sources.sklearn import check_sklearn_source, read_sklearn_source
from bmp.imports.sources.torch import check_torch_source, read_torch_source


@dataclass(frozen=True)
class Importer:
    """One format that models come in.

    Args:
        check: Raises UnsafeError where reading the file could do more than give numbers; `--trust` leaves this out.
        read: Reads the file.
    """

    check: Callable[[Path], None]
    read: Callable[[Path, Options], Original]


IMPORTERS = Catalog(
    "format",
    {
        "h5": Importer(check_h5_source, read_h5_source),
        "keras": Importer(check_keras_source, read_keras_source),
        "saved_model": Importer(check_saved_model_source, read_saved_model_source),
        "litert": Importer(check_litert_source, read_litert_source),
        "sklearn": Importer(check_sklearn_source, read_sklearn_source),
        "torch": Importer(check_torch_source, read_torch_source),
    },
)
