"""Models that do things their own way: a train_step of their own, random numbers of their own."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from rich.console import Console

from bmp.config import DataConfig, TrainConfig
from bmp.data import SOURCES, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import ConfigError
from bmp.training import OPTIMIZERS, Trainer
from bmp.training.trainer import Place


@pytest.fixture(scope="module")
def data():
    return load_data(SOURCES.bind("sklearn", {"name": "iris"}), DataConfig(source="sklearn"), 0)


@pytest.fixture
def trainer(data):
    def make(directory=None, **config):
        return Trainer(
            data,
            STRATEGIES["one_device"](Cluster(), None).strategy,
            build_optimizer=OPTIMIZERS.bind("sgd", {}),
            batch_size=32,
            seed=3,
            console=Console(file=io.StringIO()),
            config=TrainConfig(**config),
            place=Place(directory),
        )

    return make


class Careful(keras.Model):
    """Counts its steps, and halves its gradient."""

    def train_step(self, batch):
        inputs, targets = batch
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            loss = self.compute_loss(inputs, targets, outputs)
        gradients = [gradient / 2 for gradient in tape.gradient(loss, self.trainable_variables)]
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return self.compute_metrics(inputs, targets, outputs, None)


class Noisy(keras.layers.Layer):
    """Draws from an operation with hidden state."""

    def call(self, inputs, training=None):
        return inputs + tf.random.normal(tf.shape(inputs)) if training else inputs


def build(trainer, kind=keras.Model, extra=None):
    keras.utils.set_random_seed(0)
    with trainer.strategy.scope():
        inputs = keras.Input((4,))
        hidden = keras.layers.Dropout(0.3)((extra or tf.identity)(keras.layers.Dense(8, "relu")(inputs)))
        return kind(inputs, keras.layers.Dense(3, "softmax")(hidden))


def fit(trainer, model, epochs=3, learning_rate=0.05):
    return trainer.fit(model, epochs=epochs, learning_rate=learning_rate)


def test_a_step_of_its_own_is_taken(trainer):
    ours, theirs = trainer(), trainer()
    plain, careful = build(ours), build(theirs, Careful)
    history = fit(ours, plain, learning_rate=0.025)
    own = fit(theirs, careful)
    # half the gradient at twice the rate: the same, and Dropout draws the same by step
    for one, other in zip(plain.get_weights(), careful.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert [epoch.metrics["val_loss"] for epoch in own] == pytest.approx(
        [epoch.metrics["val_loss"] for epoch in history], abs=1e-6
    )
    assert own.epochs[-1].metrics["loss"] < own.epochs[0].metrics["loss"]


def test_a_step_of_its_own_is_resumed(trainer, tmp_path):
    whole = trainer()
    model = build(whole, Careful)
    fit(whole, model, epochs=4)
    first = trainer(tmp_path)
    fit(first, build(first, Careful), epochs=2)
    (tmp_path / "checkpoints" / "train").rename(tmp_path / "kept")
    # as if it had been ended after two of four epochs: the last checkpoint but the finished one
    (tmp_path / "checkpoints" / "train").mkdir()
    oldest = sorted((tmp_path / "kept").iterdir())[0]
    oldest.rename(tmp_path / "checkpoints" / "train" / oldest.name)
    again = trainer(tmp_path)
    resumed = build(again, Careful)
    fit(again, resumed, epochs=4)
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "config",
    [{"accumulate": 2}, {"label_smoothing": 0.1}, {"class_weights": "balanced"}, {"on_nonfinite": "skip"}],
)
def test_what_only_bmps_step_can_do_is_refused(trainer, config):
    (key,) = config
    careful = trainer(**config)
    with pytest.raises(ConfigError, match=f"train.{key} cannot be done"):
        fit(careful, build(careful, Careful))


def test_random_numbers_that_cannot_be_resumed_are_told(trainer):
    loose = trainer()
    fit(loose, build(loose, extra=Noisy()), epochs=1)
    assert "by RandomStandardNormal, whose state no checkpoint can hold" in loose._console.file.getvalue()
    plain = trainer()
    fit(plain, build(plain), epochs=1)
    assert "no checkpoint can hold" not in plain._console.file.getvalue()


def test_they_are_refused_where_exactness_is_asked_for(trainer):
    exact = trainer(deterministic=True)
    with pytest.raises(ConfigError, match="RandomStandardNormal"):
        fit(exact, build(exact, extra=Noisy()), epochs=1)
