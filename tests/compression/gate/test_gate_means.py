"""Intervals for means over the same examples."""

import math

import numpy as np
import pytest
from scipy import stats

from bmp.compression.gate.interval import UNKNOWN
from bmp.compression.gate.means import mean_interval, ratio_interval


def test_the_mean_interval_is_that_of_a_paired_t_test():
    differences = np.random.default_rng(0).gamma(2, 1, 50)
    for side, end in (("less", 1), ("greater", 0)):
        published = stats.ttest_1samp(differences, 0, alternative=side).confidence_interval(0.95)
        assert mean_interval(differences, 0.95)[end] == pytest.approx(published[end])


def test_the_ends_of_a_ratio_are_where_the_t_test_turns():
    random = np.random.default_rng(0)
    original = random.gamma(2, 1, 80)
    candidate = 1.1 * original + random.normal(0, 0.2, 80)
    for end, side in zip(ratio_interval(original, candidate, 0.95), ("greater", "less"), strict=True):
        assert stats.ttest_1samp(candidate - (1 + end) * original, 0, alternative=side).pvalue == pytest.approx(0.05)


def test_few_examples_and_a_mean_of_about_nothing_say_nothing():
    assert mean_interval(np.ones(5), 0.95) == UNKNOWN
    assert ratio_interval(np.ones(5), np.ones(5), 0.95) == UNKNOWN
    spike = np.zeros(100)
    spike[0] = 1.0  # a mean that is not told from 0
    assert ratio_interval(spike, spike + 1, 0.95) == UNKNOWN


def test_the_same_losses_are_the_same():
    losses = np.random.default_rng(0).gamma(2, 1, 80)
    assert ratio_interval(losses, losses, 0.95) == pytest.approx((0, 0), abs=1e-6)


def test_errors_are_as_rare_as_promised():
    random, runs, true = np.random.default_rng(1), 1500, 0.02
    ends = []
    for _ in range(runs):
        original = random.gamma(1.5, 1, 150)
        ends.append(ratio_interval(original, (1 + true) * original + random.normal(0, 0.2, 150), 0.95))
    low, high = np.transpose(ends)
    noise = 3 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.02 <= np.mean(high <= true) <= 0.05 + noise
    assert 0.02 <= np.mean(low > true) <= 0.05 + noise
