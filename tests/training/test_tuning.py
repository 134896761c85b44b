"""The choice of how steps are computed: by the clock, and no worse for what is learned."""

import io

import numpy as np
import pytest
import tf_keras as keras
from fitting import assert_equal, build_net, make_data, make_trainer, say, train
from rich.console import Console

from bmp.training.tuning import Tuner, guess_xla_gain

NET = {"dropout": 0.3, "norm": True}


@pytest.fixture(scope="module")
def data():
    return make_data()


class _Step:
    """Stands for a step, whose time is told and not taken."""

    class strategy:
        class extended:
            pass

    def __init__(self, obstacle=None):
        self.made, self.tried, self.calls = [], 0, None
        self._obstacle = obstacle

    def bad_step(self):
        return None

    def make_train_function(self, *, jit):
        self.made.append(jit)
        return lambda iterator: jit

    def try_with_xla(self, iterator):
        self.tried += 1
        return {}, self._obstacle


class _Model:
    train_function = None
    steps_per_execution = None


class _Clock:
    def __init__(self, monkeypatch):
        self.now_s = 0.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now_s)


def make_tuner(step, said, *, jit="auto", times="auto", total_steps=1_000_000, steps_per_epoch=100_000):
    tuner = Tuner(
        step, jit=jit, steps_per_execution=times, total_steps=total_steps, last_differs=False, say=said.append
    )
    tuner.set_model(_Model())
    tuner.set_params({"steps": steps_per_epoch})
    return tuner


def tune(monkeypatch, step_s, *, build_s=1.0, obstacle=None, **options):
    """Runs a tuner through a training whose clock is told; returns it, what it said and its step.

    `step_s(jit, times)` is what a step takes; a first call takes `build_s` more.
    """
    clock, said, step = _Clock(monkeypatch), [], _Step(obstacle)
    tuner = make_tuner(step, said, **options)
    tuner.on_train_begin()
    tuner.on_epoch_begin(0)
    batch, built = 0, set()
    for _ in range(300):
        if not tuner.is_searching:
            break
        tuner.on_train_batch_begin(batch)
        tuner.model.train_function(None)
        choice = (tuner.jit, tuner.times)
        clock.now_s += step_s(*choice) * tuner.times + (0 if choice in built else build_s)
        built.add(choice)
        batch += tuner.times
        tuner.on_train_batch_end(batch - 1)
    assert tuner.model.steps_per_execution == tuner.times
    assert tuner.model.train_function(None) is tuner.jit
    return tuner, " ".join(said), step


def test_a_cheap_step_is_done_many_at_a_time_and_xla_is_kept_where_it_is_faster(monkeypatch):
    tuner, said, _ = tune(monkeypatch, lambda jit, times: (0.0005 if jit else 0.002) + 0.001 / times)
    assert (tuner.jit, tuner.times, tuner.is_searching) == (True, 33, False)
    assert said.startswith("pace: 3 ms a step") and "33 steps a call" in said and "with XLA" in said
    assert "not kept" not in said
    assert tuner.get_state() == {"jit": True, "times": 33}


def test_what_is_not_faster_is_not_kept(monkeypatch):
    tuner, said, _ = tune(monkeypatch, lambda jit, times: 0.003 + 0.0001 * (jit or times > 1))
    assert (tuner.jit, tuner.times) == (False, 1)
    assert said.count("not kept") == 2


def test_a_short_training_is_not_spent_on_compiling(monkeypatch):
    tuner, said, step = tune(monkeypatch, lambda jit, times: 0.004, total_steps=300)
    assert not tuner.jit and step.made == [False] and step.tried == 0
    assert "XLA would take longer to compile than it could save" in said


def test_a_slow_step_is_done_one_at_a_time(monkeypatch):
    tuner, said, _ = tune(monkeypatch, lambda jit, times: 0.2 if jit else 0.6, build_s=3)
    assert (tuner.jit, tuner.times) == (True, 1) and "steps a call" not in said


def test_what_xla_cannot_compile_is_left_as_it_is_and_said(monkeypatch):
    tuner, said, step = tune(monkeypatch, lambda jit, times: 0.01, obstacle="no kernel for Odd")
    assert not tuner.jit and step.tried == 1
    assert "no kernel for Odd" in said


@pytest.mark.parametrize(("jit", "times"), [(True, 7), (False, 1)])
def test_what_is_given_is_taken_and_nothing_is_said(monkeypatch, jit, times):
    tuner, said, step = tune(monkeypatch, lambda *_: 0.001, jit=jit, times=times)
    assert (tuner.jit, tuner.times, tuner.is_searching, said) == (jit, times, False, "")
    assert step.made == [jit]


def test_half_a_choice_leaves_the_other_half(monkeypatch):
    tuner, said, step = tune(monkeypatch, lambda jit, times: 0.001 + 0.001 / times, jit=False)
    assert step.made == [False] and "XLA" not in said and tuner.times > 1
    tuner, said, _ = tune(monkeypatch, lambda jit, times: 0.001 if jit else 0.01, times=3)
    assert (tuner.jit, tuner.times) == (True, 3) and "steps a call" not in said


@pytest.mark.parametrize("steps_per_epoch", [5, 27, 40, 100])
def test_a_call_is_no_longer_than_an_epoch(monkeypatch, steps_per_epoch):
    tuner, _, _ = tune(monkeypatch, lambda jit, times: 0.001 + 0.001 / times, steps_per_epoch=steps_per_epoch)
    assert 1 < tuner.times <= min(steps_per_epoch, 50)


def test_the_choice_of_an_earlier_attempt_stands():
    said = []
    tuner = make_tuner(_Step(), said)
    tuner.set_state({"jit": True, "times": 12})
    tuner.on_train_begin()
    assert (tuner.jit, tuner.times, tuner.is_searching, said) == (True, 12, False, [])
    tuner = make_tuner(_Step(), said)
    tuner.set_state({})  # of an attempt that ended in the middle of its search
    tuner.on_train_begin()
    assert tuner.is_searching and tuner.get_state() == {}


def test_a_real_training_learns_the_same_whatever_is_chosen(data):
    """No layer of it draws at random: XLA draws other numbers."""
    fixed, _ = train(make_trainer(data), net={"norm": True}, epochs=30)
    trainer = make_trainer(data, jit="auto", steps_per_execution="auto")
    chosen, _ = train(trainer, net={"norm": True}, epochs=30)
    for mine, theirs in zip(fixed, chosen, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert "pace: " in say(trainer)


def test_a_deterministic_training_leaves_xla_out_and_is_the_same_to_the_bit(data):
    ends, output = [], io.StringIO()
    for _ in range(2):
        trainer = make_trainer(
            data, jit="auto", steps_per_execution="auto", deterministic=True, console=Console(file=output, width=400)
        )
        ends.append(train(trainer, net=NET, epochs=6)[0])
    assert_equal(*ends)
    assert "XLA" not in output.getvalue()


def test_a_network_is_given_back_as_it_was(data):
    trainer = make_trainer(data, steps_per_execution=4)
    model = build_net(trainer)
    trainer.fit(model, epochs=1, learning_rate=0.1)
    assert np.isfinite(model.predict(np.zeros((2, 6), np.float32), verbose=0)).all()
    assert "loss" in model.evaluate(np.zeros((2, 6), np.float32), np.zeros(2), verbose=0, return_dict=True)


def test_xla_promises_little_where_a_cpu_computes_convolutions():
    dense = keras.Sequential([keras.layers.Dense(2, input_shape=(4,))])
    convolutional = keras.Sequential([keras.layers.Conv1D(2, 2, input_shape=(4, 1))])
    cpu, gpu = ("/job:localhost/replica:0/task:0/device:CPU:0",), ("/job:localhost/replica:0/task:0/device:GPU:0",)
    assert guess_xla_gain(convolutional, cpu) < guess_xla_gain(dense, cpu)
    assert guess_xla_gain(convolutional, gpu) == guess_xla_gain(dense, gpu) == guess_xla_gain(dense, cpu)


def test_what_is_far_slower_is_soon_given_up(monkeypatch):
    slow = []

    def cost(jit, times):
        slow.append(jit)
        return 10.0 if jit else 0.1

    tuner, said, _ = tune(monkeypatch, cost, times=1)
    assert not tuner.jit and "not kept" in said
    assert slow.count(True) == 3  # the building one, and two that took turns with others


def test_what_is_compiled_for_a_smaller_batch_meanwhile_is_not_held_against_xla(monkeypatch):
    calls = []

    def cost(jit, times):
        calls.append(jit)
        return 5.0 if jit and calls.count(True) == 3 else 0.01 if jit else 0.1

    tuner, said, _ = tune(monkeypatch, cost, times=1)
    assert tuner.jit and "not kept" not in said
