"""A queue before a model, for threads: whoever finds the engine idle runs at once, the others gather meanwhile."""

import time
from collections import deque
from dataclasses import dataclass, field
from threading import Event, Lock

from bmp.errors import OverloadError
from serving.batching.policy import Policy
from serving.batching.together import Together
from serving.batching.work import Work
from serving.deadline import too_late


@dataclass(slots=True, eq=False)
class _Place:
    """A place in the queue; its thread sleeps until `turn` comes: to be answered, or to lead the next run."""

    work: Work
    turn: Event = field(default_factory=Event)
    leads: bool = False


def too_many(name: str, waiting: int, limit: int) -> OverloadError:
    """Returns the error of a request that finds the queue before a model full.

    Args:
        name: Of the model.
        waiting: How many examples wait already.
        limit: How many may.
    """
    return OverloadError(
        f"Model '{name}' has {waiting:,} examples waiting already; try again in a second.",
        expected=f"at most {limit} examples waiting",
        received=f"one more request behind {waiting}",
    )


class Batcher:
    """Runs a model for any number of threads, as many of them at the same time as the policy says.

    Nothing waits while an engine is idle. Once a run is over, its thread hands the engine to whoever has waited
    longest, who takes along what has gathered and fits: so the more there is to do, the more goes together, and no
    timer is needed.

    Args:
        together: The model.
        policy: How many run at the same time, and how many may wait.

    Attributes:
        limit: How many examples may wait.
    """

    def __init__(self, together: Together, policy: Policy) -> None:
        self._together = together
        self.limit = policy.queue or together.plan.queue
        self._observe = policy.observe_queue
        self._idle = policy.engines
        self._places: deque[_Place] = deque()
        self._waiting = 0  # examples in it
        self._lock = Lock()

    @property
    def waiting(self) -> int:
        """How many examples wait."""
        return self._waiting

    def run(self, work: Work) -> None:
        """Runs a request; it has outputs or an error afterwards.

        Raises:
            OverloadError: Too many wait already.
        """
        place = self._enter(work)
        if place is None:
            self._lead([work], [])
        elif self._wait(place):
            followers = self._gather(place)
            self._lead([work, *(each.work for each in followers)], followers)

    def _enter(self, work: Work) -> _Place | None:
        """Returns a place in the queue, or None where the engine is idle, which is busy from then on."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                return None
            self._admit(work)
            place = _Place(work)
            self._places.append(place)
            self._count(work.count)
            return place

    def _admit(self, work: Work) -> None:
        """Raises where the queue is full; one request may always wait, however many examples it has."""
        if self._places and self._waiting + work.count > self.limit:
            raise too_many(self._together.name, self._waiting, self.limit)

    def _wait(self, place: _Place) -> bool:
        """Sleeps until the request is answered, or its thread is to lead; tells whether it is."""
        deadline = place.work.deadline
        try:
            if not place.turn.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
                if self._withdraw(place):
                    place.work.error = too_late()
                    return False
                place.turn.wait()  # it is being run
        except BaseException:  # the thread is made to end: nobody may wait for it to lead
            if not self._withdraw(place) and place.leads:
                self._hand_on()
            raise
        return place.leads

    def _withdraw(self, place: _Place) -> bool:
        """Takes a request out of the queue; tells whether it still was in it."""
        with self._lock:
            if place not in self._places:
                return False
            self._leave(place)
            return True

    def _gather(self, leader: _Place) -> list[_Place]:
        """Takes what goes together with a request out of the queue."""
        most, found = self._together.plan.max_together, []
        with self._lock:
            count = leader.work.count
            for place in list(self._places) if count < most else ():
                if count + place.work.count <= most and self._together.fits(place.work, leader.work):
                    self._leave(place)
                    found.append(place)
                    count += place.work.count
        return found

    def _lead(self, works: list[Work], followers: list[_Place]) -> None:
        """Runs requests, hands the engine on, and wakes those that were answered."""
        try:
            self._together.run(works)
        finally:
            self._hand_on()
            for place in followers:
                place.turn.set()

    def _hand_on(self) -> None:
        with self._lock:
            if not self._places:
                self._idle += 1
                return
            place = self._places[0]
            self._leave(place)
            place.leads = True
        place.turn.set()

    def _leave(self, place: _Place) -> None:
        self._places.remove(place)
        self._count(-place.work.count)

    def _count(self, change: int) -> None:
        self._waiting += change
        if self._observe is not None:
            self._observe(self._together, self._waiting)
