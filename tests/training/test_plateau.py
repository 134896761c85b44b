import json
import re

import numpy as np
import pytest
import tf_keras as keras

from bmp.errors import ConfigError
from bmp.training.plateau import PlateauSchedule
from bmp.training.schedules import Plateau


def make_model(learning_rate=0.25, scaled=False):
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
    optimizer = keras.optimizers.SGD(learning_rate)
    model.compile(keras.mixed_precision.LossScaleOptimizer(optimizer) if scaled else optimizer, "mse")
    return model


def attach(model=None, metric="val_loss", factor=0.5, patience_steps=20, minimum=0.0):
    callback = PlateauSchedule(Plateau(0.8, factor, patience_steps, minimum, metric))
    callback.set_model(model or make_model())
    callback.on_train_begin()
    return callback


def validate(callback, values, steps=10):
    """Tells a callback of validations, so many steps apart; returns the rate after each."""
    found = []
    for value in values:
        callback.model.optimizer.iterations.assign_add(steps)
        callback.on_epoch_end(0, {"loss": 9.0, callback._plateau.metric: value})
        found.append(float(callback.model.optimizer.learning_rate))
    return found


def test_the_rate_falls_where_validation_stays_and_the_patience_begins_anew():
    found = validate(attach(), [3, 2, 2, 2, 1, 1.5, 1, 2, 1])
    assert found == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.4, 0.2, 0.2, 0.1])


def test_patience_is_rounded_up_to_whole_validations():
    assert validate(attach(patience_steps=11), [1, 1, 1, 1]) == pytest.approx([0.8, 0.8, 0.4, 0.4])


@pytest.mark.parametrize(("metric", "sign"), [("val_loss", -1), ("val_mae", -1), ("val_accuracy", 1), ("val_r2", 1)])
def test_a_loss_is_better_when_less_and_a_score_when_more(metric, sign):
    better = [sign * value for value in (1, 2, 3, 4, 5)]
    assert validate(attach(metric=metric), better) == pytest.approx([0.8] * 5)
    assert validate(attach(metric=metric), better[::-1])[-1] == pytest.approx(0.2)


def test_the_rate_goes_no_lower_than_the_minimum():
    callback = attach(minimum=0.3)
    assert validate(callback, [1] * 9)[-1] == pytest.approx(0.3)
    reductions = callback.get_state()["reductions"]
    validate(callback, [1] * 9)
    assert callback.get_state()["reductions"] == reductions == 2


def test_what_is_no_number_is_never_better():
    assert validate(attach(), [float("nan"), float("nan"), 1, float("nan"), float("nan")])[-1] == pytest.approx(0.2)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_resumed_run_goes_on_as_if_nothing_had_been(cut):
    values = [3, 2, 2, 2.5, 1, 1, 1, 1, 0.5]
    whole = validate(attach(), values)
    first = attach()
    validate(first, values[:cut])
    state = json.loads(json.dumps(first.get_state()))
    model = make_model(0.123)
    model.optimizer.iterations.assign(first.model.optimizer.iterations)
    second = PlateauSchedule(Plateau(0.8, 0.5, 20, 0.0, "val_loss"))
    second.set_state(state)  # before there is a model
    second.set_model(model)
    second.on_train_begin()
    assert second.get_state() == state
    assert float(model.optimizer.learning_rate) == pytest.approx(whole[cut - 1])
    assert validate(second, values[cut:]) == pytest.approx(whole[cut:])


def test_state_given_to_a_running_fit_sets_the_rate_at_once():
    callback = attach()
    callback.set_state({"best": 1.0, "since_step": 5, "reductions": 3})
    assert float(callback.model.optimizer.learning_rate) == pytest.approx(0.1)


def test_a_metric_that_was_not_measured_is_guessed():
    callback = PlateauSchedule(Plateau(0.1, 0.5, 1, 0.0, "val_acuracy"))
    callback.set_model(make_model())
    sentence = "is 'val_acuracy', but validation measured val_accuracy, val_loss. Did you mean 'val_accuracy'?"
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        callback.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5})


@pytest.mark.parametrize("scaled", [False, True])
def test_a_fit_that_gets_no_better_takes_smaller_steps(scaled):
    x = np.ones((8, 1), np.float32)
    model = make_model(scaled=scaled)
    callback = PlateauSchedule(Plateau(0.25, 0.1, 4, 0.0, "val_loss"))
    model.fit(x, x, batch_size=4, epochs=9, validation_data=(x, x * 0 + 1e3), verbose=0, callbacks=[callback])
    assert callback.get_state()["reductions"] >= 1
    assert float(model.optimizer.learning_rate) == pytest.approx(callback.learning_rate) != 0.25
