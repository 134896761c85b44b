"""Written records as a source: any example by its number, without reading what comes before."""

from pathlib import Path
from typing import Any

import numpy as np

from bmp.data.records.example import RecordError, decode, describe_target
from bmp.data.records.keys import check_key
from bmp.data.records.layout import plan_layout
from bmp.data.records.manifest import Manifest, Plan, check_entry, read_manifest
from bmp.data.records.packing import Packing
from bmp.data.records.shard import Form, Shard
from bmp.data.records.tfrecord import FRAME_BYTES, unframe, unframe_alike
from bmp.data.source import Source, Target
from bmp.errors import DataError
from bmp.transforms import Columns, Field, Preprocessing


def read_form(plan: Plan, key: bytes | None) -> Form:
    """Returns what every shard of a set has in common."""
    fields = tuple(Field.from_dict(field) for field in plan.fields)
    target = describe_target(read_target(plan.target), fields)
    packing = Packing(plan.compression, key, plan.id)
    return Form(fields, target, packing, plan_layout((*fields, target)))


def read_target(data: dict[str, Any]) -> Target:
    """Returns a target from its JSON form."""
    return Target(data["kind"], tuple(data["labels"]), data["width"])


class RecordSource(Source):
    """The examples of a directory of records.

    Args:
        directory: That `bmp.data.records.convert` wrote.
        key: Of encrypted records.
        verify: Whether to compare the content of every shard with its digest first; the indices always are.

    Raises:
        DataError: A file is missing or not what was written, or the key is another one.
    """

    def __init__(self, directory: Path, key: bytes | None = None, *, verify: bool = False) -> None:
        manifest = read_manifest(directory)
        check_key(key, manifest.key_check, manifest.id, directory)
        key = key if manifest.key_check is not None else None
        _check_files(directory, manifest, key, verify)
        form = read_form(manifest, key)
        plans = list(manifest.list_shards())
        self.fields = form.fields
        self.target = read_target(manifest.target)
        self.overlaps = manifest.overlaps
        self.given = _number_splits(manifest)
        self._read_serving(manifest)
        self._form = form
        self._shards = [Shard(directory, plan, form) for plan in plans]
        self._starts = np.array([plan.start for plan in plans])
        self._count = plans[-1].stop
        self._memories = [memoryview(shard.memory) for shard in self._shards]
        self._targets = [shard.targets for shard in self._shards]
        self._hashes = [shard.hashes for shard in self._shards]

    def _read_serving(self, manifest: Manifest) -> None:
        if manifest.serving is None:
            return
        serving = Preprocessing.from_dict(manifest.serving)
        self.serving_fields, self.serving_steps = serving.fields, serving.steps

    @property
    def is_encrypted(self) -> bool:
        """Whether the records cannot be read without their key."""
        return self._form.packing.encrypts

    def __len__(self) -> int:
        return self._count

    def read(self, index: np.ndarray) -> Columns:
        """Returns the features of some examples.

        Raises:
            DataError: A record is not what was written.
        """
        shards, positions = self._find(index)
        try:
            if self._form.layout is None:
                return decode(self._unpack(shards, positions), self.fields)
            return self._form.layout.cut(self._line_up(shards, positions, self._form.layout.size), self.fields)
        except RecordError as error:
            shard, position = self._shards[shards[error.position]], int(positions[error.position])
            raise shard.name_failure(position, error.reason) from error

    def _unpack(self, shards: np.ndarray, positions: np.ndarray) -> list[bytes]:
        examples: list[bytes] = []
        try:
            for shard, position in zip(shards.tolist(), positions.tolist(), strict=True):
                examples.append(self._shards[shard].unpack(position))
        except ValueError as error:
            raise RecordError(len(examples), str(error)) from error
        return examples

    def _line_up(self, shards: np.ndarray, positions: np.ndarray, size: int) -> np.ndarray:
        """Returns examples that are all of one length, uint8 `(n, size)`."""
        memories = self._memories
        if not self._form.packing.is_plain:
            examples = self._unpack(shards, positions)
            for position, example in enumerate(examples):
                if len(example) != size:
                    raise RecordError(position, f"it has {len(example)} bytes; expected {size}")
            return np.frombuffer(b"".join(examples), np.uint8).reshape(-1, size)
        step = size + FRAME_BYTES
        places = zip(shards.tolist(), (positions * step).tolist(), strict=True)
        raw = b"".join([memories[shard][start : start + step] for shard, start in places])
        rows, whole = unframe_alike(raw, size)
        if not whole.all():
            position = int(whole.argmin())
            raise RecordError(position, _explain(raw[position * step : (position + 1) * step]))
        return rows

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the targets of some examples, from the indices."""
        return self._gather(self._targets, index)

    def read_hashes(self, index: np.ndarray) -> np.ndarray:
        """Returns the digests of some examples, from the indices."""
        return self._gather(self._hashes, index)

    def where(self, number: int) -> str:
        """Returns the shard and the position in it."""
        shards, positions = self._find(np.array([number]))
        return f"{self._shards[shards[0]].path}, record {positions[0]}"

    def _find(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the shard of each example and its position there."""
        if len(index) and (index.min() < 0 or index.max() >= self._count):
            raise IndexError(f"There are only examples 0 to {self._count - 1}.")
        shards = np.searchsorted(self._starts, index, side="right") - 1
        return shards, index - self._starts[shards]

    def _gather(self, columns: list[np.ndarray], index: np.ndarray) -> np.ndarray:
        shards, positions = self._find(index)
        values = np.empty((len(index), *columns[0].shape[1:]), columns[0].dtype.newbyteorder("="))
        if len(index) < 16 * len(columns):  # few from many shards: one at a time is quicker
            for row, (shard, position) in enumerate(zip(shards.tolist(), positions.tolist(), strict=True)):
                values[row] = columns[shard][position]
            return values
        for shard in np.unique(shards):
            rows = shards == shard
            values[rows] = columns[shard][positions[rows]]
        return values


def _check_files(directory: Path, manifest: Manifest, key: bytes | None, verify: bool) -> None:
    if manifest.sealed(key).seal != manifest.seal:
        raise DataError(
            f"{directory}/dataset.json was altered after it was written. Fetch it or convert the data again."
        )
    for plan in manifest.list_shards():
        for name in (plan.index, plan.records):
            if name not in manifest.files:
                raise DataError(f"{directory}/dataset.json does not list {name}; it is damaged.")
            check_entry(directory / name, manifest.files[name], content=verify or name == plan.index)


def _number_splits(manifest: Manifest) -> dict[str, np.ndarray]:
    if list(manifest.splits) == ["all"]:
        return {}
    stops = np.cumsum(list(manifest.splits.values()))
    return {
        name: np.arange(stop - count, stop) for (name, count), stop in zip(manifest.splits.items(), stops, strict=True)
    }


def _explain(record: bytes) -> str:
    try:
        unframe(record)
    except ValueError as error:
        return str(error)
    return "it is no record of this set"
