"""The contract of every format: what is read back does what the Keras model does."""

import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.formats import FORMATS
from bmp.artifact.h5 import KerasRunner
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (10,)),))
ARGS = {
    "mlp": {"hidden": [16], "scale": 0.0625},
    "cnn": {"filters": [4, 8], "dense": [16], "scale": 0.0625, "dropout": 0.2},
}


def make_batch(size):
    return {"image": np.random.default_rng(size).uniform(0, 16, (size, 8, 8)).astype(np.float32)}


@pytest.fixture(scope="module", params=ARGS)
def model(request):
    keras.utils.set_random_seed(0)
    return MODELS.bind(request.param, ARGS[request.param])(SIGNATURE)


@pytest.fixture(scope="module", params=FORMATS)
def written(request, model, tmp_path_factory):
    file_format, path = FORMATS[request.param], tmp_path_factory.mktemp("format") / FORMATS[request.param].path
    file_format.write(model, SIGNATURE, path)
    return file_format, path


def test_answers_like_the_model_at_any_batch_size_in_turn(written, model):
    file_format, path = written
    runner, original = file_format.load(path, SIGNATURE), KerasRunner(model, SIGNATURE)
    for size in (1, 7, 32, 7, 1, 32, 1):
        outputs = runner.run(make_batch(size))
        assert list(outputs) == ["probabilities"]
        assert (outputs["probabilities"].shape, outputs["probabilities"].dtype) == ((size, 10), np.float32)
        np.testing.assert_allclose(
            outputs["probabilities"], original.run(make_batch(size))["probabilities"], atol=1e-4, rtol=0
        )


def test_answers_belong_to_the_caller(written):
    file_format, path = written
    runner = file_format.load(path, SIGNATURE)
    first = runner.run(make_batch(3))["probabilities"]
    kept = first.copy()
    runner.run({"image": make_batch(3)["image"] + 1})
    np.testing.assert_array_equal(first, kept)


def test_writes_only_what_it_keeps(written):
    file_format, path = written
    directory = path if file_format.path == "." else path.parent
    known = {file_format.path, "saved_model.pb", "variables", "assets", "fingerprint.pb"}
    assert {entry.name for entry in directory.iterdir()} <= known
