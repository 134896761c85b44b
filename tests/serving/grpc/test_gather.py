"""Who runs with whom when the calls of gRPC ask models, and where."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numbered_models
import pytest

from bmp.errors import OverloadError
from bmp.registry import Registry
from serving.answer import Question
from serving.app import create_app
from serving.batching import Plan, Work
from serving.grpc import gather
from serving.grpc.gather import Gatherer
from serving.models.model import LoadedModel
from serving.settings import Settings

QUICK_S, SLOW_S = 1e-6, 1.0
ANSWER, QUEUE = 7.0, 64


class Ran(NamedTuple):
    """One run: the requests in it that were not too late, and the thread."""

    answered: int
    thread: str


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    registry = Registry(tmp_path_factory.mktemp("gather") / "registry")
    numbered_models.publish(registry, ANSWER)
    service = create_app(Settings(registry=registry.root, queue=QUEUE, reload=False)).service
    numbered_models.eventually(service.is_started)
    yield service.get("n")
    service.stop()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Ran]:
    runs: list[Ran] = []
    run = gather.run_together

    def note(model: LoadedModel, works: list[Work]) -> None:
        run(model, works)
        runs.append(Ran(sum(work.outputs is not None for work in works), threading.current_thread().name))

    monkeypatch.setattr(gather, "run_together", note)
    return runs


@pytest.fixture
def model(loaded: LoadedModel) -> LoadedModel:
    """Up to four of its examples go together, in no time."""
    loaded.together.plan = Plan(dict.fromkeys((1, 4), QUICK_S), 4)
    return loaded


def run(scenario: Callable[[Gatherer], Any]) -> Any:
    """Plays a scenario on an event loop."""

    async def play() -> Any:
        gatherer = Gatherer()
        try:
            return await scenario(gatherer)
        finally:
            gatherer.close()

    return asyncio.run(play())


async def ask(gatherer: Gatherer, model: LoadedModel) -> float:
    answer = await gatherer.answer(Question(model, numbered_models.QUESTION))
    return float(answer.outputs["y"][0, 0])


def test_what_is_quick_runs_on_the_loop_the_first_at_once_the_others_together(
    model: LoadedModel, runs: list[Ran]
) -> None:
    async def scenario(gatherer: Gatherer) -> list[float]:
        return await asyncio.gather(*(ask(gatherer, model) for _ in range(7)))

    assert run(scenario) == [ANSWER] * 7
    assert runs == [Ran(1, "MainThread"), Ran(4, "MainThread"), Ran(2, "MainThread")]


def test_where_others_came_the_next_wait_for_company(model: LoadedModel, runs: list[Ran]) -> None:
    async def scenario(gatherer: Gatherer) -> list[float]:
        answers = await asyncio.gather(*(ask(gatherer, model) for _ in range(3)))
        await asyncio.sleep(0.01)
        return answers + await asyncio.gather(*(ask(gatherer, model) for _ in range(2)))

    assert run(scenario) == [ANSWER] * 5
    assert [ran.answered for ran in runs] == [1, 2, 2]


def test_what_comes_while_others_come_is_taken_along(model: LoadedModel, runs: list[Ran]) -> None:
    async def scenario(gatherer: Gatherer) -> list[float]:
        tasks = [asyncio.create_task(ask(gatherer, model)) for _ in range(2)]
        for _ in range(2):
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(ask(gatherer, model)))
        return await asyncio.gather(*tasks)

    assert run(scenario) == [ANSWER] * 4
    assert [ran.answered for ran in runs] == [1, 3]


def test_what_comes_alone_runs_alone(model: LoadedModel, runs: list[Ran]) -> None:
    async def scenario(gatherer: Gatherer) -> list[float]:
        return [await ask(gatherer, model) for _ in range(3)]

    assert run(scenario) == [ANSWER] * 3
    assert [ran.answered for ran in runs] == [1, 1, 1]


def test_those_that_keep_coming_hold_nobody_up(model: LoadedModel, runs: list[Ran]) -> None:
    async def scenario(gatherer: Gatherer) -> None:
        await asyncio.gather(*(ask(gatherer, model) for _ in range(3)))
        first = asyncio.create_task(ask(gatherer, model))
        others = set()
        for _ in range(100):
            others.add(asyncio.create_task(ask(gatherer, model)))
            await asyncio.sleep(0)
            if first.done():
                break
        assert await first == ANSWER and len(others) < 40
        await asyncio.gather(*others, return_exceptions=True)

    run(scenario)


def test_what_is_slow_runs_beside_the_loop(model: LoadedModel, runs: list[Ran]) -> None:
    model.together.plan = Plan(dict.fromkeys((1, 4), SLOW_S), 4)

    async def scenario(gatherer: Gatherer) -> list[float]:
        return await asyncio.gather(*(ask(gatherer, model) for _ in range(4)))

    assert run(scenario) == [ANSWER] * 4
    assert [ran.answered for ran in runs] == [1, 3], "the first one ran while the others came"
    assert all(ran.thread.startswith("bmp-grpc-run") for ran in runs)


@pytest.mark.parametrize("seconds", [QUICK_S, SLOW_S])
def test_a_full_queue_refuses(model: LoadedModel, runs: list[Ran], seconds: float) -> None:
    model.together.plan = Plan(dict.fromkeys((1, 4), seconds), 4)

    async def scenario(gatherer: Gatherer) -> list[Any]:
        return await asyncio.gather(*(ask(gatherer, model) for _ in range(QUEUE + 3)), return_exceptions=True)

    answers = run(scenario)
    refused = [answer for answer in answers if isinstance(answer, OverloadError)]
    assert 2 <= len(refused) <= 3 and answers.count(ANSWER) == len(answers) - len(refused)
    assert sum(ran.answered for ran in runs) == answers.count(ANSWER)


def test_what_is_cancelled_is_dropped(model: LoadedModel, runs: list[Ran]) -> None:
    async def scenario(gatherer: Gatherer) -> list[Any]:
        tasks = [asyncio.create_task(ask(gatherer, model)) for _ in range(4)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = run(scenario)
    assert isinstance(answers.pop(2), asyncio.CancelledError) and answers == [ANSWER] * 3
    assert [ran.answered for ran in runs] == [1, 2]
