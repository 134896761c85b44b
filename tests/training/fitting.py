"""Small trainings for the tests beside: data in memory, a network with whatever keeps a state."""

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

if TYPE_CHECKING:
    import tf_keras as keras

    from bmp.data import Dataset
    from bmp.training import History, Trainer

CLASSES = ("red", "green", "blue")


def make_data(size: int = 80, *, bad: Sequence[int] = (), seed: int = 0) -> "Dataset":
    """Three clusters of 6 numbers each, the smaller classes rarer; the bad ones are too large to learn from.

    `bad` are numbers of examples in the source.
    """
    from bmp.config import DataConfig
    from bmp.data import load_data
    from bmp.data.sources.memory import ArraySource
    from bmp.objectives import Target
    from bmp.transforms import Field

    rng = np.random.default_rng(seed)
    targets = rng.choice(3, size, p=(0.5, 0.3, 0.2)).astype(np.int64)
    rows = (rng.normal(size=(size, 6)) + np.eye(3, 6)[targets] * 2).astype(np.float32)
    rows[list(bad)] = 3e38
    source = ArraySource({"row": rows}, (Field("row", "tensor", "float32", (6,)),), targets, Target("class", CLASSES))
    return load_data(lambda: source, DataConfig(source="memory", transforms=[]), seed)


def make_trainer(
    data: "Dataset",
    *,
    batch_size: int = 16,
    optimizer: str = "sgd",
    seed: int = 3,
    strategy: Any = None,
    place: Any = None,
    console: Console | None = None,
    **config: Any,
) -> "Trainer":
    """A trainer on one device that decides nothing by the clock; `config` goes to TrainConfig."""
    from bmp.config import TrainConfig
    from bmp.distribution import STRATEGIES
    from bmp.distribution.cluster import Cluster
    from bmp.training import OPTIMIZERS, Trainer

    return Trainer(
        data,
        strategy or STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS.bind(optimizer, {}),
        batch_size=batch_size,
        seed=seed,
        console=console or Console(file=io.StringIO(), width=400),
        config=TrainConfig.model_validate({"jit": False, "steps_per_execution": 1} | config),
        place=place,
    )


def build_net(
    trainer: "Trainer", *, dropout: float = 0.0, noise: float = 0.0, norm: bool = False, penalty: float = 0.0
) -> "keras.Model":
    """6-8-3, with batch normalisation, noise and dropout where they are asked for; the weights are always the same."""
    import tf_keras as keras

    keras.utils.set_random_seed(0)
    signature = trainer.data.signature
    with trainer.strategy.scope():
        inputs = keras.Input((6,), name=signature.inputs[0].name)
        x = keras.layers.Dense(8, kernel_regularizer=keras.regularizers.L2(penalty) if penalty else None)(inputs)
        x = keras.layers.BatchNormalization(momentum=0.8)(x) if norm else x
        x = keras.layers.GaussianNoise(noise)(x) if noise else x
        x = keras.layers.Dropout(dropout)(keras.layers.ReLU()(x)) if dropout else keras.layers.ReLU()(x)
        outputs = keras.layers.Dense(3, "softmax", name=signature.outputs[0].name)(x)
        return keras.Model(inputs, outputs)


def train(
    trainer: "Trainer", *, epochs: int = 3, learning_rate: Any = 0.05, net: dict[str, Any] | None = None, **options: Any
) -> "tuple[list[np.ndarray], History]":
    """Returns the weights a new network ends with, and its epochs."""
    model = build_net(trainer, **(net or {}))
    history = trainer.fit(model, epochs=epochs, learning_rate=learning_rate, **options)
    return model.get_weights(), history


def say(trainer: "Trainer") -> str:
    """What a training has printed."""
    return trainer._console.file.getvalue()  # type: ignore[attr-defined]


def assert_equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> None:
    """To the bit."""
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def is_equal(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


def shrink(data: "Dataset", change: Callable[[np.ndarray], np.ndarray]) -> "Dataset":
    """The same data, other training examples: `change` takes their numbers in the source and returns them."""
    return replace(data, train=replace(data.train, index=change(data.train.index)))
