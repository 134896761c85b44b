"""A registry for the doors: small untrained models of tensors and of raw features, one at two versions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tf_keras as keras
from raw_models import Published, build_model, export, publish_models

from bmp.artifact.saved_model import call_by_name
from bmp.registry import Registry
from bmp.signature import Arrays, Signature, TensorSpec
from bmp.transforms import Field, Preprocessing

LABELS = ("no", "yes")
TENSORS = {
    # name: what goes in, what comes out, objective, labels
    "flags": ((TensorSpec("x", "float32", (3,)),), (TensorSpec("y", "float32", (2,)),), "multiclass", LABELS),
    "prices": ((TensorSpec("grid", "float32", (2, 2)),), (TensorSpec("price", "float32", (1,)),), "regression", ()),
    "pairs": (
        (TensorSpec("a", "float32", (3,)), TensorSpec("b", "int32", (2,))),
        (TensorSpec("p", "float32", (2,)), TensorSpec("q", "float32", (1,))),
        "regression",
        (),
    ),
}
RAW = ["passengers", "reviews", "tumours"]


@dataclass(frozen=True)
class Models:
    """What is in the registry.

    Args:
        registry: Holds them.
        tensors: The Keras models of TENSORS by name and version.
        raw: Those of RAW.
    """

    registry: Registry
    tensors: dict[tuple[str, int], tuple[keras.Model, Signature]]
    raw: dict[str, Published]

    def answer(self, name: str, version: int, inputs: Arrays) -> Arrays:
        """What the Keras model says to tensors."""
        model, signature = self.tensors[name, version]
        return {name: tensor.numpy() for name, tensor in call_by_name(model, signature, inputs).items()}


def publish_door_models(root: Path) -> Models:
    """Publishes everything; `flags` has versions 1, which is `production`, and 2, which is `canary`."""
    raw = publish_models(root, RAW)
    registry = Registry(root / "registry")
    tensors = {}
    for name in TENSORS:
        tensors[name, 1] = _publish(registry, root / f"{name}-1", name, scale=1)
    tensors["flags", 2] = _publish(registry, root / "flags-2", "flags", scale=-3)
    registry.set_alias("flags", "production", 1)
    registry.set_alias("flags", "canary", 2)
    return Models(registry, tensors, raw)


def _publish(registry: Registry, directory: Path, name: str, scale: float) -> tuple[keras.Model, Signature]:
    inputs, outputs, objective, labels = TENSORS[name]
    signature = Signature(inputs, outputs, objective)
    model = _build_pairs() if name == "pairs" else build_model(signature)
    model.set_weights([scale * weight for weight in model.get_weights()])
    fields = tuple(Field(spec.name, "tensor", spec.dtype, spec.shape) for spec in inputs)
    export(directory, name, model, Preprocessing(fields), signature, labels)
    registry.publish(directory, name)
    return model, signature


def _build_pairs() -> keras.Model:
    """Two inputs of different kinds and two outputs that depend on both."""
    keras.utils.set_random_seed(2)
    a, b = keras.Input((3,), name="a"), keras.Input((2,), dtype="int32", name="b")
    both = keras.layers.Concatenate()([a, keras.layers.Lambda(lambda x: keras.backend.cast(x, "float32"))(b)])
    outputs = {name: keras.layers.Dense(size, name=name)(both) for name, size in (("p", 2), ("q", 1))}
    return keras.Model({"a": a, "b": b}, outputs)


def make_inputs(name: str, count: int, seed: int = 0) -> Arrays:
    """Random tensors for a model of TENSORS."""
    random = np.random.default_rng(seed)
    inputs = {}
    for spec in TENSORS[name][0]:
        values = random.normal(0, 2, (count, *spec.shape))
        inputs[spec.name] = values.round().astype(spec.dtype) if spec.dtype == "int32" else values.astype(spec.dtype)
    return inputs
