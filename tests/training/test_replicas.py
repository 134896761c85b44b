"""The trainer on two replicas: the same batches, dealt out."""

import subprocess
import sys

import pytest

SCRIPT = """
import io, sys
import bmp
import tensorflow as tf
import tf_keras as keras
from rich.console import Console
from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.models import MODELS
from bmp.training import OPTIMIZERS, Trainer

replicas, batch_size = int(sys.argv[1]), int(sys.argv[2])
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])
data = load_data(SOURCES.bind("sklearn", {"name": "wine"}), DataConfig(source="sklearn"), 0)
trainer = Trainer(
    data, strategy, build_optimizer=OPTIMIZERS.bind("sgd", {}), batch_size=batch_size, seed=3,
    console=Console(file=io.StringIO()),
)
keras.utils.set_random_seed(0)
with strategy.scope():
    model = MODELS.bind("mlp", {"hidden": [8], "scale": 0.001})(data.signature)
history = trainer.fit(model, epochs=3, learning_rate=0.01)
print(strategy.num_replicas_in_sync, *(epoch.metrics["loss"] for epoch in history))
print(*model.get_weights()[0].ravel())
"""


def train(replicas: int, batch_size: int) -> tuple[list[float], list[float]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(replicas), str(batch_size)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    losses, weights = ([float(word) for word in line.split()] for line in done.stdout.splitlines()[-2:])
    assert losses[0] == replicas
    return losses[1:], weights


def test_two_replicas_learn_what_one_learns() -> None:
    # 124 training examples: batches that both replicas share alike
    one, two = train(1, 62), train(2, 62)
    assert two[0] == pytest.approx(one[0], abs=1e-5)
    assert two[1] == pytest.approx(one[1], abs=1e-5)
