"""What may happen to a model, and what it is after all that has happened."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bmp.artifact.manifest import Manifest
from bmp.errors import RegistryError
from bmp.registry.journal import Position

Number = Annotated[int, Field(ge=1, strict=True)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Facts(_Entry):
    """What a list and a family tree tell of a version; kept in the journal, so that neither opens its manifest."""

    created: datetime
    variant: str
    """The recommended one; what follows is measured on it."""
    metric: str
    score: float | None
    """On the test split; None of a model that was never scored."""
    size_bytes: int
    parent_version: int | None = None
    data_sha256: str | None = None
    recipe_sha256: str | None = None
    code_version: str = ""

    @classmethod
    def of(cls, manifest: Manifest) -> "Facts":
        """Returns the facts of a manifest."""
        measured = manifest.variant(manifest.recommended).measured
        return cls(
            created=manifest.created,
            variant=manifest.recommended,
            metric=manifest.score,
            score=measured.test_score,
            size_bytes=measured.size_bytes,
            parent_version=manifest.lineage.parent_version,
            data_sha256=manifest.lineage.data_sha256,
            recipe_sha256=manifest.lineage.recipe_sha256,
            code_version=manifest.lineage.code_version,
        )


class _Event(_Entry):
    model: str
    sequence: int
    """Line of the journal."""
    time: AwareDatetime


class Published(_Event):
    """A version came: published, or found complete without a line of its own and taken in by a repair (`adopt`)."""

    event: Literal["publish", "adopt"]
    version: Number
    manifest_sha256: str | None = None
    """None in journals of before."""
    facts: Facts | None = None
    """None in journals of before."""
    origin: str | None = None
    """Where it came from, if not from a run here."""


class Moved(_Event):
    """An alias was set, moved or removed."""

    event: Literal["alias"]
    alias: str
    version: Number | None
    """None: it was removed."""
    previous: Number | None
    rollback: bool = False


class Retired(_Event):
    """A version was removed, for ever."""

    event: Literal["retire"]
    version: Number
    freed_bytes: int = 0
    lost: bool = False
    """Whether its directory was gone before anybody said so."""


class Tagged(_Event):
    """A tag of a version was set, or removed with the value None."""

    event: Literal["tag"]
    version: Number
    key: str
    value: str | None


class Described(_Event):
    """The description of a version was written anew."""

    event: Literal["describe"]
    version: Number
    text: str


Event = Published | Moved | Retired | Tagged | Described
_EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


@dataclass(frozen=True)
class Metadata:
    """What people say of a version after it was published.

    Args:
        description: Free text.
        tags: Value by key.
    """

    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class State:
    """What a model is after all that has happened to it.

    Args:
        name: Of the model.
        position: Where its journal ends.
        published: By version number, retired ones too: how it came.
        retired: Numbers.
        aliases: Version number by alias.
        trails: By alias: the versions it named, oldest first; what was rolled back is no longer in it.
        metadata: By version number.
    """

    name: str
    position: Position = field(default_factory=Position)
    published: dict[int, Published] = field(default_factory=dict)
    retired: set[int] = field(default_factory=set)
    aliases: dict[str, int] = field(default_factory=dict)
    trails: dict[str, list[int]] = field(default_factory=dict)
    metadata: dict[int, Metadata] = field(default_factory=dict)

    @property
    def live(self) -> list[int]:
        """Numbers of the versions that are there, ascending."""
        return sorted(set(self.published) - self.retired)

    def apply(self, event: Event) -> None:
        """Goes one event on."""
        match event:
            case Published():
                self.published[event.version] = event
            case Moved():
                self._move(event)
            case Retired():
                self.retired.add(event.version)
            case Tagged() | Described():
                self._note(event)

    def find_earlier(self, alias: str) -> list[int]:
        """Returns what a rollback of an alias could return to, the latest last."""
        trail = self.trails.get(alias, [])
        return trail[:-1] if alias in self.aliases else trail

    def _move(self, event: Moved) -> None:
        if event.version is None:
            self.aliases.pop(event.alias, None)
            return
        trail = self.trails.setdefault(event.alias, [])
        if event.rollback:
            trail[:] = self.find_earlier(event.alias)
        if not trail or trail[-1] != event.version:
            trail.append(event.version)
        self.aliases[event.alias] = event.version

    def _note(self, event: Tagged | Described) -> None:
        known = self.metadata.get(event.version, Metadata())
        if isinstance(event, Described):
            self.metadata[event.version] = Metadata(event.text, known.tags)
            return
        tags = {key: value for key, value in known.tags.items() if key != event.key}
        if event.value is not None:
            tags[event.key] = event.value
        self.metadata[event.version] = Metadata(known.description, tags)


def read_event(model: str, record: dict[str, Any]) -> Event:
    """Returns the event of a record of a journal.

    Raises:
        RegistryError: It is of no kind that this bmp knows.
    """
    try:
        return _EVENT.validate_python({**record, "model": model})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in problem["loc"][1:]) or "event"
        raise RegistryError(
            f"Line {record['sequence']} of the journal of '{model}' cannot be understood ('{where}': "
            f"{problem['msg']}); a newer bmp may have written it. Use that one."
        ) from error
