"""The order of examples: a function of (seed, epoch, position), whoever reads and wherever they start."""

import itertools
import time

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.data import Split
from bmp.data.pipeline import Pipeline
from bmp.data.source import BadExampleError, Source
from bmp.errors import BmpError, DataError
from bmp.objectives import Target
from bmp.transforms import Field, Preprocessing, build_steps


class Numbers(Source):
    """Every example is its own number, as a feature and as the target; one may be bad."""

    fields = (Field("number", "tensor", "int64"),)
    target = Target("number")

    def __init__(self, size, bad=None):
        self.size, self.bad, self.reads = size, bad, []

    def __len__(self):
        return self.size

    def read(self, index):
        if self.bad in index:
            raise BadExampleError(self.bad, self.where(self.bad), "is bad")
        self.reads.append(np.array(index))
        return {"number": index.astype(np.int64)}

    def read_targets(self, index):
        return index.astype(np.float32)[:, None]

    def where(self, number):
        return f"number {number}"


def make_split(size, **options):
    source = Numbers(size, **options)
    return Split(source, np.arange(size), Preprocessing(source.fields, ()))


def flatten(batches):
    return list(itertools.chain.from_iterable(batches))


def read(dataset, steps):
    """Returns the examples of each batch; those that weigh nothing only fill up a share."""
    return [count_weights(*batch) for batch in itertools.islice(dataset, steps)]


def count_weights(inputs, _, weights=None):
    kept = inputs if weights is None else inputs[weights > 0]
    return kept.numpy().tolist()


def read_shuffled(size, batch_size, steps, seed=0, **where):
    return read(Pipeline(make_split(size), batch_size).shuffled(seed, **where), steps)


@pytest.mark.parametrize(("size", "batch_size", "steps"), [(10, 3, 4), (12, 4, 3), (7, 1, 7), (5, 5, 1), (5, 99, 1)])
def test_an_epoch_is_every_example_once(size, batch_size, steps):
    assert Pipeline(make_split(size), batch_size).steps_per_epoch == steps
    for epoch in range(3):
        batches = read_shuffled(size, batch_size, steps, first_step=epoch * steps)
        assert sorted(flatten(batches)) == list(range(size))
        assert [len(batch) for batch in batches[:-1]] == [min(batch_size, size)] * (steps - 1)


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = read_shuffled(100, 100, 2, seed=1)
    (other,) = read_shuffled(100, 100, 1, seed=2)
    assert len({tuple(order) for order in (first, second, other, range(100))}) == 4


def test_positions_are_spread_evenly():
    """Each example comes first about as often as any other."""
    firsts = [batch[0] for batch in read_shuffled(8, 8, 800)]
    counts = np.bincount(firsts, minlength=8)
    assert counts.min() > 60 and counts.max() < 140  # 100 expected, standard deviation 9.4


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_starting_later_is_skipping(size, batch_size, first_step, seed):
    whole = read_shuffled(size, batch_size, first_step + 3, seed)
    assert read_shuffled(size, batch_size, 3, seed, first_step=first_step) == whole[first_step:]


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 40), st.integers(1, 12), st.sampled_from([(2, 1), (4, 1), (4, 2), (3, 1), (2, 2)]))
def test_any_number_of_workers_reads_one_sequence(size, batch_size, cluster):
    replicas, local = cluster
    alone = read_shuffled(size, batch_size, 5, first_step=1)
    shares = [
        read_shuffled(
            size, batch_size, 5 * local, num_shares=replicas, first_share=first, local_shares=local, first_step=1
        )
        for first in range(0, replicas, local)
    ]
    for step, batch in enumerate(alone):
        dealt = [share[step * local + replica] for share in shares for replica in range(local)]
        assert flatten(dealt) == batch
        assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@pytest.mark.parametrize(("size", "batch_size", "replicas"), [(10, 4, 2), (9, 4, 2), (9, 4, 3), (5, 4, 4), (12, 4, 2)])
def test_weights_of_all_shares_are_the_mean_over_the_global_batch(size, batch_size, replicas):
    pipeline = Pipeline(make_split(size), batch_size)
    shares = [pipeline.shuffled(0, num_shares=replicas, first_share=share) for share in range(replicas)]
    epochs = [itertools.islice(share, 2 * pipeline.steps_per_epoch) for share in shares]
    assert pipeline.weighs(replicas) == any(length % replicas for length in (batch_size, size % batch_size))
    for number, step in enumerate(zip(*epochs, strict=True)):
        assert all(len(share[0]) >= 1 for share in step)  # no replica is ever without an example
        length = min(batch_size, size - number % pipeline.steps_per_epoch * batch_size)
        if not pipeline.weighs(replicas):
            assert all(len(share) == 2 and len(share[0]) * replicas == length for share in step)
            continue
        weights = np.concatenate([share[2] for share in step])
        np.testing.assert_allclose(np.sort(weights[weights > 0]), np.full(length, 1 / length), rtol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_validation_is_dealt_out_whole(replicas):
    pipeline = Pipeline(make_split(10), 4)
    shares = [list(pipeline.in_order(num_shares=replicas, first_share=share)) for share in range(replicas)]
    dealt = [flatten(count_weights(*share[step]) for share in shares) for step in range(pipeline.steps_per_epoch)]
    assert dealt == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_the_examples_of_a_step_have_names():
    pipeline = Pipeline(make_split(20).take(np.arange(3, 20)), 4)
    for step, (batch, _) in enumerate(itertools.islice(pipeline.shuffled(5), 9)):
        np.testing.assert_array_equal(pipeline.numbers_at(5, step), batch)


def test_a_late_step_reads_no_more_than_the_first():
    split = make_split(1000)
    read(Pipeline(split, 10, num_threads=1).shuffled(0, first_step=1_000_000), 1)
    time.sleep(0.1)  # whatever it reads ahead
    assert len(split.source.reads) < 10


@pytest.mark.parametrize("order", ["shuffled", "in_order"])
def test_nothing_is_tuned_meanwhile(order):
    """The tuner of tf.data takes seconds to stop at times, and would at the end of every validation."""
    pipeline = Pipeline(make_split(20), 4)
    dataset = pipeline.shuffled(0) if order == "shuffled" else pipeline.in_order()
    assert dataset.options().autotune.enabled is False


def test_targets_go_with_their_examples():
    for batch, targets in itertools.islice(Pipeline(make_split(50), 8).shuffled(3), 10):
        np.testing.assert_array_equal(targets[:, 0], batch)


def test_in_order_is_once_through():
    batches = list(Pipeline(make_split(10), 4).in_order())
    assert [batch.numpy().tolist() for batch, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_split_is_read_by_its_own_numbers():
    split = make_split(20).take(np.array([3, 11, 7]))
    assert sorted(flatten(read(Pipeline(split, 2).shuffled(0), 2))) == [3, 7, 11]


def test_shapes_are_known_to_whoever_compiles():
    inputs, targets = Pipeline(make_split(10), 4).shuffled(0).element_spec
    assert (inputs.shape.as_list(), targets.shape.as_list()) == ([None], [None, 1])


@pytest.mark.parametrize("order", ["shuffled", "in_order"])
def test_a_bad_example_ends_it_by_name(order):
    pipeline = Pipeline(make_split(20, bad=7), 4)
    dataset = pipeline.shuffled(0) if order == "shuffled" else pipeline.in_order()
    with pytest.raises(DataError, match=r"^number 7: is bad\.$"), pipeline.naming_failures():
        read(dataset, 10)


def test_another_error_stays_what_it_is():
    with pytest.raises(tf.errors.InvalidArgumentError), Pipeline(make_split(5), 2).naming_failures():
        tf.debugging.assert_equal(1, 2)
    with pytest.raises(BmpError), Pipeline(make_split(5), 2).naming_failures():
        raise DataError("something else")


class Pictures(Numbers):
    fields = (Field("number", "tensor", "float32", (6, 6, 1)),)

    def read(self, index):
        return {"number": np.random.default_rng(0).normal(size=(100, 6, 6, 1)).astype(np.float32)[index]}


def test_augmentation_does_not_depend_on_the_number_of_workers():
    source = Pictures(40)
    steps = build_steps([{"kind": "augment", "field": "number", "flip_horizontal": True, "noise": 0.1}], source.fields)
    split = Split(source, np.arange(40), Preprocessing(source.fields, steps))

    def augment(count, **where):
        batches = itertools.islice(Pipeline(split, 8).shuffled(5, first_step=3, **where), count)
        return np.concatenate([batch.numpy() for batch, _ in batches])

    alone = augment(1)
    halves = [augment(1, num_shares=2, first_share=share) for share in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), alone)
    plain = next(batch.numpy() for batch, _ in Pipeline(split, 40).in_order())
    assert all(np.abs(plain - picture).max(axis=(1, 2, 3)).min() > 0 for picture in alone)
    later = np.concatenate([b.numpy() for b, _ in itertools.islice(Pipeline(split, 40).shuffled(5), 2)])
    assert len(np.unique(later.round(6), axis=0)) == 80  # every epoch is augmented anew


class Files(Numbers):
    """PNG files made on demand; one may be no picture at all."""

    fields = (Field("picture", "image"),)

    def read(self, index):
        self.reads.append(np.array(index))
        column = np.empty(len(index), object)
        column[:] = [b"no picture" if number == self.bad else self.draw(number) for number in map(int, index)]
        return {"picture": column}

    def draw(self, number):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3), np.uint8)
        return tf.io.encode_png(pixels).numpy()


def make_files(size, bad=None):
    source = Files(size, bad=bad)
    decode = {"kind": "image", "field": "picture", "height": 6, "width": 6, "channels": 1, "mean": [0.5], "std": [0.25]}
    vary = {"kind": "augment", "field": "picture", "crop": 1, "flip_horizontal": True}
    steps = build_steps([decode, vary], source.fields)
    return Split(source, np.arange(size), Preprocessing(source.fields, steps))


def test_files_that_are_small_altogether_are_decoded_once_and_vary_as_ever():
    kept, read_anew = make_files(70), make_files(70)
    pairs = zip(
        itertools.islice(Pipeline(kept, 32).shuffled(1, first_step=1), 6),
        itertools.islice(Pipeline(read_anew, 32, keeps=False).shuffled(1, first_step=1), 6),
        strict=True,
    )
    for batch, other in pairs:
        for array, expected in zip(batch, other, strict=True):
            np.testing.assert_array_equal(array, expected)
    assert sum(map(len, kept.source.reads)) == 70 < sum(map(len, read_anew.source.reads))


def test_a_file_that_is_no_picture_ends_it_when_its_turn_comes():
    batches = iter(Pipeline(make_files(70, bad=3), 1).shuffled(0))
    with pytest.raises(tf.errors.InvalidArgumentError, match="no PNG or JPEG"):
        for _ in range(70):
            next(batches)
