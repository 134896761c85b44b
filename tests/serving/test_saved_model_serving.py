"""SavedModels in serving: a graph is a program, so it is looked into first; and versions of them come and go as any."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numbered_models import QUESTION, Form, describe, eventually

from bmp.artifact.manifest import Imported, digest_files, write_manifest
from bmp.artifact.samples import Samples, write_samples
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.registry import Registry
from serving.app import create_app
from serving.models.terms import Terms
from serving.service import Service
from serving.settings import Settings

MOVES = 8
VOUCHED = Imported(
    format="saved_model",
    file="model",
    sha256="0" * 64,
    size_bytes=1,
    engine="TensorFlow",
    trusted=True,
    confined=True,
    samples="none",
    differences={},
)


class Number(tf.Module):
    """Answers with one number; where it is given a file, it writes that as well."""

    def __init__(self, answer: float, target: Path | None = None) -> None:
        super().__init__()
        self.weight = tf.Variable(tf.fill((2, 1), answer))
        self.target = target

    @tf.function(input_signature=[tf.TensorSpec((None, 2), name="x")], autograph=False)
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        writes = [] if self.target is None else [tf.io.write_file(str(self.target), "written")]
        with tf.control_dependencies(writes):
            return {"y": tf.ones_like(x) @ self.weight / 2}


def publish(registry: Registry, module: Number, imported: Imported | None = None) -> None:
    """Publishes a version that the SavedModel engine serves."""
    directory = registry.root.parent / f"artifact-{time.monotonic_ns()}"
    tf.saved_model.save(module, str(directory), signatures=module.serve)
    (directory / "bmp").mkdir()
    inputs = {"x": np.zeros((3, 2), np.float32)}
    write_samples(Samples(inputs, {"y": np.full((3, 1), module.weight.numpy()[0], np.float32)}, None), directory)
    manifest = describe([Form("float32", 0, verdict="recommended: the only one")], digest_files(directory))
    variants = (manifest.variants[0].model_copy(update={"file": SAVED_MODEL_FILE}),)
    lineage = manifest.lineage.model_copy(update={"imported": imported})
    write_manifest(manifest.model_copy(update={"variants": variants, "lineage": lineage}), directory)
    registry.publish(directory, "n")


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


# === What is let in ===


@pytest.mark.parametrize("imported", [None, VOUCHED])
def test_a_graph_that_writes_files_is_refused_whatever_its_manifest_says(
    registry: Registry, tmp_path: Path, imported: Imported | None, caplog: pytest.LogCaptureFixture
) -> None:
    publish(registry, Number(1.0, tmp_path / "written"), imported)
    app = create_app(Settings(registry=registry.root))
    eventually(app.is_started)
    assert app.test_client().get("/models").json["failed"] == {"n": "unsafe_model"}
    assert "the operation 'WriteFile', which reaches a file" in caplog.text and "name it in BMP_TRUST" in caplog.text
    assert not (tmp_path / "written").exists()
    app.service.stop()


@pytest.mark.parametrize(("trust", "is_served"), [("n", True), ("m", False)])
def test_the_operator_may_vouch_for_a_model(registry: Registry, tmp_path: Path, trust: str, is_served: bool) -> None:
    publish(registry, Number(1.0, tmp_path / "written"))
    service = Service(registry, terms=Terms.of(Settings(trust=trust)))
    service.load()
    assert (service.failures() == {}) == is_served == (tmp_path / "written").exists()


def test_what_bmp_writes_is_let_in(registry: Registry) -> None:
    publish(registry, Number(3.0))
    service = Service(registry)
    service.load()
    assert service.get("n").predict(QUESTION)["y"][0, 0] == 3


# === Versions come and go ===


def test_no_request_is_lost_or_answered_by_the_wrong_version(registry: Registry) -> None:
    for answer in (1.0, 2.0, 3.0):
        publish(registry, Number(answer))
    registry.set_alias("n", "production", 1)
    service = Service(registry)
    service.start()
    eventually(service.is_started)
    stop, wrong, counts = threading.Event(), list[str](), [0, 0]
    threads = [threading.Thread(target=_ask, args=(service, stop, wrong, counts, index)) for index in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(MOVES):
            _move(registry, service, (2, 3, 1)[turn % 3], counts)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        service.stop()
    assert wrong == [] and min(counts) > MOVES
    assert [state.number for state in service.versions("n")] == [service.get().version]


def _ask(service: Service, stop: threading.Event, wrong: list[str], counts: list[int], index: int) -> None:
    """Asks all the time; each version answers with its own number."""
    while not stop.is_set():
        try:
            model = service.get()
            answer = float(model.predict(QUESTION)["y"][0, 0])
            if answer != model.version:
                wrong.append(f"version {model.version} answered {answer}")
        except Exception as error:
            wrong.append(repr(error))
        counts[index] += 1
        time.sleep(0.001)


def _move(registry: Registry, service: Service, version: int, counts: Sequence[int]) -> None:
    registry.set_alias("n", "production", version)
    eventually(lambda: service.get().version == version)
    before = list(counts)
    eventually(lambda: all(now > count for now, count in zip(counts, before, strict=True)))
