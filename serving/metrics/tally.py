"""Counts that are not written yet: each that is goes into a file, and many together cost hardly more than one."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from serving.batching import Ran

Labels = tuple[str | int, ...]


@dataclass(slots=True)
class Runs:
    """Runs of an engine that have their labels in common.

    Args:
        seconds: That each took.
        waits_s: How long each request in them waited.
        examples: That were answered.
        shared_s: What their requests would add to the engine's time if each counted its whole run, beyond the first.
        last_s: When the last one ended that answered anything, in seconds since 1970; 0 where none has.
    """

    seconds: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    examples: int = 0
    shared_s: float = 0.0
    last_s: float = 0.0

    def add(self, ran: Ran) -> None:
        """Adds a run."""
        self.seconds.append(ran.seconds)
        answered = 0
        for work in ran.works:
            self.waits_s.append(work.waited_s)
            if work.outputs is not None:
                answered += 1
                self.examples += work.count
        if answered:
            self.shared_s += (answered - 1) * ran.seconds
            self.last_s = time.time()


class Counts(NamedTuple):
    """What has been counted.

    Args:
        requests: How long each took, in seconds, by model, version, door and outcome.
        runs: By model, version and size of the batch.
    """

    requests: dict[Labels, list[float]]
    runs: dict[Labels, Runs]


class Tally:
    """Counts requests and runs until somebody takes what has been counted; for any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = _nothing()

    def add_requests(self, labels: Labels, seconds: Sequence[float]) -> None:
        """Counts requests that have all in common but how long they took."""
        with self._lock:
            self._counts.requests[labels].extend(seconds)

    def add_run(self, labels: Labels, ran: Ran) -> None:
        """Counts a run of an engine."""
        with self._lock:
            self._counts.runs[labels].add(ran)

    def take(self) -> Counts:
        """Returns what has been counted, and starts anew."""
        with self._lock:
            counts, self._counts = self._counts, _nothing()
        return counts


def _nothing() -> Counts:
    return Counts(defaultdict(list), defaultdict(Runs))
