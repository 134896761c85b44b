"""The journal of a model: every publish and alias move, append-only, each line chained to the one before."""

import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bmp.errors import RegistryError
from bmp.storage import append_durably

_START = "0" * 64


def append_event(path: Path, event: str, **details: Any) -> dict[str, Any]:
    """Appends an event and returns its record. The caller holds the model's lock.

    A last line that a crash cut short was never acknowledged to anybody; it is dropped here.

    Raises:
        RegistryError: The journal so far does not hold together.
    """
    records = read_journal(path)
    if path.exists():
        os.truncate(path, len(_whole_lines(path)))
    record = {
        "sequence": len(records) + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        **details,
        "previous_sha256": records[-1]["sha256"] if records else _START,
    }
    record["sha256"] = _digest(record)
    append_durably(path, _to_line(record))
    return record


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Returns every record, oldest first; an empty list when there is no journal yet.

    Raises:
        RegistryError: A line was altered or removed.
    """
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    previous = _START
    for number, line in enumerate(_whole_lines(path).splitlines(), start=1):
        try:
            record = json.loads(line)
            intact = (
                record["sha256"] == _digest(record)
                and record["previous_sha256"] == previous
                and record["sequence"] == number
            )
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise RegistryError(
                f"Line {number} of {path} does not follow from the lines before it; the journal has been altered."
            )
        previous = record["sha256"]
        records.append(record)
    return records


def _whole_lines(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: data.rfind(b"\n") + 1]


def _digest(record: dict[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "sha256"}
    return hashlib.sha256(_to_line(content)).hexdigest()


def _to_line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode() + b"\n"
