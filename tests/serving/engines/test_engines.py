"""Every engine: right answers from many threads at once, over many batch sizes."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmp.artifact.formats import FORMATS
from bmp.errors import ArtifactError, ConfigError
from bmp.run import Run
from bmp.signature import Signature, TensorSpec
from serving.batching import Plan, Policy, Together, Work
from serving.engines import ENGINES, Engine, engine_for

FILES = {"litert": "model.tflite", "savedmodel": "saved_model.pb"}
"""What each engine loads."""


def load(run: Run, name: str, signature: Signature | None = None) -> Engine:
    return ENGINES[name](run.version.path / FILES[name], signature or run.data.signature)


@pytest.fixture(scope="module")
def images(quick_run: Run) -> np.ndarray:
    return quick_run.data.test.load().inputs["image"]  # (N, 8, 8)


def test_every_engine_has_its_file() -> None:
    assert {engine_for(file): file for file in FILES.values()} == FILES
    assert set(FILES) == set(ENGINES)
    assert engine_for("variants/int8.tflite") == "litert"
    with pytest.raises(ArtifactError, match=r"No engine runs 'model\.h5'"):
        engine_for("model.h5")


@pytest.mark.parametrize("name", ENGINES)
def test_threads_and_batch_sizes_do_not_mix_answers(quick_run: Run, images: np.ndarray, name: str) -> None:
    kind = FORMATS["saved_model" if name == "savedmodel" else name]
    runner = kind.load(quick_run.version.path / kind.path, quick_run.data.signature)
    expected = runner.run({"image": images})["probabilities"]
    engine = load(quick_run, name)
    engine.warm_up({"image": images[:4]})

    def ask(seed: int) -> bool:
        random = np.random.default_rng(seed)
        for _ in range(50):
            start, size = random.integers(0, 200), random.integers(1, 9)
            answer = engine.run({"image": images[start : start + size]})["probabilities"]
            if not np.allclose(answer, expected[start : start + size], atol=1e-6):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "change",
    [
        {"inputs": (TensorSpec("picture", "float32", (8, 8)),)},
        {"inputs": (TensorSpec("image", "int32", (8, 8)),)},
        {"inputs": (TensorSpec("image", "float32", (8, 9)),)},
        {"outputs": (TensorSpec("scores", "float32", (10,)),)},
        {"outputs": (TensorSpec("probabilities", "float32", (11,)),)},
    ],
    ids=["input name", "input dtype", "input shape", "output name", "output shape"],
)
def test_a_file_of_another_signature_is_refused(quick_run: Run, name: str, change: dict[str, Any]) -> None:
    signature = replace(quick_run.data.signature, **change)
    samples = {spec.name: np.ones((3, *spec.shape), spec.dtype) for spec in signature.inputs}
    with pytest.raises(ArtifactError, match="not those of the signature"):
        load(quick_run, name, signature).warm_up(samples)


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_no_model_is_refused(quick_run: Run, name: str, tmp_path: Path) -> None:
    (tmp_path / FILES[name]).write_bytes(b"nothing")
    with pytest.raises(ArtifactError):
        ENGINES[name](tmp_path / FILES[name], quick_run.data.signature)


def test_without_tensorflow_the_savedmodel_engine_says_what_to_install(
    quick_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it fails as if it were not there
    with pytest.raises(ConfigError, match=r"needs TensorFlow.*pip install"):
        load(quick_run, "savedmodel")


@pytest.mark.parametrize("name", ENGINES)
def test_requests_of_all_sizes_together_as_alone(quick_run: Run, images: np.ndarray, name: str) -> None:
    engine, table = load(quick_run, name), {1: 1.0, 4: 1.2, 8: 2.0}
    plan = Plan(table, 8, () if engine.max_sizes is None else (1, 4, 8))
    together = Together("digits", 1, quick_run.data.signature, engine, plan, Policy())
    ends = np.random.default_rng(3).integers(1, 6, 60).cumsum().tolist()
    works = [Work({"image": images[start:end]}) for start, end in pairwise([0, *ends])]
    together.run(works)
    alone = [engine.run({"image": images[row : row + 1]})["probabilities"] for row in range(ends[-1])]
    found = [work.result()["probabilities"] for work in works]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_let_go_of_can_be_asked_again(quick_run: Run, images: np.ndarray, name: str) -> None:
    engine = load(quick_run, name)
    before = {size: engine.run({"image": images[:size]})["probabilities"] for size in (1, 2, 3)}
    engine.keep((2,))
    for size, expected in before.items():
        np.testing.assert_array_equal(engine.run({"image": images[:size]})["probabilities"], expected)


THREADS = """
import sys
from pathlib import Path
from typing import Any
from bmp.artifact.manifest import read_manifest
from serving.engines import ENGINES
directory = Path(sys.argv[1])
assert "tensorflow" not in sys.modules
ENGINES["savedmodel"](directory / "saved_model.pb", read_manifest(directory).parsed_signature(), threads=2)
import tensorflow as tf
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads())
"""


def test_tensorflow_is_bounded_where_the_engine_brings_it_in(quick_run: Run) -> None:
    command = [sys.executable, "-c", THREADS, str(quick_run.version.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "2"]
