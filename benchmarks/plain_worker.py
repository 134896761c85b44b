"""A worker of MultiWorkerMirroredStrategy as people write it, under a TF_CONFIG they have set.

`python benchmarks/plain_worker.py RECIPE.yaml` trains the recipe's network on its arrays and prints the examples a
second of all workers, the median over the epochs after the first. `training_workers.py` beside it starts two.
"""

import json
import statistics
import sys
import time

import numpy as np

import bmp  # noqa: F401 - selects Keras 2
from bmp.config import load_recipe
from bmp.data import SOURCES, load_data
from bmp.models import build_model, look_up_model
from bmp.objectives import OBJECTIVES


def main() -> None:
    import tensorflow as tf
    import tf_keras as keras

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    recipe = load_recipe(sys.argv[1])
    data = load_data(SOURCES.bind(recipe.data.source, recipe.data.args), recipe.data, recipe.seed)
    batch = data.train.load()
    (inputs,) = batch.inputs.values()
    size = recipe.data.batch_size
    keras.utils.set_random_seed(recipe.seed)
    with strategy.scope():
        model = build_model(look_up_model(recipe.model.build, recipe.model.args), data.signature, data.train)
        objective = OBJECTIVES[data.signature.objective]
        model.compile(keras.optimizers.Adam(1e-3), objective.make_loss(), objective.make_metrics())
    dataset = tf.data.Dataset.from_tensor_slices((inputs, batch.targets))
    dataset = dataset.shuffle(len(inputs)).repeat().batch(size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    steps = len(inputs) // size
    ends_s: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends_s.append(time.perf_counter()))
    dataset = dataset.with_options(options)
    model.fit(dataset, epochs=recipe.train.epochs, steps_per_epoch=steps, verbose=0, callbacks=[watch])
    print(json.dumps({"examples_per_s": steps * size / statistics.median(np.diff(ends_s))}))


if __name__ == "__main__":
    main()
