import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bmp.compression.sensitivity.edits import round_to_int8, saving_of, share_values, zero_smallest

KERNELS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=6), elements=st.floats(-10, 10, width=32)
)


@given(KERNELS, st.floats(0, 1))
def test_the_smallest_weights_become_zero_and_no_others(kernel, share):
    found = zero_smallest(kernel, share)
    changed = found != kernel
    assert np.count_nonzero(found == 0) >= round(share * kernel.size) >= np.count_nonzero(changed)
    assert not found[changed].any()
    if changed.any() and not changed.all():
        assert np.abs(kernel[changed]).max() <= np.abs(kernel[found != 0]).min(initial=np.inf)


@given(KERNELS, st.integers(2, 16))
def test_few_values_are_left_each_the_nearest(kernel, count):
    found = share_values(kernel, count)
    values = np.unique(found)
    assert len(values) <= count
    nearest = np.abs(kernel[..., None].astype(np.float64) - values).min(axis=-1)
    np.testing.assert_allclose(np.abs(kernel.astype(np.float64) - found), nearest, atol=1e-5)


def test_values_are_the_centres_of_clusters():
    kernel = np.array([[-1.1, -0.9, 0.2], [0.3, 2.0, 2.0]], np.float32)
    np.testing.assert_allclose(share_values(kernel, 3), [[-1, -1, 0.25], [0.25, 2, 2]], rtol=1e-6)


@given(KERNELS)
def test_rounding_is_off_by_half_a_step_of_its_output(kernel):
    found = round_to_int8(kernel)
    step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 127
    assert (np.abs(found - kernel) <= 0.5 * step + 1e-5).all()
    for output in range(kernel.shape[-1]):
        assert len(np.unique(found[..., output])) <= 255


@pytest.mark.parametrize(
    ("technique", "level", "saving"), [("prune", 0.8, 0.8), ("cluster", 16, 0.875), ("int8", 8, 0.75)]
)
def test_savings(technique, level, saving):
    assert saving_of(technique, level) == pytest.approx(saving)
