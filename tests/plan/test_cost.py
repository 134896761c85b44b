import pytest
import tensorflow as tf
import tf_keras as keras
from costs import COST
from networks import make_mlp, ready

from bmp.errors import TrainingError
from bmp.plan.cost import count_cost, refuse_over

WEIGHTS = 4 * (100 * 50 + 50 + 50 * 10 + 10)


@pytest.mark.parametrize(("optimizer", "slots"), [("Adam", 2), ("SGD", 1)])
def test_what_an_optimizer_keeps_is_looked_at(optimizer, slots):
    made = {"Adam": keras.optimizers.Adam(), "SGD": keras.optimizers.SGD(momentum=0.9)}[optimizer]
    model = ready(make_mlp(), made)
    batch = tf.zeros((8, 100)), tf.zeros((8,), tf.int64)
    cost = count_cost(model, batch, 8, averages=False)
    assert (cost.trainable, cost.frozen, cost.weights_bytes, cost.gradient_bytes) == (WEIGHTS // 4, 0, WEIGHTS, WEIGHTS)
    assert 0 <= cost.optimizer_bytes - slots * WEIGHTS < 64  # and its counter of steps, its rate
    assert cost.checkpoint_bytes == cost.weights_bytes + cost.optimizer_bytes
    assert count_cost(model, batch, 8, averages=True).optimizer_bytes == cost.optimizer_bytes + WEIGHTS


def test_statistics_of_normalisation_are_not_trained():
    model = ready(keras.Sequential([keras.Input((6,)), keras.layers.BatchNormalization(), keras.layers.Dense(2)]))
    cost = count_cost(model, (tf.zeros((8, 6)), tf.zeros((8,), tf.int64)), 8, averages=False)
    assert (cost.trainable, cost.frozen) == (12 + 14, 12)


def test_a_model_without_anything_to_train_has_no_step():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2, trainable=False)])
    cost = count_cost(ready(model), (tf.zeros((8, 6)), tf.zeros((8,), tf.int64)), 8, averages=False)
    assert cost.step_flops(8) == 0 and cost.replica_bytes(8) == 4 * 14


def test_a_step_is_three_times_the_forward_pass_and_pieces_hold_a_sum_beside():
    assert COST.step_flops(10) == 3 * 50 * 10
    assert COST.replica_bytes(64) == 300 + 100 + 640
    assert COST.replica_bytes(64, pieces=3) == 300 + 100 + 220 + 100


def test_variables_over_the_limit_are_not_made():
    with refuse_over(WEIGHTS + 500):
        make_mlp()
    with (
        pytest.raises(TrainingError, match=r"DOES NOT FIT: the weights .* or more, and 20 kB are free"),
        refuse_over(20_000),
    ):
        make_mlp()
    with pytest.raises(TrainingError, match=r"alone are 4 PB or more, and 1 GB are free"), refuse_over(10**9):
        keras.Sequential([keras.Input((10**6,)), keras.layers.Dense(10**9)])
