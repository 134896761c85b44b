"""Small networks and trainings for the tests beside."""

import io
from typing import Any

import numpy as np
import tf_keras as keras
from rich.console import Console

from bmp.compression.technique import Workshop
from bmp.config import DataConfig, TrainConfig
from bmp.data import SOURCES, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.training import OPTIMIZERS, Trainer


def make_workshop(*, strategy: Any = None, epochs: int = 2, batch_size: int = 64, **config: Any) -> Workshop:
    """A workshop on the handwritten digits, that decides nothing by the clock; `config` goes to TrainConfig."""
    trainer = Trainer(
        load_data(SOURCES.bind("sklearn", {"name": "digits"}), DataConfig(source="sklearn"), 0),
        strategy or STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS["adam"],
        batch_size=batch_size,
        seed=0,
        console=Console(file=io.StringIO()),
        config=TrainConfig.model_validate({"jit": False, "steps_per_execution": 4} | config),
    )
    return Workshop(trainer, epochs=epochs, learning_rate=3e-3, seed=0)


def build(workshop: Workshop, *, epochs: int = 4) -> keras.Model:
    """Convolution, ReLU, pooling, dense: trained."""
    keras.utils.set_random_seed(0)
    with workshop.trainer.strategy.scope():
        inputs = keras.Input((8, 8), name="image")
        x = keras.layers.Reshape((8, 8, 1), name="channel")(inputs)
        x = keras.layers.Rescaling(0.0625, name="scale")(x)
        x = keras.layers.Conv2D(8, 3, padding="same", name="first")(x)
        x = keras.layers.ReLU(name="relu")(x)
        x = keras.layers.Conv2D(12, 3, strides=2, activation="relu", name="second")(x)
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dense(30, name="hidden")(x)
        x = keras.layers.ReLU(name="hidden_relu")(x)
        model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probabilities")(x), name="small")
    if epochs:
        workshop.trainer.fit(model, epochs=epochs, learning_rate=0.005)
    return model


def measure(model: keras.Model, workshop: Workshop) -> float:
    """Share of the validation split that a model gets right; a guess gets 0.1."""
    held_out = workshop.trainer.data.validation.load()
    answers = np.asarray(model(held_out.inputs["image"])).argmax(axis=-1)
    return float(np.mean(answers == held_out.targets))


def list_of(form_patterns: Any, kind: str) -> dict[str, float]:
    """Layers with a pattern of a kind, and its value."""
    return {pattern.layer: pattern.value for pattern in form_patterns if pattern.kind == kind}
