"""Those who wait for models before a thread that never waits itself: an event loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from serving.batching.batcher import too_many
from serving.batching.work import Work
from serving.metrics import meters

if TYPE_CHECKING:
    from serving.models.model import LoadedModel


class Waiting(Protocol):
    """Who waits for its work to be run."""

    work: Work


T = TypeVar("T", bound=Waiting)


class Lines(Generic[T]):
    """A line before each model. Models take turns, and whoever has waited longest for one comes first.

    It belongs to one thread. What came in while a batch was running is the next batch, so nothing is held back for
    company, and there is no timer.
    """

    def __init__(self) -> None:
        self._lines: dict[int, _Line[T]] = {}  # by id of the model: the first one has its turn

    def __bool__(self) -> bool:
        return bool(self._lines)

    def check_room(self, model: LoadedModel, count: int = 1) -> None:
        """Checks whether so many more examples may wait for a model; one request may always, however many it has.

        Raises:
            OverloadError: They may not.
        """
        line = self._lines.get(id(model))
        if line is not None and line.examples + count > model.batcher.limit:
            raise too_many(model.name, line.examples, model.batcher.limit)

    def add(self, model: LoadedModel, waiting: T) -> None:
        """Puts somebody at the end of the line before a model."""
        line = self._lines.get(id(model))
        if line is None:
            line = self._lines[id(model)] = _Line(model)
        line.add(waiting)

    def remove(self, model: LoadedModel, waiting: T) -> None:
        """Lets go of somebody who waits."""
        line = self._lines[id(model)]
        line.remove(waiting)
        if not line.waiting:
            del self._lines[id(model)]

    def take(self) -> tuple[LoadedModel, list[T]]:
        """Takes out those who may run together, at least one, of the model whose turn it is."""
        key = next(iter(self._lines))
        line = self._lines.pop(key)
        taken = line.take()
        if line.waiting:
            self._lines[key] = line  # behind the other models
        line.tell()
        return line.model, taken


class _Line(Generic[T]):
    """Those who wait for one model."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model
        self.waiting: deque[T] = deque()
        self.examples = 0
        self._told = 0

    def tell(self) -> None:
        """Tells how many wait, if that has changed."""
        if self.examples != self._told:
            self._told = self.examples
            meters.record_queue(self.model, self.examples)

    def add(self, waiting: T) -> None:
        self.waiting.append(waiting)
        self.examples += waiting.work.count

    def remove(self, waiting: T) -> None:
        self.waiting.remove(waiting)
        self.examples -= waiting.work.count

    def take(self) -> list[T]:
        left, taken = self.model.plan.max_together, list[T]()
        while self.waiting and (not taken or self.waiting[0].work.count <= left):
            taken.append(self.waiting.popleft())
            left -= taken[-1].work.count
        self.examples -= sum(each.work.count for each in taken)
        return taken
