"""Runs what the calls of one event loop want of models, together where that pays."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bmp.signature import Arrays
from serving import deadline
from serving.answer import Answer, Question
from serving.batching import Lines, Work, run_together
from serving.models.model import LoadedModel

_QUICK_S = 0.0001
"""What takes less is run on the loop itself: a hand-over would cost more, and so would waiting for company."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A call that waits for its work to be run."""

    work: Work
    turn: asyncio.Future[None]


class Gatherer:
    """Runs models for the calls of the event loop that it belongs to.

    The loop goes on meanwhile: what it reads until a model is free is the next batch, so nothing waits while one is
    idle, and there is no timer.

    Args:
        threads: How many models run at the same time.
    """

    def __init__(self, threads: int = 1) -> None:
        self._lines = Lines[_Waiter]()
        self._executor = ThreadPoolExecutor(threads, "bmp-grpc-run")
        self._idle = threads

    async def answer(self, question: Question) -> Answer:
        """Asks a model; a call that is cancelled meanwhile is dropped before it runs.

        Raises:
            BmpError: Whatever `LoadedModel.predict` has to say.
        """
        model, inputs = question.model, question.inputs
        count = model.check(inputs)
        if not self._lines and model.plan.seconds(count) < _QUICK_S:
            work = Work(inputs, deadline.current())
            run_together(model, [work])
        else:
            work = await self._wait(model, inputs, count)
        return question.conclude(work.result())

    def close(self) -> None:
        """Ends its threads."""
        self._executor.shutdown(wait=False)

    async def _wait(self, model: LoadedModel, inputs: Arrays, count: int) -> Work:
        """Returns once a batch was run with these inputs in it, or without those who wait no more."""
        self._lines.check_room(model, count)
        turn = asyncio.get_running_loop().create_future()
        waiter = _Waiter(Work(inputs, deadline.current(), turn.cancelled), turn)
        self._lines.add(model, waiter)
        self._run()
        await turn
        return waiter.work

    def _run(self) -> None:
        """Gives those who wait to the threads that are idle."""
        while self._lines and self._idle:
            self._idle -= 1
            model, waiters = self._lines.take()
            works = [waiter.work for waiter in waiters]
            running = asyncio.get_running_loop().run_in_executor(self._executor, run_together, model, works)
            running.add_done_callback(partial(self._finish, waiters))

    def _finish(self, waiters: Sequence[_Waiter], running: asyncio.Future[None]) -> None:
        self._idle += 1
        for waiter in waiters:
            if not waiter.turn.done():
                waiter.turn.set_result(None)
        self._run()
        running.result()
