import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bmp.compression.weights.masks import GrowingMasks, keep_largest, keep_largest_blocks, keep_two_of_four

SHARES = st.floats(0, 1)
FOURS = arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 4).map(lambda n: 4 * n)),
    elements=st.floats(-9, 9, width=32),
)


@given(FOURS, SHARES)
def test_the_smallest_go(values, share):
    stays = keep_largest(values, share)
    assert np.count_nonzero(~stays) == round(share * values.size)
    assert np.abs(values[~stays]).max(initial=0) <= np.abs(values[stays]).min(initial=np.inf)


@given(FOURS, SHARES)
def test_of_four_at_most_two_go_and_in_the_end_just_two(values, share):
    stays = keep_two_of_four(values, share)
    gone = np.count_nonzero(~stays.reshape(-1, 4), axis=1)
    assert gone.max() <= 2
    assert gone.sum() == round(share * values.size / 2)
    whole = keep_two_of_four(values, 1.0)
    assert (np.count_nonzero(whole.reshape(-1, 4), axis=1) == 2).all()
    assert not (whole & ~stays).any()  # what goes on the way would go in the end


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 11)), elements=st.floats(-9, 9, width=32)), SHARES
)
def test_blocks_go_whole(rows, share):
    stays = keep_largest_blocks(rows, share)
    assert stays.shape == rows.shape
    starts = np.arange(0, rows.shape[1], 4)
    sizes = np.minimum(4, rows.shape[1] - starts)
    counts = np.add.reduceat(stays.astype(int), starts, axis=1)
    assert ((counts == 0) | (counts == sizes)).all()
    assert np.count_nonzero(counts == 0) == round(share * counts.size)


def test_blocks_of_least_mean_size_go():
    rows = np.array([[3, 0, 0, 0, 1, 1, 1, 1, 0.9]])
    assert keep_largest_blocks(rows, 1 / 3).tolist() == [[False] * 4 + [True] * 5]  # 0.75, 1, 0.9


@pytest.mark.parametrize(("ramp_steps", "per_epoch", "first"), [(0, 5, 0), (1, 5, 0), (5, 5, 0), (6, 5, 1), (12, 5, 2)])
def test_the_first_epoch_that_competes_has_all_zeros(ramp_steps, per_epoch, first):
    masks = GrowingMasks([], lambda *_: None, ramp_steps=ramp_steps, steps_per_epoch=per_epoch)
    assert masks.first_full_epoch == first
    assert masks.is_full == (ramp_steps == 0)


def test_masks_grow_step_by_step_and_are_resumed():
    asked = []

    class Part:
        def read(self):
            return np.ones(4)

    class Held:
        class variable:
            @staticmethod
            def assign(array):
                asked.append(("set", array.tolist()))

            @staticmethod
            def numpy():
                return np.array([1.0, 0.0])

    def choose(kernel, values, progress):
        asked.append(round(progress, 3))
        return np.array([True, False])

    def make():
        return GrowingMasks([(Part(), Held())], choose, ramp_steps=4, steps_per_epoch=3)

    masks = make()
    for epoch, batch in ((0, 0), (0, 2), (1, 0), (1, 1), (1, 2)):  # calls of several steps leave some out
        masks.on_epoch_begin(epoch)
        masks.on_train_batch_end(batch)
    assert [entry for entry in asked if not isinstance(entry, tuple)] == [0.578, 0.984, 1.0]
    assert masks.is_full
    other = make()
    other.set_state(masks.get_state())
    other.set_arrays(masks.get_arrays())
    assert other.is_full
    assert asked[-1] == ("set", [1.0, 0.0])
    late = make()
    late.finish()
    assert late.is_full
    assert asked[-2] == 1.0
