"""Two replicas learn what one learns, whatever share of a batch each has, and are resumed to the bit.

TensorFlow divides the CPU once in a process, before it is used: all is computed in one process of its own, which
prints what the tests look at.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, shutil, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import bmp
import numpy as np
import tensorflow as tf
import tf_keras as keras
from fitting import build_net, make_data, make_trainer, train
from test_checkpointing import _StopAt
from test_optimizers import build, fit as fit_alone
from bmp.errors import StoppedError, TrainingError
from bmp.training.callbacks import KeepBest
from bmp.training.checkpoint import CheckpointStore
from bmp.training.distillation import Distillation
from bmp.training.schedules import Plateau
from bmp.training.stop import StopRequest
from bmp.training.trainer import Place

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategies = {1: tf.distribute.OneDeviceStrategy("CPU:0"), 2: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
data = make_data()
found = {}


def note(name, weights, history=()):
    found[name] = {
        "weights": [array.tolist() for array in weights], "figures": [epoch.metrics for epoch in history]
    }


def fit(replicas, *, net=None, epochs=2, callbacks=(), learning_rate=0.05, own=None, **config):
    trainer = make_trainer(own or data, strategy=strategies[replicas], **config)
    return train(trainer, net=net, epochs=epochs, callbacks=callbacks, learning_rate=learning_rate)


# The same lessons, dealt out: 56 examples in batches of 11, the last of 1.
PENALTY = {"penalty": 0.02}
for replicas in (1, 2):
    note(f"sgd {replicas}", *fit(replicas, batch_size=11, net=PENALTY))
    rest = {"accumulate": 3, "class_weights": "balanced", "label_smoothing": 0.1}
    note(f"adam {replicas}", *fit(replicas, batch_size=9, optimizer="adam", net=PENALTY, learning_rate=0.01, **rest))

# XLA
note("jit", *fit(2, batch_size=11, jit=True, net=PENALTY))

# A stop, a resume: statistics of each replica, dropout of each, a schedule, the best weights.
NET = {"dropout": 0.4, "noise": 0.1, "norm": True}
HARD = {"net": NET, "epochs": 3, "learning_rate": Plateau(0.05, 0.5, 1, 0.0, "val_loss"), "batch_size": 9}
note("whole", *fit(2, callbacks=[KeepBest("accuracy", 1)], **HARD))
note("eight", *fit(2, callbacks=[KeepBest("accuracy", 1)], **HARD, steps_per_execution=8))
directory = Path(tempfile.mkdtemp())
request = StopRequest()
place = Place(directory, stop=request)
try:
    fit(2, callbacks=[_StopAt(10, request), KeepBest("accuracy", 1)], **HARD, place=place)
except StoppedError:
    pass
newest, _ = CheckpointStore(directory / "checkpoints" / "train").read_newest()
found["statistics"] = newest.arrays["weight/0004"].tolist()
note("parts", *fit(2, callbacks=[KeepBest("accuracy", 1)], **HARD, place=Place(directory)))
# Another number of replicas goes on from the same checkpoint, though not to the bit.
for path in CheckpointStore(directory / "checkpoints" / "train").paths():
    if path.name != f"step-{newest.step:012d}":
        shutil.rmtree(path)
note("fewer", *fit(1, callbacks=[KeepBest("accuracy", 1)], **HARD, place=Place(directory)))

# An optimizer with an average of the weights, clipping each of them.
for replicas in (1, 2):
    with strategies[replicas].scope():
        model, _ = fit_alone(build("lamb", ema_momentum=0.9, clipnorm=0.1), epochs=2)
    note(f"lamb {replicas}", model.get_weights())

# A teacher that was built for one device, its statistics and a projection of features.
keras.utils.set_random_seed(1)
inputs = keras.Input((6,), name=data.signature.inputs[0].name)
wide = keras.layers.BatchNormalization(name="wide")(keras.layers.Dense(12, "relu")(inputs))
teacher = keras.Model(inputs, keras.layers.Dense(3, "softmax")(wide))
for key, replicas, rest in (("1", 1, {}), ("2", 2, {}), ("jit", 2, {"jit": True, "accumulate": 2})):
    trainer = make_trainer(data, strategy=strategies[replicas], batch_size=9, **rest)
    model = build_net(trainer, **PENALTY)
    how = Distillation(features={model.layers[1].name: "wide"})
    history = trainer.fit(model, epochs=2, learning_rate=0.05, teacher=teacher, distillation=how)
    note(f"taught {key}", model.get_weights(), history)

# A batch that cannot be learned from.
bad = make_data(bad=[5])
for replicas in (1, 2):
    note(f"skip {replicas}", *fit(replicas, own=bad, batch_size=9, on_nonfinite="skip", max_skipped=9, net=PENALTY))
    try:
        fit(replicas, own=bad, batch_size=9)
        found[f"guard {replicas}"] = "nothing was found"
    except TrainingError as error:
        found[f"guard {replicas}"] = error.message
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, here],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(Path(here).parent)},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.partition("FOUND ")[2])


def assert_alike(one, other, tolerance=1e-5):
    for mine, theirs in zip(one["weights"], other["weights"], strict=True):
        np.testing.assert_allclose(mine, theirs, atol=tolerance)
    for mine, theirs in zip(one["figures"], other["figures"], strict=True):
        assert mine == pytest.approx(theirs, abs=tolerance)


def test_two_replicas_learn_what_one_learns(found):
    """Also of uneven shares, and where the last batch has one example for two."""
    assert_alike(found["sgd 2"], found["sgd 1"])


def test_pieces_class_weights_and_smoothing_are_of_the_whole_batch(found):
    assert_alike(found["adam 2"], found["adam 1"], 1e-4)


def test_xla_computes_the_same(found):
    assert_alike(found["jit"], found["sgd 2"])


def test_several_steps_a_call_are_single_steps(found):
    assert found["eight"] == found["whole"]


@pytest.mark.parametrize("key", ["2", "jit"])
def test_two_replicas_learn_from_a_teacher_what_one_learns(found, key):
    assert_alike(found[f"taught {key}"], found["taught 1"])


def test_an_optimizer_moves_the_weights_of_two_replicas_as_those_of_one(found):
    assert_alike(found["lamb 2"], found["lamb 1"], 1e-4)
    assert np.ptp(np.concatenate([np.ravel(weight) for weight in found["lamb 1"]["weights"]])) > 0.1


def test_a_stop_changes_nothing(found):
    assert found["parts"] == found["whole"]


def test_each_replica_keeps_its_own_statistics(found):
    rows = np.array(found["statistics"])
    assert rows.shape == (2, 8) and not np.allclose(rows[0], rows[1])


def test_another_number_of_replicas_can_go_on(found):
    assert len(found["fewer"]["figures"]) == 3
    assert found["fewer"]["figures"][-1]["loss"] == pytest.approx(found["whole"]["figures"][-1]["loss"], abs=0.15)


def test_a_bad_batch_is_left_out_by_all(found):
    assert_alike(found["skip 2"], found["skip 1"])
    assert all(np.isfinite(array).all() for array in found["skip 2"]["weights"])


def test_a_bad_batch_is_named(found):
    """Only one replica has it, and all end."""
    assert found["guard 2"] == found["guard 1"]
    assert "at step" in found["guard 1"]
