"""The networks that are served: a small one, one that is all weights, and two that take pictures.

Their weights are as good as random: what is measured is how they are asked, not what they know.
"""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from rich.console import Console

from bmp.config import Recipe
from bmp.data import SOURCES, Source, Target
from bmp.data.sources.memory import ArraySource
from bmp.registry import Version
from bmp.run import run
from bmp.transforms import Columns, Field

PIXELS = 784
SIDE, LARGE_SIDE = 96, 224
_EXAMPLES, _CLASSES = 240, 10


def _to_image(side: int) -> dict[str, Any]:
    half = [0.5, 0.5, 0.5]
    return {"kind": "image", "field": "photo", "height": side, "width": side, "mean": half, "std": half}


_NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {"data": {"source": "noise"}, "model": {"build": "mlp", "args": {"hidden": [128]}}},
    "wide": {"data": {"source": "noise"}, "model": {"build": "mlp", "args": {"hidden": [2048, 2048]}}},
    "photo": {
        "data": {"source": "photos", "transforms": [_to_image(SIDE)]},
        "model": {"build": "mobilenet_v2", "args": {"alpha": 0.5}},
    },
    "large photo": {
        "data": {"source": "photos", "transforms": [_to_image(LARGE_SIDE)], "batch_size": 16},
        "model": {"build": "mobilenet_v2", "args": {"alpha": 1.0}},
    },
}
"""What is special of each recipe, by the name that the network is published under."""


@dataclass(frozen=True)
class Published:
    """A network in a registry of its own.

    Args:
        version: Of it.
        raw: What its examples were, by feature.
        inputs: What its examples are to the network, by input.
    """

    version: Version
    raw: Columns
    inputs: Columns

    @property
    def registry(self) -> Path:
        """Where it is published."""
        return self.version.path.parent.parent

    @property
    def litert_file(self) -> Path:
        """What runs."""
        return self.version.path / "model.tflite"


def load_noise() -> Source:
    """Examples as wide as a picture of MNIST, of ten classes."""
    random = np.random.default_rng(0)
    pixels = random.random((_EXAMPLES, PIXELS), np.float32).round(4)
    return _make_source({"pixels": pixels}, Field("pixels", "tensor", "float32", (PIXELS,)))


def load_photos() -> Source:
    """JPEG files of 96x96 pixels, smooth as photographs are."""
    random = np.random.default_rng(0)
    files = np.empty(_EXAMPLES, object)
    for number in range(_EXAMPLES):
        coarse = PIL.Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        buffer = io.BytesIO()
        coarse.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        files[number] = buffer.getvalue()
    return _make_source({"photo": files}, Field("photo", "image"))


def _make_source(columns: Columns, field: Field) -> Source:
    target = Target("class", tuple(map(str, range(_CLASSES))))
    return ArraySource(columns, (field,), np.arange(_EXAMPLES) % _CLASSES, target)


def publish(names: Iterable[str], directory: Path) -> dict[str, Published]:
    """Trains networks for a moment and publishes them, each in a registry of its own.

    Args:
        names: Some of `dense`, `wide`, `photo` and `large photo`.
        directory: Where their registries and runs go.
    """
    for source, load in (("noise", load_noise), ("photos", load_photos)):
        if source not in SOURCES:
            SOURCES.register(source, load)
    return {name: publish_version(name, directory / name) for name in names}


def publish_version(name: str, directory: Path, seed: int = 0) -> Published:
    """Publishes one version more, in the registry of this directory.

    Args:
        name: Of the network; `publish` has been called before.
        directory: That its first version has.
        seed: Of its weights.
    """
    recipe = Recipe.model_validate(
        {
            **_NETWORKS[name],
            "seed": seed,
            "train": {"epochs": 1, "jit": False},
            "compress": {"chains": []},
            "publish": {"name": name.replace(" ", "-"), "root": str(directory / "registry")},
        }
    )
    finished = run(recipe, run_dir=directory / f"run-{seed}", console=Console(file=io.StringIO()))
    test = finished.data.test
    return Published(finished.version, test.source.read(test.index), test.load().inputs)
