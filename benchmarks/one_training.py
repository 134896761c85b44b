"""One training of a recipe in a process of its own: by bmp, or by `model.compile` and `model.fit` as people write it.

`python benchmarks/one_training.py bmp|plain RECIPE.yaml DIRECTORY` prints the seconds that the training took (building
of the step and of the input pipeline included, TensorFlow's start not) and its last loss, as JSON. `training.py`
beside it runs it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import bmp  # noqa: F401 - selects Keras 2
from bmp.config import Recipe, load_recipe
from bmp.data import SOURCES, Dataset, Split, load_data
from bmp.data.sources.folders import FileSource
from bmp.data.sources.text import TextSource
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.models import build_model, look_up_model
from bmp.objectives import OBJECTIVES
from bmp.training import OPTIMIZERS, SCHEDULES, Trainer
from bmp.training.trainer import Place


def open_data(recipe: Recipe) -> Dataset:
    return load_data(SOURCES.bind(recipe.data.source, recipe.data.args), recipe.data, recipe.seed)


def divide(recipe: Recipe, steps_per_epoch: int) -> tuple[int, int]:
    """Returns validations, and the steps before each."""
    if recipe.train.steps is None:
        return recipe.train.epochs, steps_per_epoch
    stretch = recipe.train.validate_every or recipe.train.steps
    assert isinstance(stretch, int), "give validate_every in steps"
    return recipe.train.steps // stretch, stretch


def make_builders(recipe: Recipe) -> tuple[Any, Any, Any]:
    """Returns what builds the network, the optimizer and the learning rate."""
    train = recipe.train
    return (
        look_up_model(recipe.model.build, recipe.model.args),
        OPTIMIZERS.bind(train.optimizer, train.optimizer_args),
        SCHEDULES.bind(train.schedule, train.schedule_args),
    )


def train_by_bmp(recipe: Recipe, directory: Path) -> tuple[float, float]:
    """Returns seconds and the last loss of what `bmp run` does between its start and the export."""
    import tf_keras as keras

    data = open_data(recipe)
    chosen = STRATEGIES.bind(recipe.distribution.strategy, {})(Cluster(), None)
    keras.utils.set_random_seed(recipe.seed)
    build, build_optimizer, build_schedule = make_builders(recipe)
    with chosen.strategy.scope():
        model = build_model(build, data.signature, data.train)
    trainer = Trainer(
        data,
        chosen.strategy,
        build_optimizer=build_optimizer,
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
        console=Console(file=sys.stderr),
        config=recipe.train,
        place=Place(directory),
    )
    epochs, stretch = divide(recipe, trainer.steps_per_epoch)
    rate = build_schedule(recipe.train.learning_rate, trainer.clock(epochs, stretch))
    start_s = time.perf_counter()
    history = trainer.fit(model, epochs=epochs, steps_per_epoch=stretch, learning_rate=rate)
    return time.perf_counter() - start_s, history.epochs[-1].metrics["loss"]


def train_plainly(recipe: Recipe, directory: Path) -> tuple[float, float]:
    """Returns seconds and the last loss of the same training, written by hand."""
    import tf_keras as keras

    data = open_data(recipe)
    keras.utils.set_random_seed(recipe.seed)
    build, build_optimizer, build_schedule = make_builders(recipe)
    model = build_model(build, data.signature, data.train)
    size = recipe.data.batch_size
    epochs, stretch = divide(recipe, -(-len(data.train) // size))
    clock = Trainer.clock  # the same rates at the same steps
    rate = build_schedule(recipe.train.learning_rate, clock(_Steps(-(-len(data.train) // size)), epochs, stretch))
    objective = OBJECTIVES[data.signature.objective]
    start_s = time.perf_counter()
    train, validation = make_dataset(data.train, size, train=True), make_dataset(data.validation, size, train=False)
    model.compile(build_optimizer(rate, None), objective.make_loss(), objective.make_metrics())
    steps = {"steps_per_epoch": stretch} if recipe.train.steps else {}
    dataset = train.repeat() if steps else train
    history = model.fit(dataset, epochs=epochs, validation_data=validation, verbose=0, **steps)
    return time.perf_counter() - start_s, history.history["loss"][-1]


class _Steps:
    """What `Trainer.clock` asks of a trainer."""

    def __init__(self, steps_per_epoch: int) -> None:
        self.steps_per_epoch = steps_per_epoch


def make_dataset(split: Split, size: int, *, train: bool) -> Any:
    """Returns batches from memory; of running text its windows, of pictures their files, as tutorials read them."""
    import tensorflow as tf

    if isinstance(split.source, FileSource):
        columns, change = _open_pictures(split, augment=train)
    elif isinstance(split.source, TextSource) and train:
        columns, change = _open_text(split)
    else:
        batch = split.load()
        inputs = batch.inputs if len(batch.inputs) > 1 else next(iter(batch.inputs.values()))
        columns, change = (inputs, batch.targets), None
    dataset = tf.data.Dataset.from_tensor_slices(columns)
    if train:
        dataset = dataset.shuffle(min(len(split), 100_000))
    if change is not None:
        dataset = dataset.map(change, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(size).prefetch(tf.data.AUTOTUNE)


def _open_text(split: Split) -> tuple[Any, Any]:
    import tensorflow as tf

    width = split.source.target.width
    tokens = tf.constant(split.source._parts[0])  # a training window starts at every token

    def cut(start: Any) -> tuple[Any, Any]:
        window = tokens[start : start + width + 1]
        window.set_shape((width + 1,))
        return window[:-1], window[1:]

    return split.index, cut


def _open_pictures(split: Split, *, augment: bool) -> tuple[Any, Any]:
    import tensorflow as tf

    (spec,) = split.preprocessing.outputs
    height, width, channels = spec.shape
    files = split.source.read(split.index)["image"]

    def change(data: Any, target: Any) -> tuple[Any, Any]:
        image = tf.io.decode_image(data, channels=channels, expand_animations=False)
        image = (tf.image.resize(image, (height, width)) / 255 - 0.5) / 0.25
        if augment:
            image = tf.image.random_flip_left_right(tf.image.pad_to_bounding_box(image, 6, 6, height + 12, width + 12))
            image = tf.image.random_crop(image, (height, width, channels))
        return image, target

    return (tf.constant(list(files)), split.targets()), change


SIDES = {"bmp": train_by_bmp, "plain": train_plainly}


def main() -> None:
    side, recipe, directory = sys.argv[1:]
    import tensorflow as tf

    tf.reduce_sum(tf.ones(3)).numpy()  # starts it
    duration_s, loss = SIDES[side](load_recipe(recipe), Path(directory))
    print(json.dumps({"duration_s": duration_s, "loss": loss}))


if __name__ == "__main__":
    main()
