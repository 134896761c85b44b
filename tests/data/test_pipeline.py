import numpy as np
import pytest

from bmp.data import Split
from bmp.data.pipeline import build_batches

SPLIT = Split({"a": np.arange(23, dtype=np.float32)[:, None], "b": np.arange(23) * 10}, np.arange(23))


def read_epoch(batches) -> list[list[int]]:
    return [targets.numpy().tolist() for _, targets in batches]


def flatten(epoch: list[list[int]]) -> list[int]:
    return [target for batch in epoch for target in batch]


@pytest.mark.parametrize("shuffle_seed", [None, 0, 7])
@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 23), (8, [8, 8, 7]), (23, [23]), (100, [23])])
def test_every_example_comes_once_an_epoch_in_batches(shuffle_seed, batch_size, sizes):
    epoch = read_epoch(build_batches(SPLIT, batch_size, shuffle_seed=shuffle_seed))
    assert [len(batch) for batch in epoch] == sizes
    assert sorted(flatten(epoch)) == list(range(23))


def test_inputs_stay_with_their_targets():
    for inputs, targets in build_batches(SPLIT, 5, shuffle_seed=1):
        assert inputs["a"].numpy()[:, 0].tolist() == targets.numpy().tolist()
        assert inputs["b"].numpy().tolist() == (targets.numpy() * 10).tolist()


def test_without_a_seed_the_order_is_kept():
    batches = build_batches(SPLIT, 5)
    assert [flatten(read_epoch(batches)) for _ in range(2)] == [list(range(23))] * 2


def test_the_same_seed_gives_the_same_epochs_and_each_epoch_an_order_of_its_own():
    first, second = (build_batches(SPLIT, 5, shuffle_seed=3) for _ in range(2))
    epochs = [flatten(read_epoch(first)) for _ in range(3)]
    assert [flatten(read_epoch(second)) for _ in range(3)] == epochs
    assert len({tuple(epoch) for epoch in [*epochs, range(23)]}) == 4


def test_another_seed_gives_another_order():
    orders = {tuple(flatten(read_epoch(build_batches(SPLIT, 5, shuffle_seed=seed)))) for seed in (1, 2)}
    assert len(orders) == 2
