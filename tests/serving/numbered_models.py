"""Models that answer with one number whatever they are asked: so an answer says which version gave it."""

import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np

from bmp.artifact.litert import write_litert
from bmp.artifact.manifest import Lineage, Manifest, Measurement, Variant, digest_files, write_manifest
from bmp.artifact.samples import Samples, write_samples
from bmp.registry import Registry, Version
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (1,)),), "regression")
QUESTION = {"x": np.zeros((1, 2), np.float32)}
_PLACEHOLDER = np.float32(1234.5)


def publish(registry: Registry, answer: float, name: str = "n", *, width: int = 2) -> Version:
    """Publishes a version that answers with this number; `width**2 * 4` bytes of weights make it heavier."""
    directory = registry.root.parent / f"artifact-{name}"
    try:
        make_artifact(directory, answer, width)
        return registry.publish(directory, name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def eventually(check: Callable[[], object], within_s: float = 20) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def make_artifact(directory: Path, answer: float, width: int = 2) -> None:
    """Lays out an artifact that serving can load."""
    (directory / "bmp").mkdir(parents=True)
    (directory / "model.tflite").write_bytes(make_model(answer, width))
    inputs = {"x": np.zeros((3, 2), np.float32)}
    write_samples(Samples(inputs, {"y": np.full((3, 1), answer, np.float32)}, None), directory)
    measured = Measurement(
        validation_score=None,
        test_score=None,
        max_abs_diff=0.0,
        sparsity=1.0,
        size_bytes=1,
        gzip_bytes=1,
        latency_batch1_ms=1.0,
        latency_batch32_ms=1.0,
    )
    manifest = Manifest(
        schema_version=1,
        name="n",
        created=datetime.now(UTC),
        signature=SIGNATURE.to_dict(),
        labels=(),
        recommended="float32",
        max_drop=0.0,
        variants=(
            Variant(name="float32", file="model.tflite", verdict="recommended: the only one", measured=measured),
        ),
        lineage=Lineage(parent_version=None, code_version="0", packages={}, machine=""),
        files=digest_files(directory),
    )
    write_manifest(manifest, directory)


def make_model(answer: float, width: int = 2) -> bytes:
    """Returns a `.tflite` file whose last bias is the answer; only the first of a width costs a conversion."""
    return _convert(width).replace(_PLACEHOLDER.tobytes(), np.float32(answer).tobytes())


@cache
def _convert(width: int) -> bytes:
    import tf_keras as keras

    inputs = keras.Input((2,), name="x")
    hidden = keras.layers.Dense(width, kernel_initializer="zeros")(inputs)
    hidden = keras.layers.Dense(width, kernel_initializer="zeros")(hidden)
    bias = keras.initializers.Constant(float(_PLACEHOLDER))
    outputs = keras.layers.Dense(1, kernel_initializer="zeros", bias_initializer=bias, name="y")(hidden)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.tflite"
        write_litert(keras.Model(inputs, outputs), SIGNATURE, path)
        content = path.read_bytes()
    assert content.count(_PLACEHOLDER.tobytes()) == 1
    return content
