"""How a server wants its models to be run."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from serving.batching.work import Work
from serving.settings import Settings

if TYPE_CHECKING:
    from serving.batching.together import Together


class Ran(NamedTuple):
    """One run of an engine.

    Args:
        model: Name of the model.
        version: Its number.
        works: The requests in it, answered or not; each knows how long it waited.
        examples: Of all of them.
        seconds: How long the engine took.
    """

    model: str
    version: int
    works: Sequence[Work]
    examples: int
    seconds: float


@dataclass(frozen=True)
class Policy:
    """How models are run.

    Args:
        gathers: Whether requests may go together, where that was measured to pay.
        slo_p99_s: What 99 of 100 answers may take; bounds how many examples go together. None for no bound.
        queue: How many examples may wait for a model in a process; None takes what the plan says.
        engines: How many threads of a process may run a model at the same time.
        observe: Is told of every run.
        observe_queue: Is told whose queue has changed, and how many examples wait in it now.
    """

    gathers: bool = True
    slo_p99_s: float | None = None
    queue: int | None = None
    engines: int = 1
    observe: Callable[[Ran], None] | None = None
    observe_queue: Callable[["Together", int], None] | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """Returns what the settings say; a process runs as much at the same time as it has cores for itself."""
        cores = max(1, len(os.sched_getaffinity(0)) // settings.workers)
        slo_p99_s = None if settings.slo_p99_ms is None else settings.slo_p99_ms / 1000
        return cls(settings.batching == "auto", slo_p99_s, settings.queue, min(cores, settings.threads))
