import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from fitting import assert_equal, build_net, is_equal, make_data, make_trainer, train

from bmp.data.pipeline import Pipeline
from bmp.training.randomness import Draws, SteppedRandomness, find_stateful_draws

LAYERS = {
    "dropout": lambda: keras.layers.Dropout(0.5),
    "spatial dropout": lambda: keras.layers.SpatialDropout1D(0.5),
    "alpha dropout": lambda: keras.layers.AlphaDropout(0.5),
    "gaussian dropout": lambda: keras.layers.GaussianDropout(0.5),
    "noise": lambda: keras.layers.GaussianNoise(1.0),
    "lstm": lambda: keras.layers.LSTM(4, dropout=0.5, recurrent_dropout=0.5),
    "gru": lambda: keras.layers.GRU(4, dropout=0.5, recurrent_dropout=0.5),
    "attention": lambda: _Attention(),
}


class _Attention(keras.layers.Layer):
    """Multi-head attention to itself: a layer within a layer."""

    def __init__(self):
        super().__init__()
        self.inner = keras.layers.MultiHeadAttention(2, 3, dropout=0.5)

    def build(self, shape):
        self.inner._build_from_signature(tf.TensorSpec(shape), tf.TensorSpec(shape))
        super().build(shape)

    def call(self, x, training=None):
        return self.inner(x, x, training=training)


def make(layer):
    """A model of one layer, 5 positions of 4 numbers, and its randomness."""
    inputs = keras.Input((5, 4))
    model = keras.Model(inputs, layer(inputs))
    return model, SteppedRandomness(model, seed=9)


def draw(model, randomness, step, place=0):
    """What the model makes of ones at a step, traced anew."""

    @tf.function
    def call(step):
        randomness.restart()
        with randomness.draws.of_step(step, tf.constant(place)):
            return model(tf.ones((3, 5, 4)), training=True)

    with randomness.installed():
        result = call(tf.constant(step, tf.int64)).numpy()
    assert find_stateful_draws([call]) == []
    return result


@pytest.mark.parametrize("name", LAYERS)
def test_every_random_layer_draws_by_seed_step_and_place_alone(name):
    model, randomness = make(LAYERS[name]())
    first = draw(model, randomness, 4)
    np.testing.assert_allclose(draw(model, randomness, 4), first, atol=1e-6)
    assert not np.allclose(draw(model, randomness, 5), first)
    assert not np.allclose(draw(model, randomness, 4, place=1), first)
    other = SteppedRandomness(model, seed=10)
    assert not np.allclose(draw(model, other, 4), first)


def test_two_layers_alike_draw_differently():
    inputs = keras.Input((100,))
    model = keras.Model(inputs, [keras.layers.Dropout(0.5)(inputs), keras.layers.Dropout(0.5)(inputs)])
    randomness = SteppedRandomness(model, 0)
    with randomness.installed(), randomness.draws.of_step(tf.constant(1, tf.int64), tf.constant(0)):
        one, other = model(tf.ones((1, 100)), training=True)
    assert not np.array_equal(one, other)


def test_a_layer_called_twice_draws_twice():
    layer, inputs = keras.layers.GaussianNoise(1.0), keras.Input((50,))
    model = keras.Model(inputs, [layer(inputs), layer(inputs)])
    randomness = SteppedRandomness(model, 0)
    with randomness.installed(), randomness.draws.of_step(tf.constant(1, tf.int64), tf.constant(0)):
        one, other = model(tf.zeros((1, 50)), training=True)
    assert not np.array_equal(one, other)


def test_as_many_are_dropped_as_was_asked_for_and_the_steps_are_independent():
    layer, inputs = keras.layers.Dropout(0.3), keras.Input((2000,))
    model = keras.Model(inputs, layer(inputs))
    randomness = SteppedRandomness(model, 0)

    @tf.function
    def call(step):
        randomness.restart()
        with randomness.draws.of_step(step, tf.constant(0)):
            return model(tf.ones((4, 2000)), training=True)

    with randomness.installed():
        kept = [call(tf.constant(step, tf.int64)).numpy() > 0 for step in range(20)]
    assert np.mean(kept) == pytest.approx(0.7, abs=0.01)
    assert np.mean(kept[0] & kept[1]) == pytest.approx(0.49, abs=0.03)


def test_layers_get_their_own_generators_back_even_after_an_error():
    model, randomness = make(keras.layers.Dropout(0.5))
    own = model.layers[1]._random_generator
    with pytest.raises(RuntimeError), randomness.installed():
        assert model.layers[1]._random_generator is not own
        raise RuntimeError
    assert model.layers[1]._random_generator is own


def test_outside_of_a_step_a_layer_draws_as_it_always_does():
    model, randomness = make(keras.layers.Dropout(0.5))
    with randomness.installed():
        assert Draws(0).next_seed((0, 0)) is None
        first, second = (model(tf.ones((3, 5, 4)), training=True).numpy() for _ in range(2))
        assert not np.array_equal(first, second)
        np.testing.assert_array_equal(model(tf.ones((3, 5, 4))), np.ones((3, 5, 4)))


def test_hidden_state_is_found_where_there_is_some():
    @tf.function
    def outer():
        return tf.map_fn(lambda _: tf.random.normal(()), tf.zeros(3)) + tf.random.uniform(())

    outer()
    assert find_stateful_draws([outer]) == ["RandomStandardNormal", "RandomUniform"]


@pytest.fixture(scope="module")
def data():
    return make_data()


NET = {"dropout": 0.5, "noise": 0.2}


def test_several_steps_a_call_draw_what_single_steps_draw(data):
    one, _ = train(make_trainer(data), net=NET)
    eight, _ = train(make_trainer(data, steps_per_execution=8), net=NET)
    three, _ = train(make_trainer(data, steps_per_execution=3), net=NET)
    assert_equal(one, eight)
    assert_equal(one, three)
    other, _ = train(make_trainer(data, seed=4), net=NET)
    assert not is_equal(one, other)


def test_no_hidden_state_is_left_in_a_step(data):
    trainer = make_trainer(data)
    model = build_net(trainer, **NET)
    trainer.compile(model, 0.1)
    step = trainer.make_step(model)
    run = step.make_train_function(jit=False)
    for times in (1, 2):
        model.steps_per_execution = times
        with step.randomness.installed():
            run(iter(trainer.train_batches(Pipeline(data.train, 16))))
    assert all(function._list_all_concrete_functions() for function in step.traced())
    assert find_stateful_draws(step.traced()) == []
