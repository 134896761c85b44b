"""Runs what the calls of one event loop want of models, together where that pays."""

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bmp.signature import Arrays
from serving import deadline
from serving.answer import Answer, Question
from serving.batching import Lines, Work, run_together
from serving.models.model import LoadedModel

_QUICK_S = 0.0001
"""What takes less is run on the loop itself: a hand-over would cost more."""
_COMPANY = 16
"""So many calls for what is quick are run before the loop looks who else has come."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits for its work to be run."""

    work: Work
    turn: asyncio.Future[None]


class Gatherer:
    """Runs models for the calls of the event loop that it belongs to.

    What is quick runs on the loop itself: at once where it comes alone, else with what the loop has read until it finds
    nothing more. Anything else runs in threads, and what the loop reads until one of them is free is the next batch. So
    nothing waits while there is nothing else to do, and there is no timer.

    Args:
        threads: How many models run at the same time, beside those that are quick.
    """

    def __init__(self, threads: int = 1) -> None:
        self._slow = Lines[_Waiter]()
        self._executor = ThreadPoolExecutor(threads, "bmp-grpc-run")
        self._idle = threads
        self._quick = Lines[_Waiter]()
        self._came = 0  # into that line since it was run last
        self._seen = 0  # of these, when the loop looked last
        self._is_looking = False
        self._has_company = False  # what ran last

    async def answer(self, question: Question) -> Answer:
        """Asks a model; a call that is cancelled meanwhile is dropped before it runs.

        Raises:
            BmpError: Whatever `LoadedModel.predict` has to say.
        """
        model, inputs = question.model, question.inputs
        count = model.check(inputs)
        is_quick = model.plan.seconds(count) < _QUICK_S
        if is_quick and not self._is_looking and not self._has_company:
            work = Work(inputs, deadline.current())
            self._look_soon()
            run_together(model, [work])
        else:
            work = await self._wait(model, inputs, count, is_quick=is_quick)
        return question.conclude(work.result())

    def close(self) -> None:
        """Ends its threads."""
        self._executor.shutdown(wait=False)

    async def _wait(self, model: LoadedModel, inputs: Arrays, count: int, *, is_quick: bool) -> Work:
        """Returns once a batch was run with these inputs in it, or without those who wait no more."""
        lines = self._quick if is_quick else self._slow
        lines.check_room(model, count)
        turn = asyncio.get_running_loop().create_future()
        waiter = _Waiter(Work(inputs, deadline.current(), turn.cancelled), turn)
        lines.add(model, waiter)
        if is_quick:
            self._came += 1
            self._look_soon()
        else:
            self._run_slow()
        await turn
        return waiter.work

    # === What is quick ===

    def _look_soon(self) -> None:
        """Has the loop look who has come, once it has read."""
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """Runs those who wait, unless more of them are coming."""
        self._is_looking = False
        if self._seen < self._came < _COMPANY:
            self._seen = self._came
        elif self._quick:
            self._seen = self._came = 0
            self._run_quick()
        if self._quick:
            self._look_soon()

    def _run_quick(self) -> None:
        model, waiters = self._quick.take()
        self._has_company = len(waiters) > 1
        run_together(model, [waiter.work for waiter in waiters])
        _wake(waiters)

    # === What is not ===

    def _run_slow(self) -> None:
        """Gives those who wait to the threads that are idle."""
        while self._slow and self._idle:
            self._idle -= 1
            model, waiters = self._slow.take()
            works = [waiter.work for waiter in waiters]
            running = asyncio.get_running_loop().run_in_executor(self._executor, run_together, model, works)
            running.add_done_callback(partial(self._finish_slow, waiters))

    def _finish_slow(self, waiters: Iterable[_Waiter], running: asyncio.Future[None]) -> None:
        self._idle += 1
        _wake(waiters)
        self._run_slow()
        running.result()


def _wake(waiters: Iterable[_Waiter]) -> None:
    for waiter in waiters:
        if not waiter.turn.done():
            waiter.turn.set_result(None)
