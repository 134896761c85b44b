"""Arrays in NumPy's own files."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bmp.data.source import Source
from bmp.data.sources.memory import ArraySource, Stacked
from bmp.data.sources.target import TargetKind, encode_targets
from bmp.errors import ConfigError, DataError, suggest
from bmp.transforms import Field

TARGET_NAMES = ("y", "target", "targets", "label", "labels")
"""Names that a target goes by, where the recipe names none."""
SUFFIXES = {
    "_train": "train",
    "_validation": "validation",
    "_valid": "validation",
    "_val": "validation",
    "_test": "test",
}
"""Ends of names that say which split an array belongs to."""


def load_arrays(
    *,
    path: str | dict[str, str],
    inputs: list[str] | None = None,
    target: str | None = None,
    labels: list[str] = [],  # noqa: B006  (never changed)
    vocabulary: dict[str, int] = {},  # noqa: B006
    texts: list[str] = [],  # noqa: B006
    target_kind: TargetKind = "auto",
) -> Source:
    """Reads arrays of examples from `.npz` and `.npy` files.

    Args:
        path: One `.npz`, a folder of `.npy` files, or `{name: file.npy}`. Names that end in `_train`, `_validation`
            (or `_val`) and `_test` are splits of one array.
        inputs: Names of the arrays to learn from; null is all others.
        target: Name of the array to be predicted; null finds y, target or labels.
        labels: Names of the classes 0, 1, …
        vocabulary: For arrays of tokens or other whole numbers that stand for something: how many there are.
        texts: Names of the arrays that hold running texts; other texts are categories.
        target_kind: What the target is, where its values do not say.

    Arrays are mapped from their files, not read, so they may be larger than memory; only compressed `.npz` files are
    read at once. Inputs of one number an example are numbers, others tensors of float32 (int32 with a vocabulary).

    Raises:
        ConfigError: A name is not there.
        DataError: A file cannot be read, or the arrays do not belong together.
    """
    arrays, given = gather_splits(_open(path))
    target = target or _find_target(arrays)
    for name in (*(inputs or ()), target, *vocabulary, *texts):
        if name not in arrays:
            known = ", ".join(arrays)
            raise ConfigError(
                f"There is no array '{name}'; there are {known}.{suggest(name, arrays)}", expected=known, received=name
            )
    columns = {name: array for name, array in arrays.items() if name in (inputs or set(arrays) - {target})}
    shown = path if isinstance(path, str) else ", ".join(path.values())
    return to_source(
        columns,
        arrays[target],
        labels=labels,
        vocabulary=vocabulary,
        texts=texts,
        target_kind=target_kind,
        given=given,
        where=f"{shown}, example {{}}".format,
    )


def to_source(
    columns: Mapping[str, Any],
    targets: Any,
    *,
    labels: list[str],
    vocabulary: Mapping[str, int],
    texts: list[str],
    target_kind: TargetKind,
    given: Mapping[str, np.ndarray],
    where: Any,
) -> Source:
    """Returns a source of arrays `(N, …)` by name; see `load_arrays`.

    Raises:
        DataError: An array is none of examples.
    """
    if not columns:
        raise DataError("There is a target, but no array to learn from.")
    fields = tuple(_to_field(name, array, vocabulary.get(name), name in texts) for name, array in columns.items())
    for field in fields:
        if field.kind in ("category", "text"):
            columns = {**columns, field.name: _to_texts(field.name, columns[field.name][:])}
    values = targets[np.arange(len(targets))]
    encoded = encode_targets(values, kind=target_kind, labels=labels)
    return ArraySource(columns, fields, encoded.values, encoded.target, given=given, where=where, bad=encoded.bad)


def _to_texts(name: str, array: np.ndarray) -> np.ndarray:
    values = array.astype(object)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"Example {number} of the array '{name}' is {value!r:.40}; expected a text.")
    return values


def _to_field(name: str, array: Any, vocabulary: int | None, is_text: bool) -> Field:
    kind, shape = array.dtype.kind, array.shape[1:]
    if not array.shape:
        raise DataError(f"The array '{name}' is a single value; expected one entry an example.")
    if kind in "UO" and not shape:
        return Field(name, "text" if is_text else "category")
    if kind not in "biuf":
        raise DataError(
            f"The array '{name}' is of {array.dtype} {array.shape}; expected numbers, or one text an example."
        )
    if vocabulary is not None:
        return Field(name, "tensor", "int32", shape, vocabulary)
    return Field(name, "number") if not shape else Field(name, "tensor", "float32", shape)


def _open(path: str | dict[str, str]) -> dict[str, np.ndarray]:
    if isinstance(path, dict):
        return {name: _map_npy(Path(file)) for name, file in path.items()}
    place = Path(path)
    if place.is_dir():
        arrays = {file.stem: _map_npy(file) for file in sorted(place.glob("*.npy"))}
        if not arrays:
            raise DataError(f"The folder {path} holds no .npy file.")
        return arrays
    if place.suffix == ".npy":
        raise ConfigError(
            f"{path} is one array; expected an .npz file, or a file for each: {{x: x.npy, y: y.npy}}.",
            expected="{x: x.npy, y: y.npy}",
            received=path,
        )
    return _map_npz(place)


def _map_npy(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"There is no file {path}.", expected="an .npy file", received=str(path))
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _explain(path, error) from error


def _map_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DataError(f"There is no file {path}.", expected="an .npz file", received=str(path))
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            return {
                member.filename.removesuffix(".npy"): _map_member(archive, file, member)
                for member in archive.infolist()
            }
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise _explain(path, error) from error


def _map_member(archive: zipfile.ZipFile, file: Any, member: zipfile.ZipInfo) -> np.ndarray:
    """Maps an array that lies in an archive as it is; reads a compressed one.

    Reference:
        APPNOTE.TXT of PKWARE, 4.3.7: a member begins with 30 bytes of header, its name and its extra field.
    """
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}.get(version[0])
        if member.compress_type != zipfile.ZIP_STORED or read_header is None:
            with archive.open(member) as whole:
                return np.lib.format.read_array(whole, allow_pickle=False)
        shape, is_fortran, dtype = read_header(stream)
        header_bytes = stream.tell()
    if dtype.hasobject or 0 in shape:
        with archive.open(member) as whole:
            return np.lib.format.read_array(whole, allow_pickle=False)
    file.seek(member.header_offset + 26)
    name_bytes, extra_bytes = np.frombuffer(file.read(4), "<u2").tolist()
    start = member.header_offset + 30 + name_bytes + extra_bytes + header_bytes
    return np.memmap(file, dtype, "r", start, shape, "F" if is_fortran else "C")


def _explain(path: Path, error: Exception) -> DataError:
    if "pickle" in str(error).lower():
        return DataError(
            f"{path} holds Python objects, which bmp never unpickles; save numbers, or texts as a NumPy array of "
            "texts (dtype U)."
        )
    return DataError(f"{path} cannot be read as NumPy arrays: {' '.join(str(error).split())}.")


def gather_splits(arrays: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Puts `x_train` and `x_test` together as `x`; returns the arrays and the numbers of each split.

    Raises:
        DataError: Only some arrays come in splits, or the splits do not fit each other.
    """
    pieces: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
        if suffix is not None:
            pieces.setdefault(name.removesuffix(suffix), {})[SUFFIXES[suffix]] = array
    if not pieces:
        return dict(arrays), {}
    if sum(map(len, pieces.values())) < len(arrays) or len({tuple(sorted(piece)) for piece in pieces.values()}) > 1:
        raise DataError(
            f"The arrays {', '.join(arrays)} do not come in the same splits; expected each with the same ends of name, "
            "such as x_train, y_train, x_test and y_test."
        )
    joined = {name: Stacked([piece[split] for split in sorted(piece)], name) for name, piece in pieces.items()}
    first = next(iter(pieces.values()))
    given, start = {}, 0
    for split in sorted(first):
        given[split] = np.arange(start, start + len(first[split]))
        start += len(first[split])
    for name, piece in pieces.items():
        for split, array in piece.items():
            if len(array) != len(first[split]):
                raise DataError(
                    f"The {split} split has {len(first[split])} examples in one array and {len(array)} in '{name}'."
                )
    return joined, given


def _find_target(arrays: Mapping[str, Any]) -> str:
    found = [name for name in arrays if name.lower() in TARGET_NAMES]
    if len(found) != 1:
        raise ConfigError(
            f"Which of the arrays {', '.join(arrays)} is to be predicted? Name it in args.target.",
            expected=f"one of {', '.join(arrays)}",
            received="no target",
        )
    return found[0]
