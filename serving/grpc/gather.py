"""Runs what the calls of one event loop want of models, together where that pays."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from serving import deadline
from serving.answer import Answer, Question
from serving.batching import Lines, Work, run_together
from serving.models.model import LoadedModel

_SPELL_S = 0.001
"""How long the loop may run one batch after the other before it looks what else has come."""

_QUICK_S = 0.0001
"""What takes less is run at once: to let it wait for company would cost more than that saves."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits for its work to be run."""

    work: Work
    turn: asyncio.Future[None]


class Gatherer:
    """Runs models for the calls of the event loop that it belongs to.

    Args:
        threads: How many models run at the same time. One runs on the loop itself, without any hand-over: what comes
            meanwhile is the next batch.
    """

    def __init__(self, threads: int = 1) -> None:
        self._lines = Lines[_Waiter]()
        self._executor = ThreadPoolExecutor(threads, "bmp-grpc-run") if threads > 1 else None
        self._idle = threads
        self._is_due = False

    async def answer(self, question: Question) -> Answer:
        """Asks a model; a call that is cancelled meanwhile is dropped before it runs.

        Raises:
            BmpError: Whatever `LoadedModel.predict` has to say.
        """
        model, inputs = question.model, question.inputs
        count = model.check(inputs)
        if self._executor is None and not self._lines and model.plan.seconds(count) < _QUICK_S:
            work = Work(inputs, deadline.current())
            run_together(model, [work])
            return question.conclude(work.result())
        self._lines.check_room(model, count)
        turn = asyncio.get_running_loop().create_future()
        waiter = _Waiter(Work(inputs, deadline.current(), turn.cancelled), turn)
        self._lines.add(model, waiter)
        self._make_due()
        await turn
        return question.conclude(waiter.work.result())

    def close(self) -> None:
        """Ends its threads."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)

    def _make_due(self) -> None:
        """Has those who wait run once the loop has seen what else has come."""
        if not self._is_due and self._idle:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._is_due = False
        pause = monotonic() + _SPELL_S
        while self._lines and self._idle:
            model, waiters = self._lines.take()
            works = [waiter.work for waiter in waiters]
            if self._executor is not None:
                self._run_beside(model, works, waiters)
                continue
            run_together(model, works)
            _wake(waiters)
            if monotonic() > pause:
                break
        if self._lines:
            self._make_due()

    def _run_beside(self, model: LoadedModel, works: Sequence[Work], waiters: Sequence[_Waiter]) -> None:
        self._idle -= 1
        running = asyncio.get_running_loop().run_in_executor(self._executor, run_together, model, works)
        running.add_done_callback(partial(self._finish, waiters))

    def _finish(self, waiters: Sequence[_Waiter], running: asyncio.Future[Any]) -> None:
        self._idle += 1
        _wake(waiters)
        self._make_due()
        running.result()


def _wake(waiters: Sequence[_Waiter]) -> None:
    for waiter in waiters:
        if not waiter.turn.done():
            waiter.turn.set_result(None)
