import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.transforms.streams import BoundedCounter, MedianSample, Moments

BATCHES = st.lists(
    st.lists(st.one_of(st.floats(-1e6, 1e6, width=32), st.just(float("nan"))), max_size=9), min_size=1, max_size=6
)


@settings(deadline=None)
@given(batches=BATCHES)
def test_moments_are_those_of_the_whole(batches):
    moments = Moments()
    for batch in batches:
        moments.add(np.array(batch, np.float32))
    whole = np.array([value for batch in batches for value in batch], np.float64)
    known = whole[~np.isnan(whole)]
    assert moments.is_finite
    assert moments.is_complete == bool(len(known))
    if len(known):
        assert moments.mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-6)
        assert moments.deviation == pytest.approx(known.std(), rel=1e-9, abs=1e-6)
        assert (moments.low, moments.high) == (known.min(), known.max())


def test_moments_keep_what_a_sum_of_squares_would_lose():
    moments = Moments()
    for start in range(0, 1000, 10):
        moments.add(1e9 + np.arange(start, start + 10) % 2)
    assert moments.deviation == pytest.approx(0.5, rel=1e-9)


def test_moments_of_tensors_are_those_of_each_element():
    values = np.random.default_rng(0).normal(size=(50, 2, 3))
    values[3, 1, 2] = np.nan
    moments = Moments()
    for start in range(0, 50, 7):
        moments.add(values[start : start + 7])
    np.testing.assert_allclose(moments.mean, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.deviation, np.nanstd(values, axis=0), rtol=1e-12)


def test_infinity_is_noticed():
    moments = Moments()
    moments.add(np.array([1.0, -np.inf]))
    assert not moments.is_finite


def test_a_median_is_exact_while_everything_fits():
    values = np.random.default_rng(0).exponential(size=1001)
    sample = MedianSample()
    for start in range(0, 1001, 100):
        sample.add(np.append(values[start : start + 100], np.nan))
    assert sample.median == np.median(values)


def test_a_median_of_more_than_fits_is_close_and_does_not_depend_on_the_batches():
    values = np.random.default_rng(0).permutation(np.arange(100_000.0))
    medians = []
    for size in (1000, 7777, 100_000):
        sample = MedianSample(size=4096)
        for start in range(0, len(values), size):
            sample.add(values[start : start + size])
        assert len(sample) == 4096
        medians.append(sample.median)
    assert len(set(medians)) == 1
    assert abs(medians[0] / 100_000 - 0.5) < 4 * 0.5 / np.sqrt(4096)


def test_counts_are_exact_for_few_values_and_ties_stand_in_order():
    counter = BoundedCounter()
    counter.add(["b", "a", "c", "c"])
    counter.add(["d"])
    assert counter.most_common() == ["c", "a", "b", "d"]
    assert counter.most_common(2) == ["c", "a"]
    assert len(counter) == 4


def test_what_is_frequent_survives_a_flood_of_rare_values():
    random = np.random.default_rng(0)
    counter = BoundedCounter(size=50)
    for _ in range(200):  # 20,000 values; more frequent than 20,000 / 50 = 400 is never lost
        counter.add([*random.integers(0, 1_000_000, 88).tolist(), *[-1] * 6, *[-2] * 4, *[-3] * 2])
        assert len(counter) <= 100
    assert counter.most_common(2) == [-1, -2]
