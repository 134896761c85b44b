"""A training interrupted anywhere and resumed is the training that was not, to the bit."""

import shutil
import threading

import numpy as np
import pytest
import tf_keras as keras
from conftest import disk_that_holds
from fitting import assert_equal, build_net, make_data, make_trainer, say, train

from bmp.config import EarlyStoppingConfig
from bmp.errors import CheckpointError, StoppedError, TrainingError
from bmp.training.callbacks import KeepBest
from bmp.training.checkpoint import CheckpointStore, read_checkpoint
from bmp.training.schedules import Plateau
from bmp.training.stop import StopRequest
from bmp.training.trainer import Place

NET = {"dropout": 0.4, "noise": 0.1, "norm": True}
STEPS = 4
"""Of an epoch: 56 examples in batches of 16, the last of 8."""


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoints"]


class _StopAt(keras.callbacks.Callback):
    """Asks to stop after so many steps, as a signal would."""

    _supports_tf_logs = True

    def __init__(self, step, request):
        super().__init__()
        self.step, self.request, self.seen = step, request, 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        if self.seen == self.step:
            self.request.exit_code = 143


def watchers():
    return [KeepBest("accuracy", 1)]


PLAN = {
    "epochs": 4,
    "learning_rate": Plateau(0.05, 0.5, 1, 0.0, "val_loss"),
    "average": 0.9,
    "net": NET,
}


def run(data, directory, *, stop_at=None, every="1 epoch", plan=PLAN, callbacks=None, **config):
    """One attempt; returns the weights, the history and what was printed, or raises what the training raised."""
    request = StopRequest()
    trainer = make_trainer(data, place=Place(directory, stop=request), checkpoint={"every": every}, **config)
    own = watchers() if callbacks is None else callbacks
    if stop_at is not None:
        own = [_StopAt(stop_at, request), *own]
    weights, history = train(trainer, callbacks=own, **plan)
    return weights, history, say(trainer)


def figures(history):
    return [(epoch.epoch, epoch.step, epoch.learning_rate, epoch.metrics) for epoch in history]


@pytest.fixture(scope="module")
def whole(data):
    trainer = make_trainer(data)
    return train(trainer, callbacks=watchers(), **PLAN)


def stores(directory, stage="train"):
    return CheckpointStore(directory / "checkpoints" / stage)


def test_stopped_anywhere_it_goes_on_as_if_nothing_had_happened(data, whole, tmp_path):
    """After the first step, at the end of an epoch, amid one, and before the last step."""
    done = 0
    for end in (1, STEPS, 6, 15):
        with pytest.raises(StoppedError, match=rf"Stopped after step {end}, as asked") as caught:
            run(data, tmp_path, stop_at=end - done)
        assert caught.value.exit_code == 143
        assert stores(tmp_path).read_newest()[0].step == end
        done = end
    weights, history, printed = run(data, tmp_path)
    assert_equal(weights, whole[0])
    assert figures(history) == figures(whole[1])
    assert "resumed: stage 'train' from step 15 of 16" in printed


def test_several_steps_a_call_stop_at_the_end_of_one(data, whole, tmp_path):
    with pytest.raises(StoppedError, match="Stopped after step 6,"):
        run(data, tmp_path, stop_at=3, steps_per_execution=2)  # calls, here
    weights, history, _ = run(data, tmp_path, steps_per_execution=3)
    assert_equal(weights, whole[0])
    assert figures(history) == figures(whole[1])


def test_a_finished_stage_is_taken_over(data, whole, tmp_path):
    run(data, tmp_path)
    found, _ = stores(tmp_path).read_newest()
    assert found.state["finished"] and found.step == 16
    weights, history, printed = run(data, tmp_path)
    assert_equal(weights, whole[0])
    assert figures(history) == figures(whole[1])
    assert "resumed: stage 'train' was finished before" in printed and "examples/s" not in printed


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        ("2 epochs", [8]),
        ("3 steps", [3, 6, 9, 12, 15]),
        ("25 percent", [4, 8, 12]),
        ("0.000001 seconds", list(range(1, 16))),
    ],
)
def test_checkpoints_are_taken_when_they_are_due(data, tmp_path, every, steps):
    trainer = make_trainer(data, place=Place(tmp_path), checkpoint={"every": every, "keep": 99})
    train(trainer, epochs=4)
    taken = [read_checkpoint(path) for path in reversed(stores(tmp_path).paths())]
    assert [(one.step, one.state["finished"]) for one in taken] == [*((step, False) for step in steps), (16, True)]


def test_a_resumed_run_keeps_the_rhythm(data, tmp_path):
    with pytest.raises(StoppedError):
        run(data, tmp_path, stop_at=5, every="3 steps")
    trainer = make_trainer(data, place=Place(tmp_path), checkpoint={"every": "3 steps", "keep": 99})
    train(trainer, callbacks=watchers(), **PLAN)
    assert [read_checkpoint(path).step for path in stores(tmp_path).paths()] == [16, 15, 12, 9, 6, 5, 3]


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(data, whole, tmp_path):
    """tests/training/test_checkpoint.py damages each of its files, anywhere."""
    with pytest.raises(StoppedError):
        run(data, tmp_path, stop_at=7, every="3 steps")
    file = stores(tmp_path).paths()[0] / "arrays.safetensors"
    torn = bytearray(file.read_bytes())
    torn[len(torn) // 2] ^= 1
    file.write_bytes(torn)
    weights, history, printed = run(data, tmp_path)
    assert f"{file.parent} is damaged: {file.name}" in printed and "The one before it is used." in printed
    assert "from step 6 of 16" in printed
    assert_equal(weights, whole[0])
    assert figures(history) == figures(whole[1])


def test_with_no_sound_checkpoint_nothing_is_trained(data, tmp_path):
    with pytest.raises(StoppedError):
        run(data, tmp_path, stop_at=7, every="3 steps")
    for path in stores(tmp_path).paths():
        (path / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="To train from the beginning, name a new run directory"):
        run(data, tmp_path)


def test_a_full_disk_ends_the_training_and_with_room_it_goes_on(data, whole, tmp_path):
    with pytest.raises(StoppedError):
        run(data, tmp_path, stop_at=5)
    with disk_that_holds(100), pytest.raises(CheckpointError, match="make room on the disk and resume the run"):
        run(data, tmp_path, every="1 step")
    assert stores(tmp_path).read_newest()[0].step == 5
    weights, history, _ = run(data, tmp_path)
    assert_equal(weights, whole[0])
    assert figures(history) == figures(whole[1])


def test_another_network_is_refused(data, tmp_path):
    with pytest.raises(StoppedError):
        run(data, tmp_path, stop_at=5)
    with pytest.raises(CheckpointError, match="The checkpoint does not fit: at"):
        run(data, tmp_path, plan=PLAN | {"net": {"dropout": 0.4}})


def test_stages_have_checkpoints_of_their_own(data, tmp_path):
    run(data, tmp_path)
    run(data, tmp_path, plan=PLAN | {"stage": "tune", "epochs": 1})
    assert stores(tmp_path, "tune").read_newest()[0].step == 4
    assert stores(tmp_path).read_newest()[0].step == 16


def test_without_a_directory_a_stop_is_a_stop(data):
    with pytest.raises(StoppedError, match="keeps no checkpoints"):
        run(data, None, stop_at=2)


def test_early_stopping_ends_where_it_would_have(data, tmp_path):
    stopping = EarlyStoppingConfig(patience="2 epochs", metric="val_loss", min_change=0.2)
    plan = PLAN | {"epochs": 9, "early_stopping": stopping}
    weights, history, printed = run(data, tmp_path / "whole", plan=plan)
    assert len(history) < 9 and "stopped early" in printed
    for steps in (6, 2):  # amid an epoch, and at the end of one
        with pytest.raises(StoppedError):
            run(data, tmp_path / "parts", stop_at=steps, plan=plan)
    again, resumed, _ = run(data, tmp_path / "parts", plan=plan)
    assert_equal(again, weights)
    assert figures(resumed) == figures(history)
    taken_over, _, _ = run(data, tmp_path / "parts", plan=plan)
    assert_equal(taken_over, weights)


def test_the_best_weights_so_far_are_kept_over_a_stop(data, tmp_path):
    """With a rate so high that an early validation is the best."""
    plan = {"epochs": 5, "learning_rate": 3.0, "net": NET}

    def best():
        return [KeepBest("accuracy")]

    weights, history, _ = run(data, tmp_path / "whole", plan=plan, callbacks=best())
    scores = [epoch.metrics["val_accuracy"] for epoch in history]
    assert scores.index(max(scores)) < 4  # before the stop
    with pytest.raises(StoppedError):
        run(data, tmp_path / "parts", stop_at=18, plan=plan, callbacks=best())
    again, _, _ = run(data, tmp_path / "parts", plan=plan, callbacks=best())
    assert_equal(again, weights)


class _Counter(keras.callbacks.Callback):
    """An observer of a user's own, with a state."""

    def __init__(self):
        super().__init__()
        self.steps, self.sum = 0, np.zeros(3)

    def get_state(self):
        return {"steps": self.steps}

    def set_state(self, state):
        self.steps = state["steps"]

    def get_arrays(self):
        return [self.sum]

    def set_arrays(self, arrays):
        self.sum = arrays[0] if arrays else np.zeros(3)

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self.sum = self.sum + self.steps


def test_an_observer_of_ones_own_is_resumed(data, tmp_path):
    with pytest.raises(StoppedError):
        run(data, tmp_path, stop_at=6, callbacks=[_Counter()])
    counter = _Counter()
    run(data, tmp_path, callbacks=[counter])
    assert counter.steps == 16
    np.testing.assert_array_equal(counter.sum, np.full(3, 16 * 17 / 2))


@pytest.mark.parametrize("every", ["1 step", "1000 epochs"])
def test_a_batch_that_cannot_be_learned_from_is_named_and_no_checkpoint_holds_it(every, tmp_path):
    data = make_data(bad=[5])
    place = int(np.flatnonzero(data.train.index == 5)[0])
    trainer = make_trainer(data, batch_size=8, place=Place(tmp_path), checkpoint={"every": every, "keep": 99})
    with pytest.raises(TrainingError) as caught:
        train(trainer)
    message = caught.value.message
    assert "The loss is not finite at step" in message and "train.on_nonfinite: skip" in message
    bad = int(message.partition("at step ")[2].partition(" ")[0])
    assert f"(epoch 1, batch {bad}: examples " in message and place >= 0
    named = [int(word) for word in message.partition("examples ")[2].partition(")")[0].split(", ")]
    assert 5 in named and len(named) == 8
    newest, _ = stores(tmp_path).read_newest()
    assert newest is None or newest.step < bad


def test_what_a_relu_hides_is_found_all_the_same(data, tmp_path):
    """nan through a ReLU is 0: the loss looks sound, and every weight is spoilt."""

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                kernel = self.model.trainable_weights[0]
                kernel.assign(np.full(kernel.shape, np.nan))

    trainer = make_trainer(data, place=Place(tmp_path), checkpoint={"every": "1 step", "keep": 99})
    with pytest.raises(TrainingError, match=r"is not finite"):
        train(trainer, callbacks=[Spoil()])
    assert all(read_checkpoint(path).step < 2 for path in stores(tmp_path).paths())


def test_too_many_left_out_end_the_run(tmp_path):
    data = make_data(bad=range(40))
    trainer = make_trainer(data, batch_size=8, on_nonfinite="skip", max_skipped=2, place=Place(tmp_path))
    with pytest.raises(TrainingError, match=r"3 batches had no finite gradient; train\.max_skipped allows 2\."):
        train(trainer)
    assert say(trainer).count("left out: a batch without a finite gradient") >= 2


def test_a_copied_directory_goes_on_as_the_first_would_have(data, whole, tmp_path):
    with pytest.raises(StoppedError):
        run(data, tmp_path / "here", stop_at=9)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    shutil.rmtree(tmp_path / "here")
    assert_equal(run(data, tmp_path / "there")[0], whole[0])


def test_the_networks_are_built_alike(data):
    trainer = make_trainer(data)
    assert_equal(build_net(trainer, **NET).get_weights(), build_net(trainer, **NET).get_weights())
