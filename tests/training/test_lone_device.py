"""What `fit` is told of the strategy, and what it is given back."""

import pytest
import tf_keras as keras

from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.training.lone_device import unwrapped


def build(strategy):
    with strategy.scope():
        return keras.Sequential([keras.layers.Dense(1, input_shape=(2,))])


def test_a_lone_cpu_has_nothing_to_deal_out_to():
    strategy = STRATEGIES["one_device"](Cluster(), None).strategy
    model = build(strategy)
    with pytest.raises(KeyError), unwrapped(model, strategy):
        assert model.distribute_strategy is not strategy
        raise KeyError
    assert model.distribute_strategy is strategy


def test_replicas_are_dealt_out_to():
    strategy = STRATEGIES["mirrored"](Cluster(), 1).strategy
    model = build(strategy)
    with unwrapped(model, strategy):
        assert model.distribute_strategy is strategy
