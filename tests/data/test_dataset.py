import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.config import DataConfig
from bmp.data import Examples, Split, load_data
from bmp.errors import DataError, SignatureError
from bmp.signature import Signature, TensorSpec

SPLITS = ("train", "validation", "test")


def make_examples(*counts: int) -> Examples:
    """So many examples of each class; every input is the number of the example."""
    targets = np.repeat(np.arange(len(counts)), counts)
    signature = Signature((TensorSpec("row", "float32", (1,)),), (TensorSpec("out", "float32", (len(counts),)),))
    rows = np.arange(len(targets), dtype=np.float32)[:, None]
    return Examples({"row": rows}, targets, signature, tuple(f"class {index}" for index in range(len(counts))))


def configure(train=0.70, validation=0.15, test=0.15, stratify=True) -> DataConfig:
    return DataConfig(source="any", split={"train": train, "validation": validation, "test": test}, stratify=stratify)


def get_rows(split: Split) -> list[int]:
    return split.inputs["row"][:, 0].astype(int).tolist()


@st.composite
def configs(draw):
    validation, test = draw(st.floats(0.05, 0.45)), draw(st.floats(0.05, 0.45))
    return configure(1 - validation - test, validation, test, draw(st.booleans()))


@given(configs(), st.integers(0, 2**32 - 1), st.lists(st.integers(20, 40), min_size=1, max_size=4))
def test_splits_are_disjoint_and_complete_and_keep_targets_with_inputs(config, seed, counts):
    examples = make_examples(*counts)
    data = load_data(lambda: examples, config, seed)
    rows = [row for name in SPLITS for row in get_rows(getattr(data, name))]
    assert sorted(rows) == list(range(sum(counts)))
    for name in SPLITS:
        split = getattr(data, name)
        assert split.targets.tolist() == examples.targets[get_rows(split)].tolist()


@given(configs(), st.integers(0, 2**32 - 1), st.lists(st.integers(20, 40), min_size=1, max_size=4))
def test_splits_have_the_shares_asked_for(config, seed, counts):
    data = load_data(lambda: make_examples(*counts), config, seed)
    for name in ("validation", "test"):
        share, split = getattr(config.split, name), getattr(data, name)
        if config.stratify:
            for label, count in enumerate(counts):
                assert abs(np.count_nonzero(split.targets == label) - share * count) <= 0.5 + 1e-9
        else:
            assert abs(len(split) - share * sum(counts)) <= 0.5 + 1e-9


@given(configs(), st.integers(0, 2**32 - 1))
def test_the_same_seed_splits_alike_and_another_does_not(config, seed):
    def split(seed):
        data = load_data(lambda: make_examples(40, 40, 40), config, seed)
        return [get_rows(getattr(data, name)) for name in SPLITS]

    assert split(seed) == split(seed)
    assert split(seed) != split(seed ^ 1)


def test_classes_are_mixed_within_a_split():
    data = load_data(lambda: make_examples(100, 100), configure(), 0)
    assert 0 < data.train.targets[:50].mean() < 1


@pytest.mark.parametrize("counts", [(2, 100), (100, 1), (100, 3), (0, 3)])
def test_a_class_with_too_few_examples_is_named(counts):
    few = min(range(2), key=lambda label: counts[label] or 1000)
    with pytest.raises(DataError, match=rf"Class 'class {few}' has {counts[few]} examples, too few"):
        load_data(lambda: make_examples(*counts), configure(), 0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_too_few_examples_altogether(count):
    with pytest.raises(DataError, match=f"The source has {count} examples, too few"):
        load_data(lambda: make_examples(count), configure(stratify=False), 0)


def test_a_share_too_small_for_one_example_is_refused():
    with pytest.raises(DataError, match=r"change data\.split"):
        load_data(lambda: make_examples(20, 20), configure(0.98, 0.01, 0.01), 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_example_that_is_not_finite_is_named(value):
    examples = make_examples(10)
    examples.inputs["row"][7] = value
    with pytest.raises(DataError, match="Input 'row' of example 7 holds NaN or infinity"):
        dataclasses.replace(examples)


@pytest.mark.parametrize("count", [9, 11])
def test_each_example_needs_one_target(count):
    with pytest.raises(DataError, match=f"10 examples came with {count} targets"):
        dataclasses.replace(make_examples(10), targets=np.zeros(count, np.int64))


@pytest.mark.parametrize("rows", [np.zeros((10, 1)), np.zeros((10, 2), np.float32), np.zeros((0, 1), np.float32)])
def test_examples_have_to_fit_their_signature(rows):
    with pytest.raises(SignatureError, match="Input 'row'"):
        dataclasses.replace(make_examples(10), inputs={"row": rows})


@pytest.mark.parametrize("target", [-1, 2])
def test_a_target_without_a_label_is_refused(target):
    with pytest.raises(DataError):
        dataclasses.replace(make_examples(10, 10), targets=np.full(20, target))


def test_the_digest_is_of_inputs_targets_and_labels():
    examples = make_examples(5, 5)
    others = [
        dataclasses.replace(examples, inputs={"row": examples.inputs["row"] + 1}),
        dataclasses.replace(examples, targets=1 - examples.targets),
        dataclasses.replace(examples, labels=("a", "b")),
    ]
    assert dataclasses.replace(examples, inputs={"row": examples.inputs["row"].copy()}).digest() == examples.digest()
    assert len({other.digest() for other in [examples, *others]}) == 4


def test_the_digest_is_of_values_not_of_their_place_in_memory():
    examples = make_examples(6)
    reversed_twice = dataclasses.replace(examples, inputs={"row": examples.inputs["row"][::-1].copy()[::-1]})
    assert reversed_twice.digest() == examples.digest()


def test_a_dataset_remembers_what_was_split():
    examples = make_examples(20, 20)
    data = load_data(lambda: examples, configure(), 0)
    assert (data.digest, data.labels, data.signature) == (examples.digest(), examples.labels, examples.signature)


def test_taking_examples_keeps_inputs_and_targets_together():
    split = Split({"row": np.arange(5.0)}, np.arange(5))
    taken = split.take(np.array([3, 1]))
    assert (len(taken), taken.inputs["row"].tolist(), taken.targets.tolist()) == (2, [3.0, 1.0], [3, 1])
