"""The bootstrap, against what is known of it and by simulation."""

import math

import numpy as np
import pytest
from answers import make_decided, make_pair
from scipy import stats

from bmp.compression.gate import estimate_drop
from bmp.compression.gate.bootstrap import bootstrap_interval
from bmp.compression.gate.functionals import FUNCTIONALS
from bmp.compression.gate.interval import UNKNOWN
from bmp.compression.gate.proportions import tango

CELLS = np.array([(t, o, c) for t in (0, 1) for o in (0, 1) for c in (0, 1)])
SHARES = np.array([0.50, 0.03, 0.02, 0.03, 0.05, 0.02, 0.05, 0.30])
"""Of (true, original's decision, candidate's)."""


def f1(true, decided, shares):
    return 2 * (shares * true * decided).sum() / (shares * (true + decided)).sum()


def test_interval_is_that_of_scipy_where_nothing_unseen_is_added():
    paired = make_pair("regression", 200, noise=1, change=0.3)
    truth = paired.original.targets[:, 0].astype(float)
    errors = [(r.answers[:, 0].astype(float) - truth) ** 2 for r in (paired.original, paired.candidate)]
    both = [
        (r.answers[:, 1].astype(float) - paired.original.targets[:, 1]) ** 2
        for r in (paired.original, paired.candidate)
    ]

    def rise(a0, b0, a1, b1, axis=-1):
        before, after = (np.sqrt(a.mean(axis)) + np.sqrt(b.mean(axis)) for a, b in ((a0, b0), (a1, b1)))
        return after / before - 1

    theirs = stats.bootstrap(
        (errors[0], both[0], errors[1], both[1]),
        rise,
        paired=True,
        vectorized=True,
        confidence_level=0.9,
        n_resamples=4000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = estimate_drop(paired, "rmse", resamples=4000)
    width = theirs.high - theirs.low
    assert ours.interval == pytest.approx((theirs.low, theirs.high), abs=0.08 * width)


def test_seeded():
    paired = make_pair("multiclass", 100)
    once, again, other = (estimate_drop(paired, "f1", seed=seed) for seed in (1, 1, 2))
    assert once == again != other


@pytest.mark.parametrize("objective", ["multiclass", "binary", "multilabel"])
def test_no_change_seen_is_not_no_change(objective):
    """As wide as the interval for accuracy, about."""
    original = make_pair(objective, 400).original
    same = type(make_pair(objective, 2))(original, original)
    interval = estimate_drop(same, "f1").interval
    reach = tango(0, 0, 400, 0.95).high
    assert 0.2 * reach < interval.high < 4 * reach and -4 * reach < interval.low < -0.2 * reach


def test_few_examples_say_nothing():
    assert estimate_drop(make_pair("multiclass", 15), "f1").interval == UNKNOWN


def test_errors_are_as_rare_as_promised():
    random, runs, count = np.random.default_rng(0), 500, 400
    drop = f1(CELLS[:, 0], CELLS[:, 1], SHARES) - f1(CELLS[:, 0], CELLS[:, 2], SHARES)
    functional, ends = FUNCTIONALS["binary", "f1"], []
    for seed in range(runs):
        true, before, after = CELLS[random.choice(8, count, p=SHARES)].T
        paired = make_decided(true, before, after)
        ends.append(bootstrap_interval(paired, functional, lambda o, c: o - c, 0.95, seed, 300))
    low, high = np.transpose(ends)
    noise = 3 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.01 <= np.mean(high <= drop) <= 0.05 + noise
    assert 0.01 <= np.mean(low > drop) <= 0.05 + noise
