import subprocess
import sys

import tensorflow as tf
import tf_keras as keras
from networks import make_mlp, ready

from bmp.plan.footprint import Footprint, measure_footprint
from bmp.plan.trace import trace_step


def footprint_of(model: keras.Model, examples: int, *shape: int, dtype: str = "float32") -> Footprint:
    spec = tf.TensorSpec((examples, *shape), dtype)
    return measure_footprint(trace_step(ready(model), spec, tf.TensorSpec((examples,), tf.int64)))


def test_a_perceptron_keeps_its_input_its_hidden_layer_and_the_gradient_at_its_output():
    found = footprint_of(make_mlp(100, 50, 10), 32, 100)
    assert 0 <= found.kept_bytes - 4 * 32 * (100 + 50 + 10) < 512  # and some single numbers
    gradients = 4 * (100 * 50 + 50 + 50 * 10 + 10)
    assert found.pushed_bytes == gradients
    assert found.working_bytes >= gradients + 4 * 32 * 100


def test_the_working_memory_of_a_large_batch_is_its_activations():
    found = footprint_of(make_mlp(100, 50, 10), 100_000, 100)
    assert found.kept_bytes <= found.working_bytes < 1.4 * found.kept_bytes


def test_a_loop_keeps_what_each_of_its_trips_made():
    def keep(steps: int) -> int:
        layers = [keras.Input((steps, 3)), keras.layers.LSTM(5), keras.layers.Dense(4, activation="softmax")]
        return footprint_of(keras.Sequential(layers), 16, steps, 3).kept_bytes

    # Every trip keeps numbers of 5 units for 16 examples: at least the 3 gates, the state and what they make.
    short, middle, long = keep(10), keep(20), keep(40)
    a_trip = (long - short) / 30
    assert 8 * 5 * 16 * 4 <= a_trip <= 16 * 5 * 16 * 4
    assert long - middle == 20 * a_trip


def test_of_an_embedding_only_the_rows_looked_up_are_pushed():
    layers = [
        keras.Input((6,), dtype="int32"),
        keras.layers.Embedding(1000, 8),
        keras.layers.Flatten(),
        keras.layers.Dense(4, activation="softmax"),
    ]
    found = footprint_of(keras.Sequential(layers), 2, 6, dtype="int32")
    assert found.pushed_bytes == 4 * (48 * 4 + 4) + 2 * 6 * (8 * 4 + 4)


MEASURE = """
import threading
import bmp, tensorflow as tf, tf_keras as keras
from bmp.plan.cost import count_cost
from bmp.plan.machine import read_own_bytes

tf.random.normal((8, 8)) @ tf.random.normal((8, 8))
start = read_own_bytes()
layers = [keras.layers.Conv2D(32, 3, padding="same", activation="relu") for _ in range(4)]
model = keras.Sequential([keras.Input((64, 64, 3)), *layers, keras.layers.Flatten(), keras.layers.Dense(10, "softmax")])
model.compile("adam", "sparse_categorical_crossentropy")
model.optimizer.build(model.trainable_variables)
batch = tf.random.normal((96, 64, 64, 3)), tf.zeros((96,), tf.int64)
print(count_cost(model, batch, 96, averages=False).replica_bytes(96))
held, over = [], threading.Event()
def watch():
    while not over.wait(0.002):
        held.append(read_own_bytes())
watcher = threading.Thread(target=watch)
watcher.start()
step = tf.function(model.train_step)
for _ in range(2):
    step(batch)["loss"].numpy()
over.set()
watcher.join()
print(max(held) - start)
"""


def test_the_predicted_peak_is_near_what_a_process_comes_to_hold():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    predicted, measured = map(int, done.stdout.split())
    assert 0.5 < predicted / measured < 1.5
