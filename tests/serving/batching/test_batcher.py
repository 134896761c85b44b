"""The queue before a model: threads gather while one of them runs, and nobody waits for nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from linear_engine import SIGNATURE, SPOILER, LinearEngine, eventually, rows

from bmp.errors import DeadlineError, InferenceError, OverloadError
from serving.batching import Batcher, Plan, Policy, Together, Work
from serving.batching.batcher import _Place

TABLE = {1: 1.0, 64: 2.0}


class Gate:
    """Holds runs of an engine until it is opened."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self._open = threading.Event()
        self._lock = threading.Lock()

    def pass_through(self, size: int) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self._open.wait(20)
        with self._lock:
            self.inside -= 1

    def open(self) -> None:
        self._open.set()


class Bench:
    """A batcher whose engine is held, and threads to ask it."""

    def __init__(self, pool: ThreadPoolExecutor, plan: Plan, policy: Policy) -> None:
        self.gate = Gate()
        self.engine = LinearEngine(None, self.gate.pass_through)
        self.batcher = Batcher(Together("m", 1, SIGNATURE, self.engine, plan, policy), policy)
        self._pool = pool

    def ask(self, work: Work) -> Future[np.ndarray]:
        """Asks in a thread, and waits until it runs or has its place in the queue."""
        waiting, asked = self.batcher.waiting, len(self.engine.asked)
        future = self._pool.submit(self._ask, work)
        eventually(lambda: self.batcher.waiting > waiting or len(self.engine.asked) > asked or future.done())
        return future

    def _ask(self, work: Work) -> np.ndarray:
        self.batcher.run(work)
        return work.result()["y"].ravel()


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with ThreadPoolExecutor(12) as pool, open_at_the_end() as benches:

        def make(max_together: int = 64, **policy: object) -> Bench:
            benches.append(Bench(pool, Plan(TABLE, max_together), Policy(**policy)))
            return benches[-1]

        yield make


@contextmanager
def open_at_the_end() -> Iterator[list[Bench]]:
    benches: list[Bench] = []
    try:
        yield benches
    finally:
        for each in benches:
            each.gate.open()


def test_what_comes_while_one_runs_is_the_next_batch(bench: Callable[..., Bench]) -> None:
    made = bench()
    futures = [made.ask(Work(rows(*[number] * size))) for number, size in enumerate([1, 1, 3, 2, 1])]
    assert made.engine.asked == [1] and made.batcher.waiting == 7
    made.gate.open()
    assert [future.result(10).tolist() for future in futures] == [[0], [1], [2, 2, 2], [3, 3], [4]]
    assert made.engine.asked == [1, 7] and made.batcher.waiting == 0


def test_no_more_together_than_the_plan_says(bench: Callable[..., Bench]) -> None:
    made = bench(max_together=3)
    futures = [made.ask(Work(rows(*range(size)))) for size in (1, 2, 2, 1, 1)]
    made.gate.open()
    assert [len(future.result(10)) for future in futures] == [1, 2, 2, 1, 1]
    assert made.engine.asked == [1, 3, 3], "who fits goes along, the others keep their order"


def test_as_many_run_at_the_same_time_as_the_policy_says(bench: Callable[..., Bench]) -> None:
    made = bench(max_together=1, engines=2)
    futures = [made.ask(Work(rows(number))) for number in range(6)]
    assert made.gate.inside == 2 and made.batcher.waiting == 4
    made.gate.open()
    assert [future.result(10).tolist() for future in futures] == [[number] for number in range(6)]
    assert made.gate.most == 2


def test_an_idle_engine_runs_at_once(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.gate.open()
    for number in range(5):
        work = Work(rows(number))
        made.batcher.run(work)  # in this thread: there is none to hand it to
        assert work.result()["y"].tolist() == [[number]]
    assert made.engine.asked == [1] * 5


def test_a_full_queue_refuses_at_once(bench: Callable[..., Bench]) -> None:
    made = bench(queue=4)
    futures = [made.ask(Work(rows(0))), made.ask(Work(rows(*range(9)))), made.ask(Work(rows(1)))]
    with pytest.raises(OverloadError, match="Model 'm' has 9 examples waiting already; try again"):
        futures.pop().result(10)
    assert made.batcher.waiting == 9, "one may wait, however many examples it has"
    made.gate.open()
    assert [len(future.result(10)) for future in futures] == [1, 9]
    made.batcher.run(work := Work(rows(5)))
    assert work.result()["y"] == 5, "there is room again"


def test_who_waits_too_long_is_dropped_before_it_runs(bench: Callable[..., Bench]) -> None:
    made = bench()
    first = made.ask(Work(rows(1)))
    late = made.ask(Work(rows(2), time.monotonic() + 0.05))
    with pytest.raises(DeadlineError, match="was over before it could run"):
        late.result(10)
    assert made.engine.asked == [1] and made.batcher.waiting == 0
    made.gate.open()
    assert first.result(10) == 1 and made.engine.asked == [1]


def test_who_is_gone_is_dropped_before_it_runs(bench: Callable[..., Bench]) -> None:
    made, gone = bench(), threading.Event()
    futures = [made.ask(Work(rows(1))), made.ask(Work(rows(2), is_cancelled=gone.is_set)), made.ask(Work(rows(3)))]
    gone.set()
    made.gate.open()
    with pytest.raises(DeadlineError, match="is gone"):
        futures[1].result(10)
    assert [futures[0].result(10), futures[2].result(10)] == [1, 3] and made.engine.asked == [1, 1]


def test_a_bad_neighbour_harms_nobody(bench: Callable[..., Bench]) -> None:
    made = bench()
    futures = [made.ask(Work(rows(number))) for number in (1, 2, SPOILER, 3)]
    made.gate.open()
    with pytest.raises(InferenceError, match="not finite"):
        futures.pop(2).result(10)
    assert [future.result(10).tolist() for future in futures] == [[1], [2], [3]]


def test_an_engine_is_handed_on_whatever_happens_in_a_run(bench: Callable[..., Bench]) -> None:
    """A run that is cut off, as by a signal, ends for all who were in it; the next one runs."""
    made = bench()
    made.gate.open()

    class CutOff(BaseException):
        pass

    def fail(size: int) -> None:
        raise CutOff

    made.engine._on_run, before = fail, made.engine._on_run
    with pytest.raises(CutOff):
        made.batcher.run(Work(rows(1)))
    made.engine._on_run = before
    made.batcher.run(work := Work(rows(2)))
    assert work.result()["y"] == 2


@pytest.mark.parametrize("is_its_turn", [False, True], ids=["while it waits", "when it is to lead"])
def test_a_thread_that_is_made_to_end_leaves_the_queue(bench: Callable[..., Bench], is_its_turn: bool) -> None:
    made = bench()

    class CutOff(BaseException):
        pass

    class Sleep(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if is_its_turn:
                super().wait(timeout)
            raise CutOff

    first = made.ask(Work(rows(1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Place, "__init__", lambda place, work: _set_up(place, work, Sleep()))
        second = made.ask(Work(rows(2)))
    made.gate.open()
    with pytest.raises(CutOff):
        second.result(10)
    assert first.result(10) == 1 and made.batcher.waiting == 0
    made.batcher.run(work := Work(rows(3)))
    assert work.result()["y"] == 3 and made.engine.asked == [1, 1]


def _set_up(place: _Place, work: Work, turn: threading.Event) -> None:
    place.work, place.turn, place.leads = work, turn, False


@pytest.mark.parametrize("engines", [1, 2])
def test_many_threads_get_their_own_answers(engines: int) -> None:
    policy = Policy(engines=engines)
    engine = LinearEngine(None, lambda size: time.sleep(0.0005))
    told: list[int] = []
    policy = Policy(engines=engines, observe_queue=lambda model, waiting: told.append(waiting))
    batcher = Batcher(Together("m", 1, SIGNATURE, engine, Plan(TABLE, 16), policy), policy)

    def ask(seed: int) -> bool:
        random = np.random.default_rng(seed)
        for _ in range(40):
            wanted = random.integers(1, 1000, random.integers(1, 4)).astype(float).tolist()
            is_bad = random.random() < 0.1
            work = Work(rows(*wanted, *([SPOILER] if is_bad else [])))
            batcher.run(work)
            if (work.outputs is None) != is_bad or (not is_bad and work.result()["y"].ravel().tolist() != wanted):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))
    assert batcher.waiting == 0 and told[-1] == 0 and max(told) > 1
    assert max(engine.asked) > 4, "they went together"
