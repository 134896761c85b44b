"""The journal of a model: all that happened to it, append-only, each line chained to the one before.

It is what the registry believes: a version or an alias is what the journal says it is, from the moment that its line is
on the disk.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bmp.errors import RegistryError
from bmp.storage import append_durably, read_plain


@dataclass(frozen=True)
class Position:
    """A place in a journal, after a whole line.

    Args:
        offset: In bytes.
        sequence: Number of the last line; 0 before the first.
        sha256: Of the last line.
        time: Of the last line.
    """

    offset: int = 0
    sequence: int = 0
    sha256: str = "0" * 64
    time: str = ""


def append_event(path: Path, event: str, *, after: Position | None = None, **details: Any) -> dict[str, Any]:
    """Appends an event and returns its record. The caller holds the model's lock.

    A last line that a crash cut short was never acknowledged to anybody; it is dropped here. Times never go back, also
    where the clock does.

    Args:
        path: Of the journal.
        event: Its kind.
        after: Where the journal ends, of a caller that has just read it.
        details: Of the event.

    Raises:
        RegistryError: The journal so far does not hold together.
    """
    if after is None:
        _, after = read_events(path)
    if path.exists() and path.stat().st_size > after.offset:
        os.truncate(path, after.offset)
    record = {
        "sequence": after.sequence + 1,
        "time": max(after.time, datetime.now(UTC).isoformat(timespec="milliseconds")),
        "event": event,
        **details,
        "previous_sha256": after.sha256,
    }
    record["sha256"] = hashlib.sha256(_to_line(record)).hexdigest()
    append_durably(path, _to_line(record))
    return record


def follow(after: Position, record: dict[str, Any]) -> Position:
    """Returns the position after a record that was appended at another one; the file is not read again."""
    return Position(after.offset + len(_to_line(record)), record["sequence"], record["sha256"], record["time"])


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Returns every record, oldest first; an empty list when there is no journal yet.

    Raises:
        RegistryError: A line was altered or removed.
    """
    return read_events(path)[0]


def read_events(path: Path, start: Position | None = None) -> tuple[list[dict[str, Any]], Position]:
    """Returns the records after a position, oldest first, and the position after them.

    Raises:
        RegistryError: A line was altered or removed, or the file cannot be read.
    """
    position = start or Position()
    try:
        data = read_plain(path, offset=position.offset)
    except FileNotFoundError:
        return [], position
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}.") from error
    records = []
    for line in data.split(b"\n")[:-1]:  # what comes after the last newline was cut short
        record = _read_line(line, position)
        if record is None:
            raise RegistryError(
                f"Line {position.sequence + 1} of {path} does not follow from the lines before it; the journal has "
                "been altered. Bring it back from a backup; or move it away and run 'bmp models repair', which takes "
                "the versions in again, without aliases and history."
            )
        records.append(record)
        position = Position(position.offset + len(line) + 1, record["sequence"], record["sha256"], record["time"])
    return records, position


def _read_line(line: bytes, after: Position) -> dict[str, Any] | None:
    """Returns the record of a line, or None where it is not the one that was written after that position."""
    try:
        record = json.loads(line)
        digest, time = record["sha256"], record["time"]
        content = line.replace(f'"sha256":"{digest}",'.encode(), b"", 1) + b"\n"  # as bytes: none may be another
        if (
            hashlib.sha256(content).hexdigest() == digest
            and record["previous_sha256"] == after.sha256
            and record["sequence"] == after.sequence + 1
            and isinstance(time, str)
        ):
            return record
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None


def _to_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"
