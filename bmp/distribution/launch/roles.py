"""Which ranks run on which host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bmp.distribution.cluster import JOBS


@dataclass(frozen=True)
class Role:
    """One rank: what it is, and which one of them."""

    job: str
    index: int

    @property
    def name(self) -> str:
        """As people read it."""
        return f"{self.job} {self.index}"

    @property
    def stem(self) -> str:
        """As its files are called."""
        return f"{self.job}-{self.index}"


@dataclass(frozen=True)
class Share:
    """How many ranks of each kind a host runs."""

    chief: int = 0
    worker: int = 0
    ps: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.chief + self.worker + self.ps

    def count(self, job: str) -> int:
        """Those of one kind."""
        return {"chief": self.chief, "worker": self.worker, "ps": self.ps}[job]


def spread(count: int, places: int) -> list[int]:
    """Divides a number as evenly as it goes; the first places get one more."""
    return [count // places + (place < count % places) for place in range(places)]


def list_roles(shares: Mapping[int, Share], host: int) -> list[Role]:
    """Returns the ranks of one host: each kind is numbered host by host."""
    roles = []
    for job in JOBS:
        first = sum(share.count(job) for other, share in shares.items() if other < host)
        roles += [Role(job, first + index) for index in range(shares[host].count(job))]
    return roles


def build_spec(
    shares: Mapping[int, Share], addresses: Mapping[int, str], ports: Mapping[int, Sequence[int]]
) -> dict[str, list[str]]:
    """Returns the addresses of every rank, by its kind.

    Args:
        shares: What each host runs.
        addresses: How each host is reached.
        ports: Of each host, one for each of its ranks in the order of `list_roles`.
    """
    spec: dict[str, list[str]] = {}
    left = {host: list(ports[host]) for host in sorted(shares)}
    for job in JOBS:
        taken = [f"{addresses[host]}:{left[host].pop(0)}" for host in left for _ in range(shares[host].count(job))]
        if taken:
            spec[job] = taken
    return spec
