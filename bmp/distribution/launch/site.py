"""What the leader sees of a host: the same for its own and for one at the other end of a connection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bmp.distribution.heartbeat import Beat
from bmp.distribution.launch.roles import Role

PERMANENT = {2: "a mistake in what was asked for", 3: "a failure that a restart cannot mend", 75: "a full disk"}
"""Exit codes after which a restart would end in the same way."""


@dataclass(frozen=True)
class Assignment:
    """What a host is to run.

    Args:
        attempt: Number of this start of all ranks, from 0.
        roles: The ranks of this host.
        spec: The addresses of all ranks of all hosts.
    """

    attempt: int
    roles: Sequence[Role]
    spec: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Trouble:
    """Why all ranks must be stopped.

    Args:
        cause: In words, whole but for the full stop.
        rank: The name of the rank that it began with; None for a whole host.
        code: What the launcher ends with if this is the end.
        hung: Whether the stacks of all ranks are of use.
    """

    cause: str
    rank: str | None = None
    code: int = 1
    hung: bool = False


@dataclass(frozen=True)
class Report:
    """What became of one rank.

    Args:
        name: Of the rank, such as `worker 0`.
        code: Its exit code; -N: killed by signal N.
        step: The last step it has told about.
        log: The path of its log, on its host.
        lines: The last of that.
    """

    name: str
    code: int
    step: int
    log: str
    lines: tuple[str, ...]


class Site(Protocol):
    """A host that runs ranks. Nothing here waits: `poll` is called again and again."""

    trouble: Trouble | None
    """The first thing that went wrong in this attempt."""
    ports: list[int] | None
    """Those asked for, once they are known."""

    @property
    def beats(self) -> Mapping[str, Beat]:
        """What each rank said last, by its name."""

    @property
    def running(self) -> bool:
        """Whether a rank has not ended."""

    @property
    def reports(self) -> Sequence[Report]:
        """What became of its ranks, once none is running."""

    def ask_ports(self, count: int, attempt: int) -> None:
        """Lets the host choose ports that this launch has not used."""

    def start(self, assignment: Assignment) -> None:
        """Starts its ranks."""

    def poll(self) -> None:
        """Takes in what has happened."""

    def stop(self, hung: bool) -> None:
        """Stops its ranks: by SIGTERM, and by SIGKILL after the grace; `hung`: first their stacks are dumped."""

    def kill(self) -> None:
        """Stops its ranks at once."""
