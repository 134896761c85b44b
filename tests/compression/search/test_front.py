"""The front, and the best for each goal."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.artifact.proof import Latency
from bmp.compression.search.front import choose_per_goal, find_front
from bmp.compression.search.trial import Trial


def make_trial(name, drop, packed, ms):
    latency = None if ms is None else {1: Latency(ms, ms)}
    return Trial(name=name, file=name, score=1 - drop, drop=drop, gzip_bytes=packed, raw_bytes=packed, latency=latency)


def dominates(one, other):
    a, b = ((t.drop, t.gzip_bytes, t.latency[1].p50_ms) for t in (one, other))
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


ORIGINAL = make_trial("float32", 0.0, 1000, 1.0)


def test_what_another_beats_is_not_on_the_front():
    small, fast, worse = (
        make_trial("small", 0.01, 100, 0.9),
        make_trial("fast", 0.01, 300, 0.2),
        make_trial("worse", 0.02, 300, 0.3),
    )
    assert [trial.name for trial in find_front([ORIGINAL, small, fast, worse])] == ["float32", "small", "fast"]


def test_failures_and_the_untimed():
    failure = Trial(name="failure", failure="It cannot be made.")
    untimed, smaller = make_trial("untimed", 0.01, 300, None), make_trial("smaller", 0.01, 300, 0.5)
    assert [trial.name for trial in find_front([ORIGINAL, failure, untimed])] == ["float32", "untimed"]
    assert [trial.name for trial in find_front([ORIGINAL, untimed, smaller])] == ["float32", "smaller"]


TRIALS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12)


@settings(deadline=None)
@given(TRIALS)
def test_the_front_beats_all_others_and_none_of_itself(figures):
    trials = [make_trial(str(i), drop / 100, packed, ms) for i, (drop, packed, ms) in enumerate(figures)]
    front = find_front(trials)
    assert front and not any(dominates(one, other) for one in front for other in front)
    for trial in trials:
        if trial not in front:
            assert any(
                dominates(one, trial)
                or (one.drop, one.gzip_bytes, one.latency) == (trial.drop, trial.gzip_bytes, trial.latency)
                for one in front
            )


def test_each_goal_has_its_best():
    trials = [
        ORIGINAL,
        make_trial("small", 0.004, 100, 0.9),
        make_trial("fast", 0.004, 600, 0.1),
        make_trial("both", 0.004, 200, 0.2),
        make_trial("broken", 0.5, 10, 0.01),
        Trial(name="failure", failure="It cannot be made."),
    ]
    chosen = {goal: trial.name for goal, trial in choose_per_goal(trials, 0.005).items()}
    assert chosen == {"size": "small", "latency": "fast", "balanced": "both"}


@pytest.mark.parametrize("goal", ["size", "latency", "balanced"])
def test_where_none_keeps_the_promise_the_original_is_best(goal):
    assert choose_per_goal([ORIGINAL, make_trial("broken", 0.5, 10, 0.01)], 0.005)[goal] is ORIGINAL
    assert choose_per_goal([ORIGINAL, replace(ORIGINAL, name="same", drop=0.0)], 0.0)[goal] is ORIGINAL
