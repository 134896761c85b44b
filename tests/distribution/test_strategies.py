"""The contract of every strategy."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.distribution import STRATEGIES
from bmp.errors import UnknownNameError


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return STRATEGIES.bind(request.param, {})()


def test_owns_the_variables_made_in_its_scope(strategy):
    with strategy.scope():
        inside = tf.Variable(1.0)
    assert strategy.extended.variable_created_in_scope(inside)
    assert not strategy.extended.variable_created_in_scope(tf.Variable(1.0))


def test_has_a_replica_for_each_device_it_uses(strategy):
    assert strategy.num_replicas_in_sync == len(strategy.extended.worker_devices) >= 1


def test_fits(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    inputs = np.array([[1, 0], [0, 1]], np.float32)
    model.fit(tf.data.Dataset.from_tensor_slices((inputs, [1.0, -1.0])).batch(2), verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], [[0.1], [-0.1]], atol=1e-6)


def test_an_unknown_strategy_is_guessed():
    with pytest.raises(UnknownNameError, match="Did you mean 'mirrored'"):
        STRATEGIES.bind("miror", {})
