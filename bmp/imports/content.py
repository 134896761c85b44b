"""What kind of model a file holds, told by what is in it; its name only has to agree."""

import struct
import zipfile
from pathlib import Path

from bmp.errors import ArtifactError, UnsafeError, suggest

HDF5, ZIP, LITERT = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"TFL3"
SUFFIXES = {
    "h5": (".h5", ".hdf5"),
    "keras": (".keras",),
    "saved_model": (),
    "litert": (".tflite", ".lite"),
    "sklearn": (".skops",),
    "torch": (".safetensors",),
}
"""How files of each format are named; a SavedModel is a directory of any name."""
_WORDS = {
    "h5": "HDF5",
    "keras": "a .keras archive",
    "litert": "LiteRT",
    "sklearn": "a skops archive of scikit-learn",
    "torch": "safetensors",
}
_MAX_HEADER_BYTES = 100 * 2**20
_PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin", ".dill", ".ckpt")
_HOW_TO_UNPICKLE = (
    "Loading a pickle runs whatever code it holds, so it is never opened. Write the model without one, where you trust "
    "it: skops.io.dump(model, 'model.skops') for scikit-learn, "
    "safetensors.torch.save_file(model.state_dict(), 'model.safetensors') for PyTorch; then import that file."
)


def tell_format(path: Path) -> str:
    """Returns the entry of IMPORTERS that reads a file or directory.

    Raises:
        UnsafeError: It is a pickle, or would be one.
        ArtifactError: It holds no model that can be imported, or is named like another kind of file.
    """
    if path.is_dir():
        return _tell_directory(path)
    with path.open("rb") as file:
        head = file.read(16)
    form = _tell_head(path, head)
    if form is None:
        _refuse(path, head)
    elif path.suffix.lower() not in SUFFIXES[form]:
        fitting = " or ".join(SUFFIXES[form])
        raise ArtifactError(
            f"{path} is named {path.suffix or 'without a suffix'}, but holds {_WORDS[form]}; such a file is named "
            f"{fitting}. Rename it if that is what it is.",
            expected=fitting,
            received=path.suffix,
        )
    assert form is not None
    return form


def _tell_directory(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
    raise ArtifactError(
        f"The directory {path} is no SavedModel: it holds no saved_model.pb, but {found}. Name the directory that "
        "holds it, or a file.",
        expected="saved_model.pb",
        received=found,
    )


def _tell_head(path: Path, head: bytes) -> str | None:
    if head.startswith(HDF5):
        return "h5"
    if head[4:8] == LITERT:
        return "litert"
    if head.startswith(ZIP):
        return _tell_archive(path)
    return "torch" if _is_safetensors(path, head) else None


def _tell_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ArtifactError(f"{path} begins like a zip archive but is none: {error}.") from error
    if any(name.endswith("data.pkl") for name in names):
        raise UnsafeError(f"{path} is a pickle of PyTorch. {_HOW_TO_UNPICKLE}")
    if "config.json" in names:
        return "keras"
    return "sklearn" if "schema.json" in names else None


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Says whether a file begins with the length of a header, and that header."""
    if len(head) < 9:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    return head[8:9] == b"{" and length <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8)


def _refuse(path: Path, head: bytes) -> None:
    """Says why a file cannot be imported, and what can."""
    if path.suffix.lower() in _PICKLED or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise UnsafeError(f"{path} is a pickle, or named like one. {_HOW_TO_UNPICKLE}")
    known = [suffix for suffixes in SUFFIXES.values() for suffix in suffixes]
    listed = f"{', '.join(known)}, or the directory of a SavedModel"
    if path.suffix.lower() in known:
        form = next(form for form, suffixes in SUFFIXES.items() if path.suffix.lower() in suffixes)
        raise ArtifactError(
            f"{path} is named like {_WORDS[form]}, but its content is not: it begins with {head[:8]!r}. It is damaged, "
            "or something else.",
            expected=_WORDS[form],
            received=repr(head[:8]),
        )
    raise ArtifactError(
        f"{path} is no model that can be imported; expected {listed}.{suggest(path.suffix, known)}",
        expected=listed,
        received=path.suffix or repr(head[:8]),
    )
