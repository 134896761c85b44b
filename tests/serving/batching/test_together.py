"""Together as alone: whatever comes with it, a request gets the answer that it would get by itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_engine import BREAKER, FREE, SIGNATURE, SPOILER, LinearEngine, rows

from bmp.errors import DeadlineError, InferenceError
from bmp.signature import Signature
from serving.batching import Plan, Policy, Ran, Together, Work

TABLE = {1: 1.0, 2: 1.1, 4: 1.2, 8: 2.0}
PLANS = [Plan(TABLE), Plan(TABLE, 8), Plan(TABLE, 8, (1, 8)), Plan(TABLE, 8, (1, 2, 4, 8)), Plan(TABLE, 4, (1, 2, 4))]


@dataclass
class Case:
    """A request.

    Args:
        numbers: Of its examples.
        width: Of each.
        fate: What is the matter with it: nothing, `late`, `cancelled`.
    """

    numbers: list[float]
    width: int = 2
    fate: str = ""

    def make(self) -> Work:
        """The work that it is."""
        deadline = time.monotonic() + (-1 if self.fate == "late" else 60)
        return Work(rows(*self.numbers, width=self.width), deadline, lambda: self.fate == "cancelled")


numbers = st.one_of(st.integers(0, 9).map(float), st.just(SPOILER), st.just(BREAKER))
case_lists = st.lists(
    st.builds(
        Case,
        st.lists(numbers, min_size=1, max_size=11),
        st.sampled_from([2, 2, 2, 3]),
        st.sampled_from(["", "", "", "late", "cancelled"]),
    ),
    min_size=1,
    max_size=12,
)


def make(engine: LinearEngine, plan: Plan, signature: Signature = FREE, policy: Policy | None = None) -> Together:
    return Together("m", 1, signature, engine, plan, policy or Policy())


def verdict(work: Work) -> list[float] | type[Exception]:
    assert work.is_done and (work.outputs is None) != (work.error is None)
    return work.outputs["y"].ravel().tolist() if work.outputs is not None else type(work.error)


@given(cases=case_lists, plan=st.sampled_from(PLANS))
@settings(deadline=None)
def test_together_as_alone(cases: Sequence[Case], plan: Plan) -> None:
    engine = LinearEngine()
    works = [case.make() for case in cases]
    make(engine, plan).run(works)
    for case, work in zip(cases, works, strict=True):
        found = verdict(work)
        if case.fate:
            assert found is DeadlineError
        elif BREAKER in case.numbers:
            assert found is RuntimeError
        elif SPOILER in case.numbers:
            assert found is InferenceError
        else:
            assert found == case.numbers
    assert not plan.sizes or set(engine.asked) <= set(plan.sizes)


@given(cases=case_lists)
@settings(deadline=None)
def test_what_is_dropped_never_runs(cases: Sequence[Case]) -> None:
    for case in cases:
        case.fate = case.fate or "late"
    engine = LinearEngine()
    make(engine, Plan(TABLE, 8)).run([case.make() for case in cases])
    assert engine.asked == []


@pytest.mark.parametrize(
    ("sizes", "together", "expected"),
    [
        ([1, 1, 1], 8, [3]),
        ([3, 4, 2, 1], 8, [7, 3]),
        ([20, 1, 1], 8, [20, 2]),
        ([1, 1, 1], 1, [1, 1, 1]),
    ],
)
def test_as_many_together_as_the_plan_says(sizes: list[int], together: int, expected: list[int]) -> None:
    engine = LinearEngine()
    make(engine, Plan(TABLE, together), SIGNATURE).run([Work(rows(*range(size))) for size in sizes])
    assert engine.asked == expected


def test_only_what_has_the_same_shape_goes_together() -> None:
    engine = LinearEngine()
    works = [Work(rows(number, width=width)) for number, width in enumerate([2, 3, 2, 3, 2])]
    make(engine, Plan(TABLE, 8)).run(works)
    assert engine.asked == [3, 2] and [verdict(work) for work in works] == [[0], [1], [2], [3], [4]]


def test_a_short_batch_is_filled_up_with_what_is_valid() -> None:
    """Were it filled with zeros, a number that a model takes nowhere might be in it."""
    seen: list[np.ndarray] = []

    class Watching(LinearEngine):
        def run(self, inputs):  # type: ignore[no-untyped-def]
            seen.append(inputs["x"][:, 0])
            return super().run(inputs)

    work = Work(rows(5, 6, 7))
    make(Watching(), Plan(TABLE, 4, (1, 4)), SIGNATURE).run([work])
    assert [column.tolist() for column in seen] == [[5, 6, 7, 7]] and verdict(work) == [5, 6, 7]


def test_every_run_is_told() -> None:
    told: list[Ran] = []
    together = make(LinearEngine(), Plan(TABLE, 2), SIGNATURE, Policy(observe=told.append))
    together.run([Work(rows(1)), Work(rows(2)), Work(rows(3)), Work(rows(4), deadline=0.0)])
    assert [(ran.model, ran.version, ran.examples, len(ran.works)) for ran in told] == [("m", 1, 2, 2), ("m", 1, 1, 1)]
    assert all(ran.seconds >= 0 and work.waited_s >= 0 for ran in told for work in ran.works)
