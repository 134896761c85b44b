"""Flatbuffers, verified: every offset leads to something whole inside the file, before any of it is followed.

A table stands for the positions of its fields; where those of others are, a small language of layouts says. A layout
lists the slots of a table:

    1 2 4 8     a number of so many bytes, inside the table
    0           a slot that is no longer read
    s           text, which ends with a zero byte
    Name        another table
    [4]         a list of numbers of so many bytes
    [Name]      a list of tables
    <Name>      one of the tables of a union; the slot before says which
"""

import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from bmp.artifact.guard.limits import Limits
from bmp.errors import ArtifactError, UnsafeError

_SLOT = re.compile(r"\[\w+\]|<\w+>|[A-Z]\w*|[01248s]")
_NUMBER_BYTES = {"1": 1, "2": 2, "4": 4, "8": 8}


class Table:
    """One table of a flatbuffer; its fields are read by slot.

    Args:
        content: Of the file.
        position: Of the table.

    Raises:
        ArtifactError: It does not lie inside the file.
    """

    def __init__(self, content: bytes, position: int) -> None:
        self._content, self.position = content, position
        self._slots = position - self._read("<i", position)
        self._slots_bytes, self._bytes = self._read("<H", self._slots), self._read("<H", self._slots + 2)
        whole = self._slots_bytes >= 4 and self._bytes >= 4 and position + self._bytes <= len(content)
        if not whole or self._slots_bytes % 2 or self._slots + self._slots_bytes > len(content):
            raise _damaged(f"a table at {position} is cut off")

    def find(self, slot: int, size_bytes: int = 1) -> int | None:
        """Returns where a field stands, or None where the table leaves it out."""
        place = 4 + 2 * slot
        offset = self._read("<H", self._slots + place) if place + 2 <= self._slots_bytes else 0
        if not offset:
            return None
        if offset + size_bytes > self._bytes or offset < 4:
            raise _damaged(f"field {slot} of the table at {self.position} lies outside of it")
        return self.position + offset

    def number(self, slot: int, code: str, default: int = 0) -> int:
        """Returns a number; `code` is that of `struct`, such as `<i`."""
        place = self.find(slot, struct.calcsize(code))
        return default if place is None else self._read(code, place)

    def numbers(self, slot: int, dtype: str) -> np.ndarray:
        """Returns a list of numbers of a numpy type; an empty one where it is left out."""
        start, count = self.span(slot, np.dtype(dtype).itemsize)
        return np.frombuffer(self._content, dtype, count, start) if count else np.zeros(0, dtype)

    def text(self, slot: int) -> str | None:
        """Returns text, or None where it is left out."""
        if self.find(slot, 4) is None:
            return None
        start, count = self.span(slot, 1)
        if self._content[start + count : start + count + 1] != b"\0":
            raise _damaged(f"a text at {start} does not end")
        return self._content[start : start + count].decode("utf-8", "replace")

    def table(self, slot: int) -> "Table | None":
        """Returns another table, or None where it is left out."""
        place = self.find(slot, 4)
        return None if place is None else Table(self._content, self._follow(place))

    def tables(self, slot: int) -> list["Table"]:
        """Returns a list of tables; an empty one where it is left out."""
        start, count = self.span(slot, 4)
        return [Table(self._content, self._follow(start + 4 * number)) for number in range(count)]

    def span(self, slot: int, item_bytes: int) -> tuple[int, int]:
        """Returns where a list begins and how many items it has; `(0, 0)` where it is left out."""
        place = self.find(slot, 4)
        if place is None:
            return 0, 0
        start = self._follow(place)
        count = self._read("<I", start)
        if start + 4 + count * item_bytes > len(self._content):
            raise _damaged(f"a list of {count:,} at {start} is cut off")
        return start + 4, count

    def _follow(self, place: int) -> int:
        offset = self._read("<I", place)
        if not offset:
            raise _damaged(f"an offset at {place} leads nowhere")
        return place + offset

    def _read(self, code: str, place: int) -> int:
        if place < 0 or place + struct.calcsize(code) > len(self._content):
            raise _damaged(f"an offset leads to {place:,}, outside of the file")
        return int(struct.unpack_from(code, self._content, place)[0])


def open_root(content: bytes, identifier: bytes) -> Table:
    """Returns the table at the root of a flatbuffer.

    Raises:
        ArtifactError: The file does not begin with the identifier, or has no such table.
    """
    if len(content) < 8 or content[4:8] != identifier:
        raise ArtifactError(
            "It does not begin as a flatbuffer of this kind.", expected=identifier.decode(), received="other bytes"
        )
    return Table(content, struct.unpack_from("<I", content)[0])


def check_tables(
    root: Table, name: str, layouts: Mapping[str, str], unions: Mapping[str, Sequence[str]], limits: Limits
) -> None:
    """Checks that everything that can be reached from a table lies inside the file.

    Args:
        root: The table.
        name: Of its layout.
        layouts: By name of the table.
        unions: Layouts by the number that says which, by name of the union.
        limits: On the number of tables and how deep they nest.

    Raises:
        ArtifactError: Something does not.
        UnsafeError: There are too many tables, or they nest too deep.
    """
    seen: set[tuple[int, str]] = set()

    def check(table: Table, layout: str, depth: int) -> None:
        if (table.position, layout) in seen:
            return
        seen.add((table.position, layout))
        if len(seen) > limits.objects or depth > limits.depth:
            raise UnsafeError(f"It has more than {limits.objects:,} tables, or they nest deeper than {limits.depth}.")
        for slot, kind in enumerate(_read_layout(layout)):
            for inner, inner_layout in _check_slot(table, slot, kind, layouts, unions):
                check(inner, inner_layout, depth + 1)

    check(root, layouts[name], 0)


def _check_slot(
    table: Table, slot: int, kind: str, layouts: Mapping[str, str], unions: Mapping[str, Sequence[str]]
) -> list[tuple[Table, str]]:
    """Checks one field, and returns the tables that it leads to with their layouts."""
    inner = kind.strip("[]<>")
    if kind in _NUMBER_BYTES:
        table.find(slot, _NUMBER_BYTES[kind])
    elif kind == "s":
        table.text(slot)
    elif inner in _NUMBER_BYTES:
        table.span(slot, _NUMBER_BYTES[inner])
    elif kind.startswith("["):
        return [(held, layouts[inner]) for held in table.tables(slot)]
    elif kind.startswith("<"):
        return _open_union(table, slot, unions[inner])
    elif kind != "0":
        held = table.table(slot)
        return [] if held is None else [(held, layouts[inner])]
    return []


def _open_union(table: Table, slot: int, members: Sequence[str]) -> list[tuple[Table, str]]:
    which = table.number(slot - 1, "<B")
    if which >= len(members):
        raise ArtifactError(f"It has options of the kind {which}, which this version does not know.")
    held = table.table(slot) if which else None
    return [] if held is None else [(held, members[which])]


@cache
def _read_layout(layout: str) -> tuple[str, ...]:
    return tuple(_SLOT.findall(layout))


def _damaged(fault: str) -> ArtifactError:
    return ArtifactError(f"It is no whole flatbuffer: {fault}.")
