"""A registry of small models that take raw features, one of each kind; untrained, since any weights will do."""

import io
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow as tf
import tf_keras as keras

from bmp.artifact.litert import write_litert
from bmp.artifact.manifest import Lineage, Manifest, Variant, digest_files, write_manifest
from bmp.artifact.samples import Samples, write_samples
from bmp.artifact.saved_model import SAVED_MODEL_FILE, call_by_name, write_saved_model
from bmp.data.twins import run_twins
from bmp.registry import Registry, Version
from bmp.signature import Signature, TensorSpec
from bmp.transforms import Columns, Field, Preprocessing, build_steps
from tests.measurements import make_measurement

Random = np.random.Generator


@dataclass(frozen=True)
class Published:
    """A model in the registry, and the Keras model it was exported from."""

    version: Version
    model: keras.Model
    signature: Signature
    preprocessing: Preprocessing
    labels: tuple[str, ...]

    @cached_property
    def run_as_in_training(self) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
        """Raw features by name to the answer `(N, *shape)`: TensorFlow's transforms, then the Keras model."""

        def run(columns: dict[str, tf.Tensor]) -> tf.Tensor:
            inputs = run_twins(self.preprocessing, columns, None)
            return self.model(inputs if len(inputs) > 1 else next(iter(inputs.values())), training=False)

        return tf.function(run, autograph=False, reduce_retracing=True)


def make_png(random: Random, kind: str = "PNG") -> bytes:
    """A picture of noise, of a random size."""
    height, width = random.integers(4, 40, 2)
    file = io.BytesIO()
    PIL.Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(file, kind)
    return file.getvalue()


def make_wav(random: Random) -> bytes:
    """A sound of noise, of a random length."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(random.integers(-20_000, 20_000, random.integers(200, 3000), np.int16).tobytes())
    return file.getvalue()


def make_text(random: Random) -> str:
    """Some words, known ones and others, of one byte a letter and of more."""
    return " ".join(random.choice(["good", "bad", "film", "Grüße", "何", "x", "not", "!"], random.integers(1, 20)))


MAKERS: dict[str, Callable[[Random], Any]] = {
    "number": lambda random: random.normal(30, 10),
    "category": lambda random: random.choice(["a", "b", "c"]),
    "text": make_text,
    "image": make_png,
    "audio": make_wav,
}
"""Random values of each kind of feature."""


def make_columns(fields: tuple[Field, ...], count: int, seed: int = 0) -> Columns:
    """Random raw examples, as `Field.kind` describes them."""
    random = np.random.default_rng(seed)
    columns = {}
    for field in fields:
        if field.kind == "tensor":
            columns[field.name] = random.normal(50, 20, (count, *field.shape)).astype(field.dtype)
            continue
        column = np.empty(count, object)
        column[:] = [MAKERS[field.kind](random) for _ in range(count)]
        columns[field.name] = column.astype(np.float32) if field.kind == "number" else column
    return columns


TABLE = (Field("age", "number"), Field("fare", "number"), Field("sex", "category"))
MODELS: dict[str, tuple[tuple[Field, ...], list[dict[str, Any]], str, tuple[int, ...], tuple[str, ...]]] = {
    # name: (raw features, transforms, objective, shape of the output, labels)
    "passengers": (
        TABLE,
        [
            {"kind": "fill", "fields": ["age"]},
            {"kind": "standardise", "fields": ["age", "fare"]},
            {"kind": "one_hot", "fields": ["sex"]},
            {"kind": "join", "fields": ["age", "fare", "sex"]},
        ],
        "binary",
        (1,),
        ("died", "survived"),
    ),
    "tumours": (
        (Field("features", "tensor", "float32", (5,)),),
        [{"kind": "standardise", "fields": ["features"]}],
        "multiclass",
        (2,),
        ("benign", "malignant"),
    ),
    "reviews": (
        (Field("review", "text"),),
        [{"kind": "tokenize", "field": "review", "tokenizer": "words", "length": 12}],
        "multiclass",
        (3,),
        ("bad", "fair", "good"),
    ),
    "photos": (
        (Field("photo", "image"),),
        [{"kind": "image", "field": "photo", "height": 12, "width": 10}],
        "multiclass",
        (4,),
        ("cat", "dog", "emu", "fox"),
    ),
    "clips": (
        (Field("clip", "audio"),),
        [{"kind": "log_mel", "field": "clip", "sample_rate": 8000, "seconds": 0.25, "bands": 12}],
        "multilabel",
        (3,),
        ("bell", "dog", "rain"),
    ),
    "letters": (
        (Field("text", "text"),),
        [{"kind": "tokenize", "field": "text", "tokenizer": "bytes", "length": 16, "keep": "end"}],
        "next_token",
        (16, 258),
        tuple(f"<{token}>" for token in range(258)),
    ),
    "adverts": (
        (Field("photo", "image"), Field("price", "number"), Field("place", "category")),
        [
            {"kind": "image", "field": "photo", "height": 6, "width": 6, "channels": 1},
            {"kind": "fill", "fields": ["price"], "value": "median"},
            {"kind": "standardise", "fields": ["price"]},
            {"kind": "vocabulary", "fields": ["place"]},
        ],
        "regression",
        (2,),
        (),
    ),
}


def publish_models(root: Path, names: list[str], saved_models: tuple[str, ...] = ()) -> dict[str, Published]:
    """Publishes some of MODELS below `root / "registry"`; those in `saved_models` for the SavedModel engine."""
    published = {}
    for name in names:
        fields, steps, objective, shape, labels = MODELS[name]
        preprocessing = Preprocessing(fields, build_steps(steps, fields)).fit(lambda: [make_columns(fields, 60)])  # noqa: B023
        output = TensorSpec("answer", "float32", shape)
        signature = Signature(preprocessing.outputs, (output,), objective)
        model = build_model(signature)
        directory = root / name
        export(directory, name, model, preprocessing, signature, labels, litert=name not in saved_models)
        version = Registry(root / "registry").publish(directory, name)
        published[name] = Published(version, model, signature, preprocessing, labels)
    return published


def build_model(signature: Signature) -> keras.Model:
    """One dense layer over all inputs; for tokens a causal convolution, with an answer for each."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = {spec.name: keras.Input(spec.shape, dtype=spec.dtype, name=spec.name) for spec in signature.inputs}
    (output,) = signature.outputs
    parts = []
    for spec in signature.inputs:
        part = inputs[spec.name]
        if spec.vocabulary is not None:
            part = layers.Embedding(spec.vocabulary, 6)(part)
        parts.append(part if signature.objective == "next_token" else layers.Flatten()(part))
    features = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    if signature.objective == "next_token":
        features = layers.Conv1D(8, 3, padding="causal", activation="relu")(features)
    activation = {"binary": "sigmoid", "multilabel": "sigmoid", "regression": "linear"}.get(
        signature.objective, "softmax"
    )
    answer = layers.Dense(output.shape[-1], activation=activation, name=output.name)(features)
    return keras.Model(inputs if len(inputs) > 1 else next(iter(inputs.values())), answer)


def export(
    directory: Path,
    name: str,
    model: keras.Model,
    preprocessing: Preprocessing,
    signature: Signature,
    labels: tuple[str, ...],
    *,
    litert: bool = True,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Lays out an artifact that serving can load.

    Args:
        directory: To be made.
        name: Of the model.
        model: Untrained.
        preprocessing: Fitted.
        signature: Of the model.
        labels: Of its output.
        litert: Whether LiteRT serves it, and not the SavedModel engine.
        changes: Of the manifest, for damage.
    """
    (directory / "bmp").mkdir(parents=True)
    if litert:
        write_litert(model, signature, directory / "model.tflite")
    else:
        write_saved_model(model, signature, directory)
    inputs = preprocessing.run(make_columns(preprocessing.fields, 4))
    outputs = {name: tensor.numpy() for name, tensor in call_by_name(model, signature, inputs).items()}
    write_samples(Samples(inputs, outputs, np.zeros(4, np.int64)), directory)
    measured = make_measurement(0.5)
    file = "model.tflite" if litert else SAVED_MODEL_FILE
    manifest = {
        "schema_version": 1,
        "name": name,
        "created": datetime.now(UTC),
        "signature": signature.to_dict(),
        "labels": labels,
        "preprocessing": preprocessing.to_dict(),
        "recommended": "float32",
        "max_drop": 0.01,
        "variants": (Variant(name="float32", file=file, verdict="recommended: the only one", measured=measured),),
        "lineage": Lineage(
            recipe_sha256="0" * 64, data_sha256="0" * 64, parent_version=None, code_version="0", packages={}, machine=""
        ),
        "files": digest_files(directory),
    }
    write_manifest(Manifest(**{**manifest, **(changes or {})}), directory)
