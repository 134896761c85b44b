"""The networks that `compression.py` compresses: each a recipe, and what is asked of its compressed form."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bmp.config import Recipe

THIRDS = {"train": 0.6, "validation": 0.2, "test": 0.2}
"""Of 1,797 digits: 1,079 to train on, 359 to choose by, 359 to test on."""
DIGITS = {"source": "sklearn", "args": {"name": "digits"}, "split": THIRDS, "batch_size": 32}
PIXEL = 1 / 16
"""What digits are multiplied by."""


@dataclass(frozen=True)
class Case:
    """A network, and what is asked of it.

    Args:
        name: Of it.
        title: What a table says.
        data: Section of a recipe; the same below.
        model: See data.
        train: See data.
        compress: What a search is asked for: keys of that section.
        figure: What the compressed form is measured by, against the uncompressed one: see `Result` for the names.
        aim: What the figure should be at least.
        max_drop: What accuracy may drop by, on the test split.
        chain: One that reaches the figure without any search.
    """

    name: str
    title: str
    data: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    compress: dict[str, Any]
    figure: str
    aim: float
    max_drop: float = 0.005
    chain: tuple[Any, ...] = ()

    def to_recipe(self, seed: int, registry: Path) -> Recipe:
        """Returns the recipe that trains and publishes the network, and compresses nothing yet."""
        return Recipe.model_validate(
            {
                "seed": seed,
                "data": self.data,
                "model": self.model,
                "train": self.train,
                "compress": {"chains": [], "max_drop": self.max_drop},
                "publish": {"name": self.name, "root": str(registry)},
            }
        )

    def to_overrides(self, **further: Any) -> list[str]:
        """Returns what is asked of the compression; what is not proven on so few examples is taken all the same."""
        asked = {"accept": "unproven", **self.compress, **further}
        return [f"compress.{key}={json.dumps(value)}" for key, value in asked.items()]


def load_digits_28() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns scikit-learn's digits at the size of MNIST's, `(1797, 28, 28)` from 0 to 1, and their classes."""
    import PIL.Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = [PIL.Image.fromarray(picture.astype(np.float32)) for picture in digits.images]
    enlarged = [np.asarray(picture.resize((28, 28), PIL.Image.Resampling.BILINEAR)) for picture in pictures]
    return {"image": np.stack(enlarged) * np.float32(PIXEL)}, digits.target


def load_signs(path: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns photographs of hands, grey, `(N, 32, 32, 1)` with a mean of about 0, and their classes.

    They are decoded here, once: small networks would wait for it in every epoch.
    """
    import PIL.Image

    folders = sorted(folder for folder in Path(path).iterdir() if folder.is_dir())
    files = [(file, number) for number, folder in enumerate(folders) for file in sorted(folder.iterdir())]
    pictures = [PIL.Image.open(file).convert("L").resize((32, 32), PIL.Image.Resampling.BILINEAR) for file, _ in files]
    pixels = np.stack([np.asarray(picture, np.float32) for picture in pictures])[..., np.newaxis]
    return {"image": (pixels / 255 - 0.5) / 0.25}, np.array([number for _, number in files])


def describe_signs(path: Path) -> dict[str, Any]:
    """Returns the section `data` for photographs of hands; a left hand signs what a right hand does."""
    return {
        "source": "python",
        "args": {"function": name_function(load_signs), "args": {"path": str(path)}},
        "split": THIRDS,
        "transforms": [{"kind": "augment", "field": "image", "crop": 3, "flip_horizontal": True}],
        "batch_size": 32,
    }


def name_function(function: Callable[..., Any]) -> str:
    """Returns how a recipe names a function of this file."""
    return f"{Path(__file__).resolve()}:{function.__name__}"


def make_lenet300(_: Path) -> Case:
    return Case(
        "lenet300",
        "LeNet-300-100, digits: .h5 / gzipped file",
        DIGITS,
        {"build": "mlp", "args": {"hidden": [300, 100], "scale": PIXEL}},
        {"epochs": 40, "schedule": "cosine"},
        {"goal": "size", "epochs": 40, "learning_rate": 3e-3, "distill": True},
        "h5_over_gzip",
        25,
        chain=(
            {"prune": {"sparsity": 0.93, "epochs": 150}},
            {"cluster": {"clusters": 8, "epochs": 30}},
            {"qat": {"epochs": 20}},
        ),
    )


def make_lenet5(signs: Path) -> Case:
    return Case(
        "lenet5",
        "LeNet-5, signs: .h5 / gzipped file",
        describe_signs(signs),
        {"build": "lenet5", "args": {"connections": "full", "pooling": "max"}},
        {"epochs": 60, "schedule": "cosine"},
        {"goal": "size", "epochs": 40, "learning_rate": 2e-3, "distill": True},
        "h5_over_gzip",
        15,
        chain=(
            {"prune": {"sparsity": 0.8, "epochs": 120}},
            {"cluster": {"clusters": 8, "epochs": 30}},
            {"qat": {"epochs": 20}},
        ),
    )


def make_mlp(_: Path) -> Case:
    return Case(
        "mlp",
        "784-2048-2048-10, digits: latency",
        {"source": "python", "args": {"function": name_function(load_digits_28)}, "split": THIRDS, "batch_size": 32},
        {"build": "mlp", "args": {"hidden": [2048, 2048]}},
        {"epochs": 12, "schedule": "cosine"},
        {"goal": "latency", "epochs": 12, "distill": True, "techniques": ["channels", "dynamic", "int8"]},
        "latency",
        6,
    )


def make_resnet(signs: Path) -> Case:
    return Case(
        "resnet",
        "residual network, signs: latency",
        describe_signs(signs),
        {"build": "resnet", "args": {"blocks": 1, "filters": 16}},
        {"epochs": 30, "learning_rate": 3e-3, "schedule": "cosine"},
        {
            "goal": "latency",
            "epochs": 40,
            "learning_rate": 3e-3,
            "distill": True,
            "techniques": ["channels", "dynamic", "int8", "float16"],
        },
        "latency",
        2,
        max_drop=0.01,
        chain=({"channels": {"remove": 0.5, "epochs": 40}},),
    )


def make_transformer(_: Path) -> Case:
    return Case(
        "transformer",
        "Transformer encoder, digits row by row: size",
        DIGITS,
        {"build": "transformer", "args": {"layers": 2, "heads": 4, "width": 64, "scale": PIXEL}},
        {"epochs": 30, "schedule": "cosine"},
        {"goal": "balanced", "epochs": 15, "distill": True, "techniques": ["channels", "dynamic", "int8", "qat"]},
        "raw_size",
        3.5,
    )


CASES: dict[str, Callable[[Path], Case]] = {
    "lenet300": make_lenet300,
    "lenet5": make_lenet5,
    "mlp": make_mlp,
    "resnet": make_resnet,
    "transformer": make_transformer,
}
"""By name; each is given the folder of the photographs."""
