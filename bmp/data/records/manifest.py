"""dataset.json: what a directory of records holds, with the digest of every file."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bmp.data.records.keys import derive_key
from bmp.data.records.packing import Compression
from bmp.errors import DataError
from bmp.storage import write_atomically

MANIFEST_FILE = "dataset.json"
PLAN_FILE = "plan.json"
FORMAT_VERSION = 1


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FileEntry(_Entry):
    """One file of the set."""

    sha256: str
    size_bytes: int


class BadEntry(_Entry):
    """An example that was left out."""

    where: str
    reason: str


class Plan(_Entry):
    """What is to be written: the settings, and the identity of what is converted."""

    format_version: Literal[1] = 1
    id: str
    """Names the set; of encrypted records a random one, which their keys are derived with."""
    source: dict[str, Any]
    """Where the examples come from, in the words of a recipe."""
    content: str
    """Digest of all examples and of the split each is in; keyed where the records are encrypted."""
    fields: list[dict[str, Any]]
    target: dict[str, Any]
    serving: dict[str, Any] | None = None
    """What a person sends to a served model, where that is not `fields`."""
    overlaps: bool = False
    compression: Compression = "none"
    key_check: str | None = None
    """Tells a wrong key from the right one (AES-256-GCM); None where records are not encrypted."""
    splits: dict[str, int] = Field(min_length=1)
    """Examples of each split, in the order of their numbers; `all` where the data comes in one piece."""
    shards: int = Field(ge=1)
    """Files that each split is written in, or fewer where it has fewer examples."""
    num_bad: int = 0
    bad: tuple[BadEntry, ...] = ()
    """The first of the examples left out; of encrypted records none, for a reason may tell what they hold."""

    def list_shards(self) -> Iterator["ShardPlan"]:
        """Yields the files to write; they follow from the splits and the number of shards alone."""
        start = 0
        for split, count in self.splits.items():
            files = max(1, min(self.shards, count))
            for number in range(files):
                stop = start + (count * (number + 1)) // files - (count * number) // files
                yield ShardPlan(f"{split}-{number:05d}-of-{files:05d}", split, start, stop)
                start = stop


@dataclass(frozen=True)
class ShardPlan:
    """A shard: the examples from `start` up to `stop`, numbered over the whole set."""

    name: str
    split: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def records(self) -> str:
        """Name of the file with the records."""
        return f"{self.name}.tfrecord"

    @property
    def index(self) -> str:
        """Name of the file with their places, digests and targets."""
        return f"{self.name}.index"


class Manifest(Plan):
    """What has been written."""

    files: dict[str, FileEntry]
    seal: str = ""
    """Digest of everything above; keyed where the records are encrypted."""

    def sealed(self, key: bytes | None) -> Self:
        """Returns this manifest with its seal."""
        body = json.dumps(self.model_dump(mode="json", exclude={"seal"})).encode()
        secret = b"" if key is None else derive_key(key, "seal", self.id)
        seal = hmac.digest(secret, body, hashlib.sha256).hex() if key else hashlib.sha256(body).hexdigest()
        return self.model_copy(update={"seal": seal})


def write_plan(plan: Plan, directory: Path, file: str) -> None:
    """Writes a plan or a manifest; `read_plan` and `read_manifest` read them."""
    write_atomically(directory / file, plan.model_dump_json(indent=2).encode() + b"\n")


def read_plan(directory: Path) -> Plan | None:
    """Returns what a conversion into a directory set out to write, or None where none was begun.

    Raises:
        DataError: The plan is damaged.
    """
    for file, model in ((MANIFEST_FILE, Manifest), (PLAN_FILE, Plan)):
        if (directory / file).exists():
            found = _read(directory / file, model)
            return Plan(**{name: getattr(found, name) for name in Plan.model_fields})
    return None


def read_manifest(directory: Path) -> Manifest:
    """Reads what a directory of records holds.

    Raises:
        DataError: It is not finished, or the manifest cannot be understood.
    """
    if not (directory / MANIFEST_FILE).exists() and (directory / PLAN_FILE).exists():
        raise DataError(f"The conversion into {directory} is not finished; give the same command again to go on.")
    return _read(directory / MANIFEST_FILE, Manifest)


def _read(path: Path, model: type[Any]) -> Any:
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON ({error}); it is damaged.") from error
    written = raw.get("format_version") if isinstance(raw, dict) else None
    if written != FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {written}; this bmp reads version {FORMAT_VERSION}. Convert the data again.",
            expected=str(FORMAT_VERSION),
            received=str(written),
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in problem["loc"])
        raise DataError(f"{path}: '{where}': {problem['msg']}; it is damaged.") from error


def check_entry(path: Path, entry: FileEntry, *, content: bool) -> None:
    """Checks the size of a file, and its content where asked for.

    Raises:
        DataError: It is missing, or not what was written.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} is missing; the set is incomplete.") from error
    if size != entry.size_bytes:
        raise DataError(f"{path} has {size:,} bytes; expected {entry.size_bytes:,}: it was cut off or altered.")
    if content and digest_file(path) != entry:
        raise DataError(f"{path} is not what was written: its SHA-256 is another. Fetch or convert it again.")


def digest_file(path: Path) -> FileEntry:
    """Returns SHA-256 and size of a file."""
    with path.open("rb") as file:
        return FileEntry(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size_bytes=file.tell())
