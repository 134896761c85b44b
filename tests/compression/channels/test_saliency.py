import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.compression.channels.groups import find_groups
from bmp.compression.channels.saliency import keep_best_units, weigh_by_magnitude, weigh_by_taylor
from bmp.compression.channels.shrink import silence
from bmp.training.copies import copy_model

layers = keras.layers


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    x = keras.Input((6,))
    short = y = layers.Dense(8, "relu", name="a")(x)
    y = layers.BatchNormalization(name="norm")(layers.Dense(8, "tanh", name="b")(y))
    return keras.Model(x, layers.Dense(2, name="out")(layers.Add()([y, short])))


def losses(targets, outputs):
    return tf.reduce_sum(tf.square(targets - outputs), axis=1)


def test_small_weights_weigh_little_over_the_whole_group(model):
    factors = np.linspace(1, 2, 8)
    random = np.random.default_rng(0).permutation(8)
    for name in ("a", "b"):
        layer = model.get_layer(name)
        layer.kernel.assign(np.ones(layer.kernel.shape) * factors[random])
    model.get_layer("norm").gamma.assign(factors[random])
    model.get_layer("out").kernel.assign(np.ones((8, 2)) * factors[random][:, None])
    model.get_layer("b").kernel.assign(model.get_layer("b").kernel * factors[random][:, None])
    channels = find_groups(model)
    scores = weigh_by_magnitude(model, channels)[channels.leaving["a"]]
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(random))


def test_no_layer_outweighs_the_others(model):
    channels = find_groups(model)
    before = weigh_by_magnitude(model, channels)
    model.get_layer("a").kernel.assign(1000 * model.get_layer("a").kernel)
    np.testing.assert_allclose(weigh_by_magnitude(model, channels), before, rtol=1e-6)


def test_taylor_is_the_slope_of_the_loss_towards_silence(model):
    random = np.random.default_rng(0)
    inputs, targets = (random.normal(size=(16, width)).astype(np.float32) for width in (6, 2))
    channels = find_groups(model)
    found = weigh_by_taylor(model, channels, [(inputs, targets), (inputs, targets)], losses)

    def measure(unit, share):
        """The loss when all that read a unit do so by this much less."""
        changed, kept = copy_model(model, None), np.ones(channels.size)
        kept[unit] -= share
        for layer in changed.layers:
            layer.set_weights(silence(layer, channels, kept))
        return float(tf.reduce_mean(losses(targets, changed(inputs))))

    for unit in channels.groups[0].units:
        slope = (measure(unit, 1e-2) - measure(unit, -1e-2)) / 2e-2
        assert found[unit] == pytest.approx(slope**2, rel=0.05, abs=1e-4)
    outputs = channels.leaving["out"]
    assert not found[outputs].any()  # nothing reads them


def test_the_best_units_of_each_named_group_are_kept(model):
    channels = find_groups(model)
    units = channels.free[0].units
    scores = np.zeros(channels.size)
    scores[units] = [3, 1, 4, 1.5, 9, 2, 6, 5]
    kept = keep_best_units(channels, scores, {"a": 3})
    np.testing.assert_array_equal(kept[units], [False, False, False, False, True, False, True, True])
    assert kept.sum() == channels.size - 5
    assert keep_best_units(channels, scores, {}).all()
