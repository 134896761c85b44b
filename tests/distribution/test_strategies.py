"""The contract of every strategy that one process can have, and the choice among all."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.distribution.strategies import choose
from bmp.errors import ConfigError, UnknownNameError

ALONE = Cluster()
WORKERS = Cluster("worker", 1, {"worker": ("127.0.0.1:1", "127.0.0.1:2")}, "TF_CONFIG")
SERVED = Cluster(
    "chief", 0, {"chief": ("127.0.0.1:1",), "worker": ("127.0.0.1:2",), "ps": ("127.0.0.1:3",)}, "TF_CONFIG"
)


@pytest.fixture(params=["auto", "one_device", "mirrored"])
def strategy(request):
    return STRATEGIES.bind(request.param, {})(ALONE, None).strategy


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


@pytest.mark.parametrize(
    ("cluster", "cpu_replicas", "tpu", "gpus", "name", "reason"),
    [
        (ALONE, None, None, 0, "one_device", "no GPU"),
        (ALONE, None, None, 1, "one_device", "one GPU"),
        (ALONE, None, None, 4, "mirrored", "4 GPUs"),
        (ALONE, 2, None, 4, "mirrored", "cpu_replicas is 2"),
        (ALONE, 1, None, 0, "one_device", "no GPU"),
        (ALONE, None, "local", 0, "tpu", "TPU_NAME is local"),
        (WORKERS, None, None, 4, "multi_worker", "TF_CONFIG has 2 workers"),
        (SERVED, None, None, 4, "parameter_server", "TF_CONFIG has parameter servers"),
    ],
)
def test_auto_decides_and_says_why(cluster, cpu_replicas, tpu, gpus, name, reason):
    found, why = choose(cluster, cpu_replicas, tpu, lambda: gpus)
    assert found == name and reason in why


@pytest.mark.parametrize(
    ("name", "cluster", "cpu_replicas", "words"),
    [
        ("one_device", WORKERS, None, "which is for one process, but TF_CONFIG has 2. Choose auto"),
        ("mirrored", WORKERS, None, "which is for one process, but TF_CONFIG has 2. Choose auto"),
        ("one_device", ALONE, 2, "cpu_replicas is 2, but distribution.strategy is one_device"),
        ("multi_worker", ALONE, None, "bmp launch --workers 2"),
        ("multi_worker", SERVED, None, "has parameter servers"),
        ("multi_worker", WORKERS, 2, "Start more workers"),
        ("parameter_server", WORKERS, None, "there are no parameter servers"),
        ("tpu", ALONE, None, "none can be reached"),
    ],
)
def test_a_strategy_that_cannot_be_says_so(name, cluster, cpu_replicas, words):
    with pytest.raises(ConfigError, match=words):
        STRATEGIES[name](cluster, cpu_replicas)


def test_a_cpu_is_divided_before_tensorflow_is_used():
    tf.constant(0)
    with pytest.raises(ConfigError, match="cpu_replicas is 3, but TensorFlow was used"):
        STRATEGIES["mirrored"](ALONE, 3)
