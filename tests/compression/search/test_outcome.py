"""The outcome: who is tested in which order, and who may be recommended after that."""

import numpy as np
import pytest

from bmp.artifact.proof import Latency
from bmp.compression.gate import Promise, Recorder
from bmp.compression.search.outcome import cost_of, decide
from bmp.compression.search.trial import Trial

EXAMPLES = 1000
PROMISE = Promise(0.02, class_floor=None)


def make_trial(name, gzip_bytes, drop=0.0, ms=1.0, **figures):
    latency = {1: Latency(ms, ms), 32: Latency(ms, ms)}
    return Trial(name, (name,), file=f"{name}.tflite", drop=drop, gzip_bytes=gzip_bytes, latency=latency, **figures)


ORIGINAL = make_trial("float32", 1000)


def answer_with(lost):
    """Returns what answers for a trial: as the original does, but for so many examples that it gets wrong."""
    asked = []

    def answer(trial):
        asked.append(trial.name)
        targets = np.arange(EXAMPLES) % 2
        decided = targets.copy()
        decided[: lost.get(trial.name, 0)] ^= 1
        recorder = Recorder("binary", ("no", "yes"))
        recorder.update(0.1 + 0.8 * decided[:, None].astype(np.float32), targets)
        return recorder.finish()

    return answer, asked


def decide_on(trials, lost=None, goal="size", **options):
    answer, asked = answer_with(lost or {})
    return decide([ORIGINAL, *trials], goal, PROMISE, answer, **options), asked


def test_the_cheapest_that_is_proven_is_recommended():
    trials = [make_trial("a", 500), make_trial("b", 300, 0.005), make_trial("c", 400, 0.01)]
    outcome, asked = decide_on(trials)
    assert (outcome.recommended, outcome.best, outcome.is_met, outcome.accepted) == ("b", "b", True, False)
    assert asked == ["float32", "a", "b"], "c is worse than b in both respects"
    assert {verdict.kind for verdict in outcome.verdicts.values()} == {"proven"}
    assert outcome.trial("c").gzip_bytes == 400


def test_at_most_three_are_tested_however_many_there_are():
    trials = [make_trial(f"t{number}", 900 - 100 * number, 0.001 * number) for number in range(8)]
    outcome, asked = decide_on(trials)
    assert asked == ["float32", "t0", "t4", "t7"]
    assert outcome.recommended == "t7"


def test_after_one_that_is_not_proven_no_bolder_one_is_tested():
    trials = [make_trial("a", 500), make_trial("b", 300, 0.005), make_trial("c", 200, 0.01)]
    outcome, asked = decide_on(trials, {"b": 18})
    assert asked == ["float32", "a", "b"]
    assert {name: verdict.kind for name, verdict in outcome.verdicts.items()} == {"a": "proven", "b": "unproven"}
    assert (outcome.recommended, outcome.best) == ("a", "c")


def test_an_unproven_one_is_recommended_where_that_was_chosen():
    trials = [make_trial("a", 500), make_trial("b", 300, 0.005), make_trial("c", 200, 0.01)]
    outcome, asked = decide_on(trials, {"b": 18, "c": 200}, accept="unproven")
    assert asked == ["float32", "a", "b", "c"]
    assert (outcome.recommended, outcome.accepted) == ("b", True)
    assert outcome.verdicts["c"].kind == "failed"
    outcome, _ = decide_on(trials, {"a": 18}, accept="unproven")
    assert (outcome.recommended, outcome.accepted) == ("c", True)
    assert {verdict.kind for verdict in outcome.verdicts.values()} == {"unproven"}, "nothing is proven after a doubt"
    assert "a less changed variant, tested before it, is not" in outcome.verdicts["c"].sentence
    outcome, _ = decide_on(trials, accept="unproven")
    assert (outcome.recommended, outcome.accepted) == ("c", False), "all were proven"
    outcome, _ = decide_on(trials, {"a": 200, "b": 200, "c": 200}, accept="unproven")
    assert (outcome.recommended, outcome.accepted) == ("float32", False), "what failed is never accepted"


def test_what_is_seen_to_break_the_promise_is_not_accepted_unproven():
    trials = [make_trial("a", 500), make_trial("b", 300, 0.005), make_trial("c", 200, 0.01)]
    outcome, _ = decide_on(trials, {"b": 18, "c": 25}, accept="unproven")
    assert {name: verdict.kind for name, verdict in outcome.verdicts.items()} | {"a": "proven"} == {
        "a": "proven",
        "b": "unproven",
        "c": "unproven",
    }
    assert outcome.recommended == "b", "25 of 1000 are more than was promised, though by chance perhaps"


def test_one_that_was_only_stored_otherwise_is_tested_first():
    lucky = [make_trial("b", 300, -0.004, epochs=9), make_trial("c", 200, -0.002, epochs=9)]
    stored = [make_trial("float16", 600), make_trial("dynamic", 500), make_trial("int8", 400, 0.01)]
    outcome, asked = decide_on([*lucky, *stored], {"b": 30, "c": 30}, accept="unproven")
    assert asked == ["float32", "dynamic", "b", "c"]
    assert outcome.recommended == "dynamic", "the others were better by chance, on the validation split"


def test_what_breaks_the_promise_or_saves_nothing_is_not_tested():
    trials = [
        make_trial("worse", 100, 0.021),
        make_trial("larger", 1000),
        Trial("impossible", failure="It has no kernel."),
    ]
    outcome, asked = decide_on(trials)
    assert (outcome.recommended, outcome.best, outcome.verdicts, asked) == ("float32", None, {}, [])
    assert not outcome.is_met


def test_a_drop_of_just_what_is_promised_keeps_the_promise():
    outcome, asked = decide_on([make_trial("edge", 100, 7 / 350)])
    assert outcome.best == "edge" and asked == ["float32", "edge"]


@pytest.mark.parametrize(("goal", "chosen"), [("size", "small"), ("latency", "fast"), ("balanced", "both")])
def test_the_goal_says_what_is_cheap(goal, chosen):
    trials = [make_trial("small", 100, ms=0.9), make_trial("fast", 900, ms=0.1), make_trial("both", 300, ms=0.2)]
    assert min(trials, key=cost_of(goal, ORIGINAL)).name == chosen
    assert decide_on(trials, goal=goal)[0].recommended == chosen


def test_what_was_not_timed_counts_as_slow_as_the_original():
    untimed = Trial("a", gzip_bytes=250)
    assert cost_of("latency", ORIGINAL)(untimed) == 1
    assert cost_of("balanced", ORIGINAL)(untimed) == 0.5


def test_every_trial_has_its_verdict_in_words():
    trials = [
        make_trial("a", 500),
        make_trial("b", 300, 0.005),
        make_trial("spare", 450, 0.015),
        make_trial("worse", 100, 0.3),
        Trial("impossible", failure="It has no kernel."),
    ]
    outcome, _ = decide_on(trials, {"b": 300})
    said = {trial.name: outcome.explain(trial, 0.02, "accuracy") for trial in outcome.trials}
    assert said["float32"] == "passed"
    assert said["a"].startswith("recommended: Proven on 1,000 examples")
    assert said["b"].startswith("failed: Failed on 1,000 examples")
    assert said["spare"] == "passed"
    assert said["worse"] == "refused: on the validation split accuracy drops by 0.3000; at most 0.02 is allowed"
    assert said["impossible"] == "refused: It has no kernel."


@pytest.mark.parametrize(
    ("trials", "lost", "reason"),
    [
        ([], {}, "the only variant"),
        ([make_trial("a", 100, 0.3)], {}, "no compressed variant keeps the promise on the validation split"),
        ([make_trial("a", 100)], {"a": 18}, "the promise is not proven for any compressed variant"),
    ],
)
def test_it_is_said_why_the_original_stays(trials, lost, reason):
    outcome, _ = decide_on(trials, lost)
    assert outcome.explain(outcome.trials[0], 0.02, "accuracy") == f"recommended: {reason}"
