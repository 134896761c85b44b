"""Drops: what they mean for each metric, and the intervals about them."""

import math

import numpy as np
import pytest
from answers import LABELS, make_pair, take

from bmp.compression.gate import Paired, estimate_drop, measure_metric, point_drop
from bmp.compression.gate.drop import estimate_needed
from bmp.errors import UnknownNameError
from bmp.objectives import METRICS, OBJECTIVES, list_metrics

EVERY = [
    (objective, metric) for objective in sorted(OBJECTIVES) for metric in list_metrics(objective, LABELS[objective])
]


@pytest.mark.parametrize(("objective", "metric"), EVERY)
def test_every_metric_has_a_drop_within_its_interval(objective, metric):
    paired = make_pair(objective, 150, noise=2, change=1)
    found = estimate_drop(paired, metric, resamples=300)
    before, after = found.original, found.candidate
    expected = (after - before) / before if METRICS[metric].is_relative else before - after
    assert found.drop == pytest.approx(expected) == pytest.approx(point_drop(paired, metric))
    assert -math.inf < found.interval.low <= found.drop <= found.interval.high < math.inf
    assert found.interval.low < found.interval.high


@pytest.mark.parametrize(("objective", "metric"), EVERY)
def test_a_much_worse_model_has_dropped_and_is_told_so(objective, metric):
    paired = make_pair(objective, 150, noise=1, change=8)
    assert estimate_drop(paired, metric, resamples=300).interval.low > 0
    swapped = Paired(paired.candidate, paired.original)
    assert estimate_drop(swapped, metric, resamples=300).interval.high < 0


@pytest.mark.parametrize(("objective", "metric"), EVERY)
def test_four_times_the_examples_halve_the_interval(objective, metric):
    widths = []
    for count in (200, 3200):
        low, high = estimate_drop(make_pair(objective, count, noise=2, change=1), metric, resamples=300).interval
        widths.append(high - low)
    assert 2 < widths[0] / widths[1] < 8


@pytest.mark.parametrize(("objective", "metric"), [("binary", "auc"), ("regression", "r2"), ("next_token", "loss")])
def test_with_the_examples_needed_the_drop_is_about_proven(objective, metric):
    paired = make_pair(objective, 200, noise=2, change=0.5)
    found = estimate_drop(paired, metric)
    limit = found.drop + (found.interval.high - found.drop) / 3
    assert estimate_needed(paired, metric, found, limit, 0.95) == pytest.approx(9 * 200, rel=0.01)
    assert estimate_needed(paired, metric, found, found.drop, 0.95) is None


def test_auto_is_the_score_and_a_metric_of_another_objective_is_refused():
    paired = make_pair("regression", 30)
    assert point_drop(paired) == point_drop(paired, "r2")
    with pytest.raises(UnknownNameError, match=r"'rsme' is no metric of the objective regression.*Did you mean 'rmse'"):
        point_drop(paired, "rsme")
    with pytest.raises(UnknownNameError, match="not more than five classes"):
        point_drop(make_narrow(), "top_5")


def make_narrow():
    paired = make_pair("binary", 30)
    from bmp.compression.gate import Recorder

    recorder = Recorder("multiclass", ("a", "b", "c"))
    recorder.update(np.eye(3, dtype=np.float32)[paired.original.targets], paired.original.targets)
    return Paired(recorder.finish(), recorder.finish())


def test_a_loss_of_nothing_has_no_share():
    targets = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    perfect, worse = take("regression", targets, targets), take("regression", targets + 0.1, targets)
    assert estimate_drop(Paired(perfect, perfect), "mae").drop == 0
    assert estimate_drop(Paired(perfect, worse), "mae").interval == (math.inf, math.inf)


def test_outputs_that_are_not_finite_are_infinitely_worse():
    paired = make_pair("regression", 30)
    outputs = paired.candidate.answers.copy()
    outputs[0] = np.nan
    assert point_drop(Paired(paired.original, take("regression", outputs, paired.original.targets))) == math.inf


def test_tokens_of_one_text_are_not_counted_as_independent():
    """Whole texts that are lost are far fewer observations than their tokens."""
    random = np.random.default_rng(0)
    targets = random.integers(5, size=(60, 200)).astype(np.int32)
    right = np.full((60, 200, 5), 0.05, np.float32)
    np.put_along_axis(right, targets[..., None], 0.8, axis=-1)
    worse = right.copy()
    worse[:6] = np.roll(worse[:6], 1, axis=-1)
    paired = Paired(take("next_token", right, targets), take("next_token", worse, targets))
    found = estimate_drop(paired, "accuracy")
    assert found.drop == pytest.approx(0.1)
    assert found.interval.high - found.drop > 0.05
    assert measure_metric(paired.original, "accuracy") == 1
