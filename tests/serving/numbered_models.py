"""Models that answer with one number whatever they are asked: so an answer says which version gave it."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bmp.artifact.litert import write_litert
from bmp.artifact.manifest import FileEntry, Lineage, Manifest, Variant, digest_files, write_manifest
from bmp.artifact.samples import Samples, write_samples
from bmp.registry import Registry, Version
from bmp.signature import Signature, TensorSpec
from tests.measurements import make_measurement

SIGNATURE = Signature((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (1,)),), "regression")
QUESTION = {"x": np.zeros((1, 2), np.float32)}
_PLACEHOLDER = np.float32(1234.5)


class Form(NamedTuple):
    """A variant: what it answers, and what is said of it."""

    name: str
    answer: float
    score: float | None = None
    latency_ms: float = 1.0
    max_abs_diff: float = 0.0
    verdict: str = "passed"
    is_kept: bool = True

    @property
    def file(self) -> str:
        return "model.tflite" if self.verdict.startswith("recommended") else f"variants/{self.name}.tflite"


def publish(registry: Registry, answer: float, name: str = "n", *, width: int = 2) -> Version:
    """Publishes a version that answers with this number; `width**2 * 4` bytes of weights make it heavier."""
    return publish_forms(registry, [Form("float32", answer, verdict="recommended: the only one")], name, width)


def publish_forms(registry: Registry, forms: Sequence[Form], name: str = "n", width: int = 2) -> Version:
    """Publishes a version in several variants; the first one is recommended."""
    directory = registry.root.parent / f"artifact-{name}"
    try:
        make_artifact(directory, forms, width)
        return registry.publish(directory, name)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def eventually(check: Callable[[], object], within_s: float = 20) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def make_artifact(directory: Path, forms: Sequence[Form], width: int = 2) -> None:
    """Lays out an artifact that serving can load."""
    for form in forms:
        if form.is_kept:
            (directory / form.file).parent.mkdir(parents=True, exist_ok=True)
            (directory / form.file).write_bytes(make_model(form.answer, width))
    (directory / "bmp").mkdir()
    inputs = {"x": np.zeros((3, 2), np.float32)}
    write_samples(Samples(inputs, {"y": np.full((3, 1), forms[0].answer, np.float32)}, None), directory)
    write_manifest(describe(forms, digest_files(directory)), directory)


def describe(forms: Sequence[Form], files: dict[str, FileEntry]) -> Manifest:
    """Returns the manifest of an artifact."""
    return Manifest(
        schema_version=1,
        name="n",
        created=datetime.now(UTC),
        signature=SIGNATURE.to_dict(),
        labels=(),
        recommended=forms[0].name,
        max_drop=0.0,
        variants=tuple(_describe_form(form) for form in forms),
        lineage=Lineage(parent_version=None, code_version="0", packages={}, machine=""),
        files=files,
    )


def _describe_form(form: Form) -> Variant:
    measured = make_measurement(
        form.score, validation_score=None, max_abs_diff=form.max_abs_diff, latency_batch1_ms=form.latency_ms
    )
    return Variant(name=form.name, file=form.file if form.is_kept else None, verdict=form.verdict, measured=measured)


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
