"""A shard: a TFRecord file, and beside it an index with the place, digest and target of each record.

The index is a numpy array (`.npy`), mapped from the file; of encrypted records it is encrypted as a whole, for digests
and targets tell what the records hold.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmp.data.content import HASH_BYTES
from bmp.data.records.example import encode, little_endian
from bmp.data.records.layout import Layout
from bmp.data.records.manifest import ShardPlan
from bmp.data.records.packing import Packing
from bmp.data.records.tfrecord import frame, map_file, unframe
from bmp.errors import DataError
from bmp.storage import open_atomically, write_atomically
from bmp.transforms import Columns, Field

INDEX = -1
"""The position of the index, among those of records."""
LEFT_BEHIND = re.compile(r"\..+\.(json|index|tfrecord)-[0-9a-f]{16}")
"""Names of files that are still being written, here or by bmp.storage; after a kill they stay."""


def index_dtype(target: Field) -> np.dtype:
    """Returns what the index holds for each record."""
    return np.dtype(
        [
            ("offset", "<u8"),
            ("length", "<u4"),
            ("hash", "u1", (HASH_BYTES,)),
            ("target", little_endian(target), target.shape),
        ]
    )


@dataclass(frozen=True)
class Form:
    """What every shard of a set has in common.

    Args:
        fields: The features of an example.
        target: The feature its target is stored as.
        packing: What happens to a record before it is stored.
        layout: Where every record looks alike.
    """

    fields: tuple[Field, ...]
    target: Field
    packing: Packing
    layout: Layout | None


def write_shard(
    directory: Path, plan: ShardPlan, form: Form, batches: Iterator[tuple[Columns, np.ndarray, np.ndarray]]
) -> None:
    """Writes a shard; its index comes last and makes it complete.

    Args:
        directory: Where to.
        plan: Its name and size.
        form: Of the set.
        batches: Features, targets and digests of some examples each, as many as planned in all.

    Raises:
        DataError: The examples are not what their features say.
    """
    index = np.zeros(len(plan), index_dtype(form.target))
    position = offset = 0
    with open_atomically(directory / plan.records) as file:
        for columns, targets, hashes in batches:
            rows = index[position : position + len(targets)]
            rows["target"], rows["hash"] = targets, hashes
            stored = {**columns, form.target.name: targets}
            for row, example in zip(rows, encode(stored, (*form.fields, form.target)), strict=True):
                record = frame(form.packing.pack(example, (plan.name, position)))
                row["offset"], row["length"] = offset, len(record)
                file.write(record)
                offset += len(record)
                position += 1
    if position != len(plan):
        raise DataError(f"{plan.name} was to hold {len(plan)} examples, but the source gave {position}.")
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, index, allow_pickle=False)
    write_atomically(directory / plan.index, form.packing.encrypt(buffer.getvalue(), (plan.name, INDEX)))


class Shard:
    """A written shard, mapped; nothing is read before it is asked for.

    Args:
        directory: Of the set.
        plan: Name and size.
        form: Of the set.

    Raises:
        DataError: The index is not what was written.
    """

    def __init__(self, directory: Path, plan: ShardPlan, form: Form) -> None:
        self.path = directory / plan.records
        self.plan = plan
        self._form = form
        self.memory = map_file(self.path)
        index = self._load_index(directory / plan.index)
        self.offsets, self.lengths = index["offset"], index["length"]
        self.hashes, self.targets = index["hash"], index["target"]

    def _load_index(self, path: Path) -> np.ndarray:
        try:
            raw = map_file(path)
            if self._form.packing.encrypts:
                raw = self._form.packing.decrypt(raw[:], (self.plan.name, INDEX))
            head = io.BytesIO(raw[:4096])
            np.lib.format.read_magic(head)
            shape, _, dtype = np.lib.format.read_array_header_1_0(head)
            if shape != (len(self.plan),) or dtype != index_dtype(self._form.target):
                raise ValueError(f"it holds {shape} of {dtype}")
            return np.frombuffer(raw, dtype, len(self.plan), head.tell())
        except ValueError as error:
            raise DataError(f"{path} is not the index that was written ({error}). Convert the data again.") from error

    def name_failure(self, position: int, reason: object) -> DataError:
        """Returns the error of a record that is not what was written."""
        return DataError(
            f"{self.path}, record {position}: {reason}. The file was altered or damaged after it was written; fetch it "
            "or convert the data again."
        )

    def unpack(self, position: int) -> bytes:
        """Returns one record as it was before it was packed.

        Raises:
            ValueError: It is not what was written.
        """
        start = int(self.offsets[position])
        record = self.memory[start : start + int(self.lengths[position])]
        return self._form.packing.unpack(unframe(record), (self.plan.name, position))
