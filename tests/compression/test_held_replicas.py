"""Two replicas end with the same masks, clusters and ranges, and with the ranges that one would have.

TensorFlow divides the CPU once in a process, before it is used: all is computed in one process of its own, which
prints what the tests look at.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import bmp
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from nets import build, make_workshop, measure
from bmp.compression.weights.replicas import check_replicas_agree
from bmp.compression.technique import Form
from bmp.compression.techniques.cluster import Cluster
from bmp.compression.techniques.prune import Prune
from bmp.compression.techniques.qat import QuantizationAwareTraining
from bmp.compression.techniques.two_of_four import TwoOfFour
from bmp.errors import TrainingError

strategies = {1: tf.distribute.OneDeviceStrategy("CPU:0"), 2: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])}
found = {}
for replicas, strategy in strategies.items():
    workshop = make_workshop(strategy=strategy, epochs=1)
    form = Form(build(workshop, epochs=2))
    sparse = Prune(sparsity=0.5).apply(form, workshop)
    shared = Cluster(clusters=4).apply(sparse, workshop)
    made = QuantizationAwareTraining().apply(shared, workshop)
    if replicas == 2:
        TwoOfFour().apply(form, workshop)
    weights = {weight.name: weight.numpy() for weight in made.model.weights}
    found[replicas] = {
        "score": measure(made.model, workshop),
        "zeros": float(np.mean(weights["hidden/kernel:0"] == 0)),
        "values": len(np.unique(weights["hidden/kernel:0"])),
        "ranges": [float(value) for name, value in weights.items() if name.endswith(("output_min:0", "output_max:0"))],
        "inputs": [float(v) for name, v in weights.items() if name.startswith("quantize_layer") and "_m" in name],
    }

strategy = strategies[2]
with strategy.scope():
    differs, agrees = (tf.Variable([1.0, 2.0], name=name) for name in ("mine", "other"))
strategy.experimental_local_results(differs)[1].assign([2.0, 1.0])
check_replicas_agree(strategy, {"agrees": agrees})
try:
    check_replicas_agree(strategy, {"agrees": agrees, "the mask of 'a'": differs})
except TrainingError as error:
    found["error"] = error.message
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    here = Path(__file__).parent / "techniques"
    environ = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(here)], capture_output=True, text=True, env=environ, timeout=280, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_two_replicas_reach_what_one_reaches(found):
    one, two = found["1"], found["2"]
    assert two["score"] == pytest.approx(one["score"], abs=0.05)
    assert two["zeros"] == one["zeros"] == pytest.approx(0.5, abs=0.001)
    assert two["values"] == one["values"] == 4


def test_ranges_are_those_of_the_whole_batch(found):
    assert found["1"]["inputs"] == found["2"]["inputs"] == [0.0, 16.0]
    assert found["2"]["ranges"] == pytest.approx(found["1"]["ranges"], rel=0.05, abs=0.01)


def test_replicas_that_differ_are_told(found):
    assert found["error"].startswith("The replicas ended with different values of the mask of 'a', so there is no one")
