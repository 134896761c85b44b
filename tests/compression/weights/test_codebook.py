import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmp.compression.weights.codebook import assign_clusters, count_values, find_centres, index_values

KERNELS = arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 9)), elements=st.sampled_from([-2, -1.5, 0, 0.25, 1, 7])
)


def share(kernel, index):
    """What a kernel becomes: each cluster at its mean, that of zeros at 0."""
    return np.select(
        [index == number for number in np.unique(index)],
        [kernel[index == n].mean() * (n > 0) for n in np.unique(index)],
    )


@given(KERNELS, st.integers(2, 5), st.booleans())
def test_no_more_values_than_asked_and_zeros_stay(kernel, count, keeps_zeros):
    index = assign_clusters(kernel, count, np.random.default_rng(0), keeps_zeros=keeps_zeros)
    shared = share(kernel, index)
    assert len(np.unique(index)) <= count
    if keeps_zeros:
        assert ((index == 0) == (kernel == 0)).all()
        assert (shared[kernel == 0] == 0).all()
    else:
        assert index.min() >= 1


@given(KERNELS, st.integers(2, 5))
def test_each_channel_has_clusters_of_its_own(kernel, count):
    index = assign_clusters(kernel, count, np.random.default_rng(0), keeps_zeros=True, outputs_axis=-1)
    channels = [set(np.unique(column)) - {0} for column in index.T]
    assert len(set.union(set(), *channels)) == sum(map(len, channels))
    assert count_values(share(kernel, index), -1) <= count
    assert ((index == 0) == (kernel == 0)).all()


@given(KERNELS, st.sampled_from([None, -1, 0]))
def test_weights_of_one_value_have_one_number(kernel, axis):
    index = index_values(kernel, axis)
    np.testing.assert_array_equal(share(kernel, index), kernel)
    assert set(np.unique(index)) | {0} == set(range(index.max() + 1))
    if axis is None:
        assert len(np.unique(index)) == count_values(kernel)


def test_centres_find_what_is_there():
    rng = np.random.default_rng(1)
    truth = np.array([-3.0, -1.0, 0.5, 4.0])
    weights = (truth[rng.integers(0, 4, 5000)] + rng.normal(0, 0.05, 5000)).astype(np.float32)
    np.testing.assert_allclose(find_centres(weights, 4, rng), truth, atol=0.02)


def test_centres_are_better_than_an_even_spread():
    weights = np.random.default_rng(0).standard_t(3, 40_000).astype(np.float32)

    def error(centres):
        return np.mean((weights - centres[np.abs(weights[:, None] - centres).argmin(axis=1)]) ** 2)

    found = find_centres(weights, 16, np.random.default_rng(0))
    assert len(found) == 16
    assert error(found) < 0.3 * error(np.linspace(weights.min(), weights.max(), 16))


@pytest.mark.parametrize("count", [1, 3, 10])
def test_few_weights_keep_their_values(count):
    np.testing.assert_array_equal(
        find_centres(np.array([2, 2, 1, 5], np.float32), 3, np.random.default_rng(0)), [1, 2, 5]
    )
    index = assign_clusters(np.full((3, count), 2.0), 2, np.random.default_rng(0), keeps_zeros=False)
    assert len(np.unique(index)) == 1
