"""Examples of one length: where each value stands, so that whole batches are cut without parsing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bmp.data.records.example import RecordError, encode, little_endian, size_of, to_native
from bmp.transforms import Columns, Field


@dataclass(frozen=True)
class Layout:
    """How every serialized example looks whose features all have a fixed size.

    Args:
        template: An example whose values are all zero, uint8 `(E,)`.
        spans: Where the value of each feature stands in it.
        fixed: Stretches that are the same in every example.
    """

    template: np.ndarray
    spans: Mapping[str, slice]
    fixed: tuple[slice, ...]

    @property
    def size(self) -> int:
        """Bytes of an example."""
        return len(self.template)

    def cut(self, rows: np.ndarray, fields: Sequence[Field]) -> Columns:
        """Returns some values of some examples `(N, E)`.

        Raises:
            RecordError: One is no example of these features.
        """
        foreign = np.zeros(len(rows), bool)
        for stretch in self.fixed:
            foreign |= (rows[:, stretch] != self.template[stretch]).any(axis=1)
        if foreign.any():
            raise RecordError(int(foreign.argmax()), "it is no example of this set")
        return {field.name: to_native(rows[:, self.spans[field.name]].copy(order="C"), field) for field in fields}


def plan_layout(fields: Sequence[Field]) -> Layout | None:
    """Returns the common layout of examples of these features, or None where a value may have any size."""
    if any(size_of(field) is None for field in fields):
        return None
    columns = {field.name: np.zeros((1, *field.shape), little_endian(field).newbyteorder("=")) for field in fields}
    template = _encode_one(columns, fields)
    spans = {}
    for field in fields:
        ones = np.full((1, size_of(field) or 0), 0xFF, np.uint8)
        other = _encode_one(columns | {field.name: to_native(ones, field)}, fields)
        (changed,) = np.nonzero(other != template)  # exactly where the value stands
        spans[field.name] = slice(int(changed[0]), int(changed[-1]) + 1) if len(changed) else slice(0, 0)
    ends = sorted([(0, 0), *((span.start, span.stop) for span in spans.values()), (len(template),) * 2])
    fixed = tuple(slice(stop, start) for (_, stop), (start, _) in pairwise(ends) if stop < start)
    return Layout(template, spans, fixed)


def _encode_one(columns: Columns, fields: Sequence[Field]) -> np.ndarray:
    return np.frombuffer(encode(columns, fields)[0], np.uint8)
