"""Records on disk: sharded, checksummed, by number; other people's TFRecord files as well."""

from pathlib import Path
from typing import Any

from bmp.data.records.convert import Options, convert
from bmp.data.records.foreign import TfrecordSource
from bmp.data.records.keys import read_key
from bmp.data.records.manifest import MANIFEST_FILE, PLAN_FILE
from bmp.data.records.source import RecordSource
from bmp.data.source import Source
from bmp.errors import ConfigError

__all__ = ["Options", "RecordSource", "TfrecordSource", "convert", "load_records"]


def load_records(
    *,
    path: str,
    key_file: str | None = None,
    verify: bool = False,
    features: dict[str, dict[str, Any]] | None = None,
    target: str | None = None,
    labels: list[str] | None = None,
) -> Source:
    """Opens records: a directory that `bmp data convert` wrote, or plain TFRecord files of others.

    Args:
        path: The directory; or a TFRecord file, a directory of them, or a pattern such as `data/*.tfrecord`.
        key_file: File with the key of encrypted records; else the environment variable BMP_DATA_KEY.
        verify: Whether to read every file once and compare its digest before anything else.
        features: Of plain TFRecord files: each feature by name, as `{kind: …, dtype: …, shape: […]}`; else they are
            taken from the first record.
        target: Of plain TFRecord files: the feature that is to be predicted; `label` if none is named.
        labels: Of plain TFRecord files: names of the classes, by index.
    """
    directory = Path(path)
    if (directory / MANIFEST_FILE).exists() or (directory / PLAN_FILE).exists():
        given = {"features": features, "target": target, "labels": labels}
        if unused := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"The records in {path} say themselves what they hold; remove {', '.join(unused)}.")
        records = RecordSource(directory, read_key(key_file), verify=verify)
        if key_file is not None and not records.is_encrypted:
            raise ConfigError(f"The records in {path} are not encrypted, though key_file names a key; remove it.")
        return records
    if key_file is not None:
        raise ConfigError(f"There are no encrypted records in {path}: it has no {MANIFEST_FILE}. Remove key_file.")
    return TfrecordSource(_find_files(path), features, target or "label", labels, verify=verify)


def _find_files(path: str) -> list[Path]:
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        files = [file for file in sorted(place.iterdir()) if file.is_file() and "tfrecord" in file.name.lower()]
    else:
        files = sorted(file for file in Path(place.anchor).glob(str(place.relative_to(place.anchor))) if file.is_file())
    if not files:
        raise ConfigError(
            f"There are no records at {path}. Name a directory that 'bmp data convert' wrote, a TFRecord file, a "
            "directory of files with 'tfrecord' in their names, or a pattern.",
            expected="records",
            received=path,
        )
    return files
