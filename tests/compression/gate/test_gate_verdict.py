"""Verdicts: proven, unproven or failed, and what is said."""

import json
import math

import numpy as np
import pytest
from answers import LABELS, make_decided, make_pair, take
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.compression.gate import Paired, Promise, judge
from bmp.compression.gate.words import round_up
from bmp.errors import ConfigError, ProofError, UnknownNameError
from bmp.objectives import OBJECTIVES, list_metrics

EVERY = [
    (objective, metric) for objective in sorted(OBJECTIVES) for metric in list_metrics(objective, LABELS[objective])
]
ORDER = ["failed", "unproven", "proven"]


def lose(count, lost, gained=0):
    """Returns binary models: examples of both classes that only one of the two has right."""
    true = np.arange(count) % 2
    before, after = true.copy(), true.copy()
    after[:lost] = 1 - true[:lost]
    before[lost : lost + gained] = 1 - true[lost : lost + gained]
    return make_decided(true, before, after)


def test_proven():
    verdict = judge(lose(5000, 5, 3), Promise(0.005))
    assert verdict.kind == "proven" and verdict.needed is None
    assert verdict.sentence == (
        "Proven on 5,000 examples, with 95 % confidence: accuracy falls by 0.04 points, and is worse by "
        "0.15 points at the most; 0.50 points are allowed."
    )


def test_unproven_says_how_many_examples_it_would_take():
    verdict = judge(lose(300, 1, 1), Promise(0.005))
    assert verdict.kind == "unproven"
    assert verdict.sentence.startswith("Unproven on 300 examples, with 95 % confidence: accuracy stays the same, but")
    assert f"about {round_up(verdict.needed - 300):,} more would prove it" in verdict.sentence
    factor = verdict.needed // 300 + 1
    assert judge(lose(300 * factor, factor, factor), Promise(0.005)).kind == "proven"


def test_unproven_for_ever():
    verdict = judge(lose(300, 3), Promise(0.005))
    assert (verdict.kind, verdict.needed) == ("unproven", None)
    assert "No number of examples proves it while the drop seen is not smaller than that." in verdict.sentence


def test_failed():
    verdict = judge(lose(1000, 30), Promise(0.005, class_floor=None))
    assert verdict.kind == "failed"
    assert verdict.sentence == (
        "Failed on 1,000 examples, with 95 % confidence: accuracy falls by 3.00 points, by 2.23 points at the least; "
        "0.50 points are allowed."
    )


def test_a_class_that_falls_breaks_a_promise_that_holds_on_average():
    true = np.array([0] * 9900 + [1] * 100)
    after = true.copy()
    after[-20:] = 0
    paired = make_decided(true, true, after)
    assert judge(paired, Promise(0.005, class_floor=None)).kind == "proven"
    verdict = judge(paired, Promise(0.005))
    assert verdict.kind == "failed" and [row.label for row in verdict.fallen] == ["yes"]
    assert "1 class loses over 5 points of recall: 'yes' (20 lost and 0 gained of 100)." in verdict.sentence


@pytest.mark.parametrize(("share", "kind"), [(0.9, "proven"), (0.98, "unproven"), (0.999, "failed")])
def test_agreement_that_is_asked_for(share, kind):
    verdict = judge(lose(1000, 10, 10), Promise(0.05, min_agreement=share))
    assert verdict.agreement.share == pytest.approx(0.98)
    assert verdict.kind == kind
    assert (kind == "proven") != ("are asked for" in verdict.sentence)


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_answers_that_are_not_finite_fail_and_those_of_the_original_are_refused(objective):
    from answers import make_outputs, make_targets

    random = np.random.default_rng(0)
    targets = make_targets(objective, random, 50)
    outputs = make_outputs(objective, targets, random, 1)
    broken = outputs.copy()
    broken[4] = np.nan
    good, bad = take(objective, outputs, targets), take(objective, broken, targets)
    verdict = judge(Paired(good, bad), Promise(0.5))
    assert verdict.sentence == "Failed: the outputs are not finite for 1 of 50 examples."
    assert json.loads(json.dumps(verdict.to_json(), allow_nan=False))["high"] is None
    with pytest.raises(ProofError, match="not finite for 1 of 50 examples"):
        judge(Paired(bad, good), Promise(0.5))


@pytest.mark.parametrize(("objective", "metric"), EVERY)
def test_every_metric_has_all_three_verdicts(objective, metric):
    promise = Promise(0.05, metric=metric, class_floor=None)
    worse = make_pair(objective, 200, noise=1, change=8)
    assert judge(worse, promise, resamples=300).kind == "failed"
    assert judge(Paired(worse.candidate, worse.original), promise, resamples=300).kind == "proven"
    assert judge(make_pair(objective, 22, noise=2, change=2, seed=4), promise, resamples=300).kind != "proven"


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 400), st.integers(0, 20), st.integers(0, 20), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_wider_promise_is_never_harder_to_keep(count, lost, gained, one, other):
    paired = lose(max(count, lost + gained), lost, gained)
    strict, wide = (judge(paired, Promise(limit)) for limit in sorted((one, other)))
    assert ORDER.index(strict.kind) <= ORDER.index(wide.kind)
    for verdict in (strict, wide):
        assert verdict.low <= verdict.drop <= verdict.high
        assert (verdict.kind == "proven") <= (verdict.high <= verdict.max_drop + 1e-9)
        assert (verdict.kind == "unproven") <= (verdict.low <= verdict.max_drop + 1e-9)
        assert verdict.needed is None or verdict.needed > verdict.examples


def test_the_same_model_keeps_no_promise_of_nothing_by_decisions_but_does_by_losses():
    original = make_pair("multiclass", 300).original
    same = Paired(original, original)
    assert judge(same, Promise(0.0)).kind == "unproven"
    assert judge(same, Promise(0.0, metric="log_loss")).kind == "proven"


def test_few_examples_prove_nothing():
    for objective in OBJECTIVES:
        verdict = judge(make_pair(objective, 3, change=0.01), Promise(0.01))
        assert verdict.kind == "unproven", objective
        json.dumps(verdict.to_json(), allow_nan=False)
    assert "fewer than 20 examples" in judge(make_pair("regression", 3), Promise(0.5)).sentence


def test_limits_and_metrics_that_do_not_fit_are_refused():
    for field in ({"max_drop": -0.1}, {"max_drop": math.nan}, {"max_drop": 0.1, "confidence": 95.0}):
        with pytest.raises(ConfigError, match="but it must be from"):
            Promise(**field)
    with pytest.raises(UnknownNameError, match=r"'acuracy' is no metric.*Did you mean 'accuracy'"):
        judge(lose(50, 1), Promise(0.01, metric="acuracy"))
