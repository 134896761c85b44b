"""The content of examples: what identifies it, and whether it can be used."""

from collections.abc import Callable, Sequence
from hashlib import blake2b

import numpy as np

from bmp.data.source import Target
from bmp.errors import DataError
from bmp.transforms import Columns, Field
from bmp.transforms.audio import decode_wav
from bmp.transforms.image import decode_image

HASH_BYTES = 16
"""128 bits: two of a billion different examples meet by chance about once in 10^21 sources."""


def hash_examples(columns: Columns, fields: Sequence[Field]) -> np.ndarray:
    """Returns BLAKE2b of the features of each example, uint8 `(n, 16)`: equal exactly for equal content.

    Features go in by name, so their order means nothing; -0 counts as 0 and every NaN as the same one.
    """
    ordered = sorted(fields, key=lambda field: field.name)
    fixed = [_to_bytes(columns[field.name]) for field in ordered if field.kind in ("number", "tensor")]
    texts = [columns[field.name] for field in ordered if field.kind not in ("number", "tensor")]
    count = len(next(iter(columns.values())))
    rows = np.concatenate(fixed, axis=1) if fixed else np.empty((count, 0), np.uint8)  # (n, bytes)
    hashes = bytearray()
    for number in range(count):
        content = blake2b(rows[number].tobytes(), digest_size=HASH_BYTES)
        for column in texts:
            value = column[number]
            data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
            content.update(len(data).to_bytes(8, "little"))  # so that "ab", "c" is not "a", "bc"
            content.update(data)
        hashes += content.digest()
    return np.frombuffer(bytes(hashes), np.uint8).reshape(count, HASH_BYTES)


def _to_bytes(array: np.ndarray) -> np.ndarray:
    """Returns the little-endian bytes of each example, uint8 `(n, size)`."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array + array.dtype.type(0))
    rows = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(len(array), -1)
    return rows.view(np.uint8).reshape(len(array), -1)


def check_form(columns: Columns, fields: Sequence[Field], count: int) -> None:
    """Checks that a source gives what its fields promise.

    Raises:
        DataError: It does not; a mistake of the source, not of an example.
    """
    names = [field.name for field in fields]
    if sorted(columns) != sorted(names):
        raise DataError(f"The source gave the features {', '.join(columns)}; its fields are {', '.join(names)}.")
    for field in fields:
        array = columns[field.name]
        dtype = np.dtype({"number": "float32", "tensor": field.dtype}.get(field.kind, "object"))
        if array.shape != (count, *field.shape) or array.dtype != dtype:
            raise DataError(
                f"The source gave '{field.name}' as {array.dtype} {array.shape}; expected {dtype} "
                f"{(count, *field.shape)}, as its field says.",
                expected=f"{dtype} {(count, *field.shape)}",
                received=f"{array.dtype} {array.shape}",
            )


def find_bad_features(columns: Columns, fields: Sequence[Field], filled: frozenset[str]) -> dict[int, str]:
    """Returns what is wrong, by position in the batch.

    Args:
        columns: `(n, …)` by name.
        fields: What they are.
        filled: Names of the features whose missing values a transform fills in.
    """
    bad: dict[int, str] = {}
    for field in fields:
        for position, reason in _find_bad(columns[field.name], field, field.name in filled).items():
            bad.setdefault(position, reason)
    return bad


def _find_bad(array: np.ndarray, field: Field, is_filled: bool) -> dict[int, str]:
    if field.kind in ("number", "tensor"):
        return _find_bad_numbers(array, field, is_filled)
    checks: dict[str, Callable] = {"image": decode_image, "audio": _check_audio, "text": _check_text}
    if field.kind not in checks or (field.kind == "text" and is_filled):
        return {}
    bad = {}
    for position, value in enumerate(array):
        try:
            checks[field.kind](value)
        except ValueError as error:
            bad[position] = str(error).rstrip(".")
    return bad


def _find_bad_numbers(array: np.ndarray, field: Field, is_filled: bool) -> dict[int, str]:
    rows = array.reshape(len(array), -1)  # (n, numbers)
    wrong = np.zeros(rows.shape, bool)
    if array.dtype.kind == "f":
        wrong = np.isinf(rows) if is_filled else ~np.isfinite(rows)
    if field.vocabulary is not None:
        wrong = (rows < 0) | (rows >= field.vocabulary)
    if not wrong.any():
        return {}
    bad = {}
    for position in np.flatnonzero(wrong.any(axis=1)):
        value = rows[position][wrong[position]][0]
        if field.vocabulary is not None:
            bad[int(position)] = f"'{field.name}' holds {value}; expected 0 to {field.vocabulary - 1}"
        elif np.isinf(value) or field.kind == "tensor":
            bad[int(position)] = f"'{field.name}' holds {value}; expected finite numbers"
        else:
            bad[int(position)] = f"'{field.name}' is missing, and no transform fills it in"
    return bad


def _check_audio(data: bytes) -> None:
    decode_wav(data)
    # The decoder is content with what is there; the header says what there should be (0 and -1: it did not know).
    size = int.from_bytes(data[4:8], "little")
    if size not in (0, 0xFFFFFFFF) and size + 8 > len(data):
        raise ValueError(f"the WAV file is cut short: {len(data):,} of {size + 8:,} bytes")


def _check_text(text: str) -> None:
    if not text.strip():
        raise ValueError("the text is empty")


def find_bad_targets(targets: np.ndarray, target: Target) -> dict[int, str]:
    """Returns what is wrong with some targets, by position in the batch.

    Raises:
        DataError: They are not what the source says its targets are; a mistake of the source.
    """
    classes = len(target.labels)
    dtype = {"class": "int64", "tokens": "int32"}.get(target.kind, "float32")
    shape = {"class": (), "multilabel": (classes,)}.get(target.kind, (target.width,))
    if targets.dtype != dtype or targets.shape[1:] != shape:
        raise DataError(
            f"The source gave targets as {targets.dtype} {targets.shape}; expected {dtype} "
            f"{(len(targets), *shape)} for the kind '{target.kind}'."
        )
    if target.kind in ("class", "tokens"):
        wrong, expected = (targets < 0) | (targets >= classes), f"0 to {classes - 1}, the indices of the labels"
    elif target.kind == "multilabel":
        wrong, expected = (targets != 0) & (targets != 1), "0 or 1 for each label"
    else:
        wrong, expected = ~np.isfinite(targets), "finite numbers"
    wrong, rows = wrong.reshape(len(targets), -1), targets.reshape(len(targets), -1)
    return {
        int(position): f"the target holds {rows[position][wrong[position]][0]}; expected {expected}"
        for position in np.flatnonzero(wrong.any(axis=1))
    }
