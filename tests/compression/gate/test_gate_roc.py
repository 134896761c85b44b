"""The area under the ROC curve, against the sums over all pairs that DeLong's method is made of."""

import math

import numpy as np
import pytest
from answers import make_pair, sigmoid, take
from scipy import special
from sklearn import metrics

from bmp.compression.gate import Paired
from bmp.compression.gate.interval import UNKNOWN
from bmp.compression.gate.roc import area, area_drop_interval


def pair_up(scores, true):
    """Returns psi of every positive (row) against every negative (column)."""
    positive, negative = scores[true == 1][:, None], scores[true == 0][None]
    return (positive > negative) + 0.5 * (positive == negative)


def test_interval_is_delong_s_by_brute_force():
    paired = make_pair("binary", 150, noise=3, change=0.7)
    true = paired.original.targets
    rounded = [np.round(record.answers, 2) for record in (paired.original, paired.candidate)]  # ties among them
    paired = Paired(*(take("binary", scores[:, None], true) for scores in rounded))
    tables = [pair_up(scores, true) for scores in rounded]
    by_positive, by_negative = ([table.mean(axis=axis) for table in tables] for axis in (1, 0))
    s10, s01 = np.cov(by_positive), np.cov(by_negative)
    contrast = np.array([1, -1])
    variance = contrast @ (s10 / len(by_positive[0]) + s01 / len(by_negative[0])) @ contrast
    drop = tables[0].mean() - tables[1].mean()
    half = special.ndtri(0.95) * math.sqrt(variance)
    assert area_drop_interval(paired, 0.95) == pytest.approx((drop - half, drop + half), abs=1e-12)
    assert area(paired.original) == pytest.approx(metrics.roc_auc_score(true, rounded[0]))


def test_one_label_of_several_alone_is_as_wide_as_by_itself():
    """Labels that are copies of each other: their mean has the interval of one."""
    one = make_pair("binary", 200, noise=3, change=0.7)
    three = (
        take("multilabel", np.repeat(r.answers[:, None], 3, 1), np.repeat(r.targets[:, None], 3, 1))
        for r in (one.original, one.candidate)
    )
    assert area_drop_interval(Paired(*three), 0.95) == pytest.approx(area_drop_interval(one, 0.95), abs=1e-12)


def test_a_label_with_one_kind_of_example_is_passed_over():
    paired = make_pair("multilabel", 200, noise=3)
    targets = paired.original.targets.copy()
    targets[:, 1] = 0
    records = [take("multilabel", record.answers, targets) for record in (paired.original, paired.candidate)]
    assert area(records[0]) == pytest.approx(
        np.mean([0.5, *(metrics.roc_auc_score(targets[:, i], records[0].answers[:, i]) for i in (0, 2))])
    )
    low, high = area_drop_interval(Paired(*records), 0.95)
    assert low < area(records[0]) - area(records[1]) < high


def test_few_of_one_kind_or_one_kind_alone_say_nothing():
    random = np.random.default_rng(0)
    for positives in (0, 5, 100):
        true = (np.arange(100) < positives).astype(np.int64)
        record = take("binary", random.random((100, 1)), true)
        assert area_drop_interval(Paired(record, record), 0.95) == UNKNOWN


def test_two_perfect_rankings_are_not_proof_of_equality():
    true = np.arange(200) % 2
    record = take("binary", (true * 0.8 + 0.1)[:, None], true)
    low, high = area_drop_interval(Paired(record, record), 0.95)
    assert -low == high == pytest.approx(0.0263, abs=1e-3)


def test_errors_are_as_rare_as_promised():
    """Normal scores: the areas of both models are known."""
    random, runs, count = np.random.default_rng(0), 1000, 300
    true = (np.arange(count) < 120).astype(np.int64)
    drop = special.ndtr(1.5 / math.sqrt(2)) - special.ndtr(1.5 / math.sqrt(2 * 1.25))
    ends = []
    for _ in range(runs):
        scores = random.normal(size=count) + 1.5 * true
        both = scores, scores + random.normal(0, 0.5, count)
        ends.append(area_drop_interval(Paired(*(take("binary", sigmoid(s)[:, None], true, count) for s in both)), 0.95))
    low, high = np.transpose(ends)
    noise = 3 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.02 <= np.mean(high <= drop) <= 0.05 + noise
    assert 0.02 <= np.mean(low > drop) <= 0.05 + noise
