import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.durations import Clock
from bmp.errors import ConfigError
from bmp.training import OPTIMIZERS, SCHEDULES
from bmp.training.schedules import Plateau

Schedule = keras.optimizers.schedules.LearningRateSchedule
EVERY = {
    "constant": {},
    "cosine": {"final": 0.1},
    "exponential": {"rate": 0.5, "every": "1 epoch"},
    "linear": {"final": 0.1},
    "step": {"at": ["50 percent", "75 percent"]},
}
"""Arguments of every schedule that is a function of the steps."""
NAMES = pytest.mark.parametrize("name", EVERY)


def build(name, learning_rate=1.0, total_steps=100, steps_per_epoch=10, **args):
    return SCHEDULES.bind(name, args)(learning_rate, Clock(total_steps, steps_per_epoch))


def rates(schedule, steps):
    return [float(schedule(step)) if callable(schedule) else schedule for step in steps]


def test_every_schedule_is_tried():
    assert {*EVERY, "plateau"} == set(SCHEDULES)


def test_constant_stays():
    assert build("constant", 0.1) == 0.1


def test_cosine_goes_half_way_down_and_ends_at_its_final_rate():
    found = rates(build("cosine", final=0.1), [0, 50, 100, 200])
    assert found == pytest.approx([1.0, 0.55, 0.1, 0.1], abs=1e-6)


@pytest.mark.parametrize("warmup", [{"warmup_steps": 10}, {"warmup": "10 steps"}, {"warmup": "1 epoch"}])
def test_cosine_warms_up_in_a_line_and_still_ends_with_the_training(warmup):
    found = rates(build("cosine", total_steps=110, final=0.2, **warmup), [0, 5, 10, 60, 110])
    assert found == pytest.approx([0.0, 0.5, 1.0, 0.6, 0.2], abs=1e-6)


def test_linear_goes_down_in_a_line():
    found = rates(build("linear", final=0.2), [0, 50, 100, 200])
    assert found == pytest.approx([1.0, 0.6, 0.2, 0.2], abs=1e-6)


def test_exponential_falls_all_the_time_or_in_steps():
    smooth, stairs = (build("exponential", rate=0.25, every="2 epochs", staircase=steps) for steps in (False, True))
    assert rates(smooth, [0, 10, 20, 40]) == pytest.approx([1, 0.5, 0.25, 0.0625])
    assert rates(stairs, [0, 19, 20, 39, 40]) == pytest.approx([1, 1, 0.25, 0.25, 0.0625])


def test_step_falls_after_every_so_many_epochs():
    assert rates(build("step", every="3 epochs"), [0, 29, 30, 59, 60, 99]) == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 1e-3]
    )


def test_step_falls_at_its_moments_to_the_step():
    found = rates(build("step", at=["50 percent", "75%"], factor=0.5), [0, 49, 50, 74, 75, 500])
    assert found == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])


def test_moments_are_counted_from_the_beginning_also_with_a_warmup():
    found = rates(build("step", at=["50 percent"], warmup="20 steps"), [10, 20, 49, 50])
    assert found == pytest.approx([0.5, 1, 1, 0.1])


@NAMES
def test_every_schedule_warms_up_from_zero_and_then_runs_its_own_course(name):
    schedule = build(name, 0.2, warmup="20 percent", **EVERY[name])
    assert rates(schedule, [0, 5, 10, 19, 20]) == pytest.approx([0, 0.05, 0.1, 0.19, 0.2])
    later = rates(schedule, range(20, 110))
    assert all(one >= other for one, other in itertools.pairwise(later))
    if name in ("cosine", "linear"):  # their course is what is left of the training
        plain = build(name, 0.2, total_steps=80, **EVERY[name])
        assert later == pytest.approx(rates(plain, range(90)), abs=1e-7)


@NAMES
def test_a_schedule_survives_being_written_down(name):
    schedule = build(name, 0.2, warmup="10 percent", **EVERY[name])
    again = type(schedule).from_config(schedule.get_config())
    assert rates(again, range(0, 110, 7)) == rates(schedule, range(0, 110, 7))
    optimizer = OPTIMIZERS["sgd"](schedule)
    twin = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert rates(twin._learning_rate, [3, 50]) == rates(schedule, [3, 50])


@NAMES
@pytest.mark.parametrize("jit", [False, True])
def test_the_rate_of_an_optimizer_is_that_of_its_iterations(name, jit):
    schedule = build(name, 0.5, total_steps=8, steps_per_epoch=2, warmup="3 steps", **EVERY[name])
    optimizer, weight = OPTIMIZERS["sgd"](schedule), tf.Variable(0.0)
    optimizer.momentum, optimizer.nesterov = 0.0, False
    optimizer.build([weight])

    @tf.function(jit_compile=jit)
    def step():
        optimizer.apply_gradients([(tf.constant(1.0), weight)])

    places = [0.0]
    for _ in range(8):
        step()
        places.append(float(weight))
    assert -np.diff(places) == pytest.approx(rates(schedule, range(8)), abs=1e-6)
    optimizer.iterations.assign(5)  # as a resumed run does
    before = float(weight)
    step()
    assert before - float(weight) == pytest.approx(float(schedule(5)), abs=1e-6)


def test_a_warmup_counts_exactly_after_very_many_steps():
    schedule = build("constant", 1.0, total_steps=10**9, warmup="400000000 steps")
    assert rates(schedule, [200_000_000, 400_000_000]) == pytest.approx([0.5, 1])


@pytest.mark.parametrize(
    ("name", "args", "sentence"),
    [
        ("cosine", {"warmup_steps": 100}, "takes 100 steps of a training of 100; expected a warm-up shorter"),
        ("constant", {"warmup": "100 percent"}, "takes 100 steps of a training of 100; expected a warm-up shorter"),
        ("linear", {"warmup": "1 minute"}, "train.schedule_args.warmup: '60 seconds' cannot be counted in steps"),
        ("exponential", {"rate": 0.5, "every": "1 hour"}, "train.schedule_args.every: '3600 seconds' cannot be"),
        ("exponential", {"rate": 0.5, "every": "0 steps"}, "every is '0 steps'; expected at least one step"),
        ("plateau", {"patience": "0 epochs"}, "patience is '0 epochs'; expected at least one step"),
        ("plateau", {"patience": "9 s"}, "train.schedule_args.patience: '9 seconds' cannot be counted in steps"),
        ("plateau", {"minimum": 2.0}, "to no less than train.schedule_args.minimum, 2; expected a minimum of at most"),
        ("plateau", {"metric": "loss"}, "name a metric of it, such as 'val_loss'"),
        ("cosine", {"final": 2.0}, "'cosine' goes from 1 down to 2; expected a final rate of at most"),
        ("linear", {"final": 2.0}, "'linear' goes from 1 down to 2; expected a final rate of at most"),
        ("cosine", {"warmup": "1 epoch", "warmup_steps": 3}, "warmup: 1 epoch and warmup_steps: 3; keep one"),
        ("step", {}, "needs either train.schedule_args.every, such as '10 epochs', or"),
        ("step", {"every": "1 epoch", "at": ["1 epoch"]}, "needs either train.schedule_args.every"),
        ("step", {"at": ["75%", "50%"]}, "at names the steps 75, 50, .* each later than the one before"),
        ("step", {"at": ["0 steps"]}, "the warm-up ends at step 0; expected moments after it"),
        ("step", {"at": ["10%"], "warmup": "20%"}, "the warm-up ends at step 20; expected moments after it"),
    ],
)
def test_a_schedule_that_cannot_be_says_so(name, args, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(name, **args)


@pytest.mark.parametrize(
    ("name", "args", "sentence"),
    [
        ("cosine", {"warmup_step": 3}, "Did you mean 'warmup_steps'"),
        ("constant", {"warmup": "3 epocs"}, "'warmup' is '3 epocs', but.* Did you mean 'epochs'"),
        ("step", {"at": ["half"]}, "argument 'at' .*'half' is no duration"),
        ("step", {"at": []}, "argument 'at'"),
        ("step", {"every": 3}, "argument 'every' is 3"),
        ("exponential", {}, "needs the argument 'rate'"),
        ("exponential", {"rate": 1.5}, "argument 'rate' is 1.5"),
        ("plateau", {"warmup": "1 epoch"}, "takes no argument 'warmup'; it takes factor, patience, minimum, metric"),
    ],
)
def test_a_wrong_argument_is_found_before_anything_is_built(name, args, sentence):
    with pytest.raises(ConfigError, match=sentence):
        SCHEDULES.bind(name, args)


def test_plateau_is_a_description_with_its_patience_in_steps():
    found = build("plateau", 0.1, factor=0.5, patience="3 epochs", minimum=0.01, metric="val_accuracy")
    assert found == Plateau(0.1, 0.5, 30, 0.01, "val_accuracy")
