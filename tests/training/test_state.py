import numpy as np
import pytest
import tensorflow as tf
from fitting import build_net, make_data, make_trainer

from bmp.errors import CheckpointError
from bmp.training.state import TrainState, _spread


@pytest.fixture(scope="module")
def data():
    return make_data()


def make_state(data, *, optimizer="adam", norm=True):
    trainer = make_trainer(data, optimizer=optimizer)
    model = build_net(trainer, norm=norm)
    trainer.compile(model, 0.01)
    return TrainState(model, trainer.strategy)


def scramble(state, seed):
    rng = np.random.default_rng(seed)
    for variable in state._variables(False).values():
        values = rng.uniform(0, 9, variable.shape)
        variable.assign(tf.cast(values, variable.dtype))


def test_all_comes_back_and_is_a_copy(data):
    state = make_state(data)
    scramble(state, 1)
    taken = state.take(metrics=False)
    assert sum(name.startswith("weight/") for name in taken) == 8  # two layers, gamma, beta, mean and variance
    assert sum(name.startswith("optimizer/") for name in taken) == 2 + 2 * 6  # steps, rate, two moments
    before = {name: array.copy() for name, array in taken.items()}
    scramble(state, 2)
    for name, array in before.items():
        np.testing.assert_array_equal(taken[name], array)
    state.put(taken)
    for name, array in state.take(metrics=False).items():
        np.testing.assert_array_equal(array, before[name])


def test_the_weights_alone_leave_the_optimizer_as_it_is(data):
    state = make_state(data)
    taken = state.take_weights()
    assert set(taken) == {name for name in state.take(metrics=False) if name.startswith("weight/")}
    scramble(state, 3)
    steps = state.take(metrics=False)["optimizer/0000"]
    state.put_weights(taken)
    after = state.take(metrics=False)
    np.testing.assert_array_equal(after["weight/0000"], taken["weight/0000"])
    np.testing.assert_array_equal(after["optimizer/0000"], steps)


@pytest.mark.parametrize("put", ["put", "put_weights"])
def test_what_observers_left_in_a_checkpoint_is_not_its_business(data, put):
    state = make_state(data)
    taken = state.take(metrics=False) | {"KeepBest/0000": np.ones(7), "metric/0000": np.ones(())}
    getattr(state, put)(taken)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda arrays: arrays.pop("weight/0001"), r"at weight/0001 it has nothing where the run has \S+bias:0 \(8,\)"),
        (
            lambda arrays: arrays.update({"weight/0008": np.ones(2)}),
            r"weight/0008 it has shape \(2,\) where",
        ),
        (lambda arrays: arrays.update({"weight/0000": np.ones((6, 9))}), r"shape \(6, 9\) where .* \(6, 8\)"),
    ],
)
def test_another_model_is_refused_and_nothing_is_put(data, change, sentence):
    state = make_state(data)
    before = state.take(metrics=False)
    arrays = {name: array + 1 for name, array in before.items()}
    change(arrays)
    for put in (state.put, state.put_weights):
        with pytest.raises(CheckpointError, match=sentence):
            put(arrays)
    for name, array in state.take(metrics=False).items():
        np.testing.assert_array_equal(array, before[name])


def test_another_optimizer_is_refused(data):
    arrays = make_state(data, optimizer="sgd").take(metrics=False)
    with pytest.raises(CheckpointError, match="Resume with the model and optimizer that the run began with"):
        make_state(data).put(arrays)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lamb", "adafactor"])
def test_the_optimizers_steps_are_among_what_is_kept(data, optimizer):
    state = make_state(data, optimizer=optimizer)
    state.model.optimizer.iterations.assign(77)
    assert 77 in [int(array) for array in state.take(metrics=False).values() if array.shape == ()]


def variable(shape, aggregation):
    return tf.Variable(np.zeros(shape, np.float32), aggregation=aggregation)


SUM, MEAN = tf.VariableAggregation.SUM, tf.VariableAggregation.MEAN


@pytest.mark.parametrize(
    ("saved", "aggregation", "count", "rows"),
    [
        ([[1, 2], [3, 6]], SUM, 2, [[1, 2], [3, 6]]),
        ([[1, 2], [3, 6]], MEAN, 2, [[1, 2], [3, 6]]),
        ([[1, 2], [3, 6]], MEAN, 1, [[2, 4]]),
        ([[1, 2], [3, 6]], SUM, 1, [[4, 8]]),
        ([[1, 2], [3, 6]], SUM, 3, [[4, 8], [0, 0], [0, 0]]),
        ([[1, 2], [3, 6]], MEAN, 3, [[2, 4], [2, 4], [2, 4]]),
        ([1, 2], MEAN, 2, [[1, 2], [1, 2]]),
        ([1, 2], SUM, 2, [[1, 2], [0, 0]]),
        ([1, 2], SUM, 1, [[1, 2]]),
    ],
)
def test_another_number_of_replicas_gets_the_same_sums_and_means(saved, aggregation, count, rows):
    found = _spread(np.array(saved, np.float32), variable((2,), aggregation), count)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows)
