"""What launchers say to each other: one JSON object a line, its `type` first, every size bounded."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from bmp.distribution.launch.options import MAX_RANKS
from bmp.errors import RequestError

VERSION = 1
MAX_MESSAGE_BYTES = 4 << 20
MAX_FIRST_BYTES = 4096

_Text = Annotated[str, Field(max_length=1000)]
_Name = Annotated[str, Field(max_length=40)]
_Count = Annotated[int, Field(ge=0, le=1 << 53)]


class Message(BaseModel):
    """Anything that is said."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Join(Message):
    """A host wants to take part; the first thing it says."""

    type: Literal["join"] = "join"
    version: int
    token: _Text
    index: _Count


class Refused(Message):
    """Host 0 does not want it; `final`: nor later."""

    type: Literal["refused"] = "refused"
    reason: _Text
    final: bool


class AskPorts(Message):
    """Host 0 wants free ports."""

    type: Literal["ask_ports"] = "ask_ports"
    attempt: _Count
    count: Annotated[int, Field(ge=0, le=MAX_RANKS)]


class Ports(Message):
    """The free ports of a host."""

    type: Literal["ports"] = "ports"
    attempt: _Count
    ports: Annotated[list[Annotated[int, Field(ge=1, le=65535)]], Field(max_length=MAX_RANKS)]


class Rank(Message):
    """One rank of a host."""

    job: Literal["chief", "worker", "ps"]
    index: _Count


class Start(Message):
    """Host 0 knows the cluster: start the ranks."""

    type: Literal["start"] = "start"
    attempt: _Count
    ranks: Annotated[list[Rank], Field(max_length=MAX_RANKS)]
    spec: dict[Literal["chief", "worker", "ps"], Annotated[list[_Text], Field(max_length=MAX_RANKS)]]


class Stop(Message):
    """Stop the ranks; `hung`: dump their stacks first."""

    type: Literal["stop"] = "stop"
    hung: bool


class Kill(Message):
    """Stop the ranks at once."""

    type: Literal["kill"] = "kill"


class Where(Message):
    """What a rank said last."""

    name: _Name
    phase: _Name
    step: _Count
    total_steps: _Count
    figures: Annotated[dict[_Name, float], Field(max_length=64)]


class Alive(Message):
    """The sender is there, and its ranks are at this point."""

    type: Literal["alive"] = "alive"
    ranks: Annotated[list[Where], Field(max_length=MAX_RANKS)] = []


class Failed(Message):
    """Something went wrong with a rank of the sender."""

    type: Literal["failed"] = "failed"
    attempt: _Count
    cause: _Text
    rank: _Name | None
    code: int
    hung: bool


class Ended(Message):
    """What became of a rank."""

    name: _Name
    code: int
    step: _Count
    log: _Text
    lines: Annotated[list[_Text], Field(max_length=100)]


class AllEnded(Message):
    """No rank of the sender runs any more."""

    type: Literal["all_ended"] = "all_ended"
    attempt: _Count
    ranks: Annotated[list[Ended], Field(max_length=MAX_RANKS)]


class Leave(Message):
    """The sender was asked to stop, and will."""

    type: Literal["leave"] = "leave"


class Finish(Message):
    """The run is over, with this exit code."""

    type: Literal["finish"] = "finish"
    code: Annotated[int, Field(ge=0, le=255)]
    reason: _Text


_ADAPTER: TypeAdapter[Message] = TypeAdapter(
    Annotated[
        Join | Refused | AskPorts | Ports | Start | Stop | Kill | Alive | Failed | AllEnded | Leave | Finish,
        Field(discriminator="type"),
    ]
)


def parse(line: bytes) -> Message:
    """Returns the message in a line.

    Raises:
        RequestError: There is none.
    """
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        what = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise RequestError(f"what came is no message of a launcher ({what})") from error
