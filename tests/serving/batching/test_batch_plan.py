"""What goes together: decided by what a model takes, within the bounds of the server."""

import logging
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linear_engine import LinearEngine, rows

from bmp.signature import Arrays
from serving.batching import Plan, Policy, make_plan
from serving.batching import plan as planning

EXAMPLES = rows(*range(1, 12))
Plans = Callable[..., Plan]


class Clock:
    """Time that passes only while an engine runs."""

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.now, self._seconds = 0.0, seconds

    def run(self, size: int) -> None:
        self.now += self._seconds(size)

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def plan_for(monkeypatch: pytest.MonkeyPatch) -> Plans:
    """Makes the plan of a model that takes so long for a batch."""

    def make(
        seconds: Callable[[int], float],
        *,
        max_sizes: int | None = None,
        limit: int = 1000,
        budget_s: float = 1.2,
        **policy: object,
    ) -> Plan:
        clock = Clock(seconds)
        monkeypatch.setattr(planning, "time", clock)
        engine = LinearEngine(max_sizes, clock.run)
        plan = make_plan("m", engine, EXAMPLES, limit, Policy(**policy))
        assert clock.now <= budget_s + 12 * seconds(1), "measuring takes too long"
        assert set(engine.kept) == {1, *plan.sizes}
        return plan

    return make


def memory_bound(size: int) -> float:
    """One pass over the weights, however many examples use them."""
    return 800e-6 + 30e-6 * size


def test_a_model_that_reads_its_weights_for_each_run_gathers(plan_for: Plans) -> None:
    plan = plan_for(memory_bound)
    assert plan.gathers and plan.max_together == 64 and plan.sizes == ()
    assert plan.seconds(1) == pytest.approx(830e-6) and plan.seconds(40) == pytest.approx(2000e-6)
    assert plan.seconds(128) == pytest.approx(2 * plan.seconds(64))


def test_the_smallest_size_that_is_about_as_good_is_enough(plan_for: Plans) -> None:
    steps = {1: 1.0, 2: 1.0, 4: 1.2, 8: 2.4, 16: 4.8, 32: 9.6, 64: 19.2}  # ms: from 4 on each costs the same
    plan = plan_for(lambda size: steps[size] / 1000)
    assert plan.max_together == 4 and 64 not in plan.table, "it need not be measured any further"


@pytest.mark.parametrize(
    "seconds",
    [lambda size: 5e-3 * size, lambda size: 1e-4 + 2e-3 * size, lambda size: 1e-6 + 1e-6 * size],
    ids=["as many times as long", "hardly cheaper together", "so fast that gathering costs more"],
)
def test_where_gathering_does_not_pay_each_runs_alone(plan_for: Plans, seconds: Callable[[int], float]) -> None:
    plan = plan_for(seconds, max_sizes=4)
    assert (plan.max_together, plan.sizes) == (1, ()) and plan.pieces(100) == (100,)


def test_a_slow_model_is_not_measured_for_long(plan_for: Plans) -> None:
    assert set(plan_for(lambda size: 0.9).table) == {1}
    assert set(plan_for(lambda size: 0.05 + 0.01 * size).table) >= {1, 2}


def test_switched_off(plan_for: Plans) -> None:
    plan = plan_for(memory_bound, gathers=False)
    assert plan.max_together == 1 and set(plan.table) == {1}


def test_no_more_than_the_memory_holds(plan_for: Plans) -> None:
    assert plan_for(memory_bound, limit=5).max_together == 4


@given(limit_ms=st.floats(0.1, 20))
def test_an_answer_takes_no_longer_than_was_promised(limit_ms: float) -> None:
    """At worst it waits for a run that has just begun, and for its own."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(memory_bound)
        patch.setattr(planning, "time", clock)
        plan = make_plan("m", LinearEngine(None, clock.run), EXAMPLES, 1000, Policy(slo_p99_s=limit_ms / 1000))
    assert plan.max_together == 1 or 2 * plan.seconds(plan.max_together) <= limit_ms / 1000 + 1e-9
    if plan.max_together < 64:
        assert 2 * memory_bound(2 * plan.max_together) > limit_ms / 1000 - 1e-9, "a larger size would do"


def test_a_promise_that_cannot_be_kept_is_told(plan_for: Plans, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "serving"):
        assert not plan_for(memory_bound, slo_p99_s=0.0005).gathers
    assert "m takes 0.8 ms for one example, which is over BMP_SLO_P99_MS" in caplog.text


def test_an_engine_that_is_set_up_for_sizes_gets_few(plan_for: Plans) -> None:
    plan = plan_for(memory_bound, max_sizes=3)
    assert len(plan.sizes) <= 3 and {1, plan.max_together} <= set(plan.sizes)
    assert plan_for(memory_bound, max_sizes=2).sizes == (1, 64)


tables = st.lists(st.floats(0.5, 1), min_size=6, max_size=6).map(
    lambda steps: {size: float(np.prod([1e-3, *(2 * step for step in steps[:power])])) for power, size in SIZES}
)
SIZES = list(enumerate((1, 2, 4, 8, 16, 32, 64)))


@given(table=tables, count=st.integers(1, 300), sizes=st.sets(st.sampled_from([2, 4, 8, 16, 32]), max_size=3))
def test_pieces_hold_all_examples_and_cost_no_more_than_the_obvious(
    table: Mapping[int, float], count: int, sizes: set[int]
) -> None:
    plan = Plan(table, 64, (1, *sorted(sizes), 64))
    pieces = plan.pieces(count)
    assert set(pieces) <= set(plan.sizes) and 0 <= sum(pieces) - count < pieces[-1]
    assert plan.seconds(count) == pytest.approx(sum(table[size] for size in pieces))
    padded = next((table[size] for size in plan.sizes if size >= count), None)
    one_by_one = count * (table[1] + 10e-6)
    for obvious in (one_by_one, padded):
        assert obvious is None or plan.seconds(count) <= obvious + 10e-6


@given(table=tables)
def test_a_default_queue_is_at_least_two_runs(table: Mapping[int, float]) -> None:
    assert 128 <= Plan(table, 64).queue <= 16_384
    assert Plan({1: 3.0}).queue == 16 and Plan({1: 1e-6}).queue == 16_384


def test_a_model_that_looks_at_its_neighbours_runs_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Centring(LinearEngine):
        def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
            answer = super().run(inputs)["y"]
            return {"y": answer - answer.mean()}

    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING, "serving"):
        clock = Clock(memory_bound)
        patch.setattr(planning, "time", clock)
        plan = make_plan("shop/3", Centring(None, clock.run), EXAMPLES, 1000, Policy())
    assert plan.max_together == 1
    assert "shop/3 answers an example differently when others are in its batch" in caplog.text
