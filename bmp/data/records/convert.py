"""Any source, written as records: sharded, restartable, whole or not at all."""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from hmac import digest as keyed_digest
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console

from bmp.data.records.example import decode
from bmp.data.records.keys import check_key, derive_key
from bmp.data.records.manifest import (
    MANIFEST_FILE,
    PLAN_FILE,
    BadEntry,
    Manifest,
    Plan,
    ShardPlan,
    digest_file,
    read_manifest,
    read_plan,
    write_plan,
)
from bmp.data.records.packing import Compression
from bmp.data.records.shard import LEFT_BEHIND, Form, Shard, write_shard
from bmp.data.records.source import read_form
from bmp.data.scan import Scan, check_policy, chunk_size, scan_source
from bmp.data.source import Source
from bmp.errors import ConfigError, DataError
from bmp.storage import sync_directory
from bmp.transforms import Columns, Preprocessing, Step

_LISTED_BAD = 100


class _MissingIsKept(Step):
    """Tells the scan that a missing number is no fault: training decides about it, not the records."""

    kind: str = "fill"
    fields: list[str]


@dataclass(frozen=True)
class Options:
    """How records are written.

    Args:
        shards: Files of each split.
        compression: Of each record by itself.
        key: 32 bytes that records are encrypted with; None leaves them readable.
        on_bad_example: What an example that cannot be used does: `stop` the conversion, or be left out.
        max_bad_fraction: With `skip`: the share of bad examples above which the conversion ends all the same.
    """

    shards: int = 1
    compression: Compression = "none"
    key: bytes | None = field(default=None, repr=False)
    on_bad_example: Literal["stop", "skip"] = "stop"
    max_bad_fraction: float = 0.01


def convert(
    source: Source,
    directory: Path,
    options: Options,
    *,
    description: Mapping[str, Any],
    given: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    console: Console | None = None,
) -> Manifest:
    """Writes the usable examples of a source as records.

    May be ended at any moment: started again with the same settings, it keeps what is whole and goes on.

    Args:
        source: The examples.
        directory: New, empty, or that of the same conversion.
        options: How.
        description: Where the examples come from, in the words of a recipe.
        given: Numbers of the examples of each split; None are those of the source.
        progress: Called with the examples written, and all there are to write.
        console: Where a long look at the examples shows its progress.

    Raises:
        ConfigError: The directory holds something else, or another conversion is writing there.
        DataError: The examples cannot be used.
    """
    numbers = [field.name for field in source.fields if field.kind == "number"]
    scan = scan_source(source, (_MissingIsKept(fields=numbers),) if numbers else (), console)
    check_policy(scan, options.on_bad_example, options.max_bad_fraction)
    splits = _take_splits(scan, source.given if given is None else given)
    order = np.concatenate(list(splits.values()))  # (N,) positions in the scan
    with _hold(directory):
        plan = _settle_plan(source, scan, splits, directory, options, description)
        form = read_form(plan, options.key)
        for shard in plan.list_shards():
            part = order[shard.start : shard.stop]
            if not _is_written(directory, shard, form, source, scan, part):
                write_shard(
                    directory, shard, form, _read_batches(source, scan, part, shard.start, progress, len(order))
                )
            progress(shard.stop, len(order))
        return _finish(plan, directory, options.key)


def _take_splits(scan: Scan, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the positions in the scan of each split that is to be written."""
    if not given:
        return {"all": np.arange(len(scan.good))}
    splits = {name: np.flatnonzero(np.isin(scan.good, numbers)) for name, numbers in given.items()}
    splits = {name: positions for name, positions in splits.items() if len(positions)}
    if not splits:
        raise DataError(f"None of the usable examples is in one of the splits {', '.join(given)}.")
    return splits


@contextmanager
def _hold(directory: Path) -> Iterator[None]:
    """Makes the directory, keeps others from writing there meanwhile, and removes what a killed writer left."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"{directory} cannot be made a directory of records: {error.strerror or error}.") from error
    try:
        _lock(descriptor, directory)
        for path in directory.iterdir():
            if LEFT_BEHIND.fullmatch(path.name):
                path.unlink()
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, directory: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(f"Another conversion is writing to {directory}; wait for it, or name another.") from error


def _settle_plan(
    source: Source,
    scan: Scan,
    splits: Mapping[str, np.ndarray],
    directory: Path,
    options: Options,
    description: Mapping[str, Any],
) -> Plan:
    """Writes down what is to be written, or finds that the same has been begun.

    Raises:
        ConfigError: The directory holds something else.
    """
    content = sha256(scan.digest.encode())
    for name, positions in splits.items():
        content.update(f"{name} {len(positions)}".encode() + scan.good[positions].tobytes())
    begun = read_plan(directory)
    if begun is not None:
        if (begun.key_check is None) != (options.key is None):
            was = "encrypted" if begun.key_check else "not encrypted"
            raise ConfigError(f"The records in {directory} are {was}; name another directory, or the same settings.")
        check_key(options.key, begun.key_check, begun.id, directory)
    elif any(directory.iterdir()):
        raise ConfigError(
            f"{directory} is not empty and holds no records. Name a new directory.",
            expected="an empty directory",
            received=", ".join(sorted(path.name for path in directory.iterdir())[:3]),
        )
    identity = content.hexdigest()[:32]
    if options.key is not None:
        identity = begun.id if begun else secrets.token_hex(16)
    plan = _make_plan(source, scan, splits, options, description, identity, content.digest())
    if begun is None:
        write_plan(plan, directory, PLAN_FILE)
    elif begun != plan:
        changed = next(
            name for name in Plan.model_fields if name != "id" and getattr(begun, name) != getattr(plan, name)
        )
        there, now = _shorten(getattr(begun, changed)), _shorten(getattr(plan, changed))
        raise ConfigError(
            f"{directory} holds records that differ from these in '{changed}': {there} there, {now} now. "
            "Name another directory.",
            expected=there,
            received=now,
        )
    return plan


def _make_plan(
    source: Source,
    scan: Scan,
    splits: Mapping[str, np.ndarray],
    options: Options,
    description: Mapping[str, Any],
    identity: str,
    content: bytes,
) -> Plan:
    key = options.key
    bad = () if key else tuple(BadEntry(where=bad.where, reason=bad.reason) for bad in scan.bad[:_LISTED_BAD])
    plan = Plan(
        id=identity,
        source=dict(description),
        content=(content if key is None else keyed_digest(derive_key(key, "content", identity), content, sha256)).hex(),
        fields=[field.to_dict() for field in source.fields],
        target=asdict(source.target) | {"labels": list(source.target.labels)},
        serving=_describe_serving(source),
        overlaps=source.overlaps,
        compression=options.compression,
        key_check=None if key is None else derive_key(key, "check", identity).hex(),
        splits={name: len(positions) for name, positions in splits.items()},
        shards=options.shards,
        num_bad=len(scan.bad),
        bad=bad,
    )
    return Plan.model_validate_json(plan.model_dump_json())  # as it is when it is read again


def _describe_serving(source: Source) -> dict[str, Any] | None:
    if not source.serving_fields:
        return None
    return Preprocessing(source.serving_fields, source.serving_steps).to_dict()


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_batches(
    source: Source, scan: Scan, part: np.ndarray, start: int, progress: Callable[[int, int], None], total: int
) -> Iterator[tuple[Columns, np.ndarray, np.ndarray]]:
    size = chunk_size(source)
    for first in range(0, len(part), size):
        positions = part[first : first + size]
        numbers = scan.good[positions]
        yield source.read(numbers), source.read_targets(numbers), scan.hashes[positions]
        progress(start + first + len(positions), total)


def _is_written(directory: Path, plan: ShardPlan, form: Form, source: Source, scan: Scan, part: np.ndarray) -> bool:
    """Whether a shard is there, whole, and holds exactly the examples it is to hold."""
    if not (directory / plan.index).exists():
        return False
    size, fields = chunk_size(source), (*form.fields, form.target)
    try:
        shard = Shard(directory, plan, form)
        for first in range(0, len(part), size):
            rows = slice(first, first + size)
            hashes, targets = scan.hashes[part[rows]], source.read_targets(scan.good[part[rows]])
            stored = decode([shard.unpack(position) for position in range(*rows.indices(len(part)))], fields)
            found = (shard.hashes[rows], shard.targets[rows], stored[form.target.name])
            if not all(map(np.array_equal, found, (hashes, targets, targets))):
                return False
    except ValueError:  # a record or an index that is not what was written: DataError is one
        return False
    return True


def _finish(plan: Plan, directory: Path, key: bytes | None) -> Manifest:
    names = [name for shard in plan.list_shards() for name in (shard.records, shard.index)]
    files = {name: digest_file(directory / name) for name in names}
    manifest = Manifest(**dict(plan), files=files).sealed(key)
    if not (directory / MANIFEST_FILE).exists() or read_manifest(directory) != manifest:
        write_plan(manifest, directory, MANIFEST_FILE)
    (directory / PLAN_FILE).unlink(missing_ok=True)
    sync_directory(directory)
    return manifest
