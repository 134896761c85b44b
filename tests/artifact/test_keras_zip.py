import io
import json
import zipfile

import h5py
import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.keras_zip import write_keras_zip
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (10,)),))


@pytest.fixture(scope="module")
def model():
    model = MODELS["mlp"](SIGNATURE, hidden=[64], scale=0.0625)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    images = np.random.default_rng(0).uniform(0, 16, (8, 8, 8)).astype(np.float32)
    model.train_on_batch(images, np.arange(8))  # so that there is an optimizer with weights to leave out
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("keras_zip") / "model.keras"
    write_keras_zip(model, SIGNATURE, path)
    return path


def read_datasets(path) -> dict[str, h5py.Dataset]:
    found = {}
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (item.size, item.compression)}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_keras_reads_it(path, model):
    loaded = keras.models.load_model(path)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert len(loaded.get_weights()) == len(model.get_weights()) > 0
    for mine, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_holds_what_keras_writes_and_nothing_of_the_training(path, model):
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["config.json", "metadata.json", "model.weights.h5"]
        assert json.loads(archive.read("config.json"))["compile_config"] is None
        assert json.loads(archive.read("metadata.json"))["keras_version"] == keras.__version__
    sizes = [size for size, _ in read_datasets(path).values()]
    assert sorted(sizes) == sorted(weight.size for weight in model.get_weights())
    assert model.optimizer is not None


def test_big_weights_are_compressed(path, model, tmp_path):
    assert {kind for size, kind in read_datasets(path).values() if size > 256} == {"gzip"}
    model.save(tmp_path / "plain.keras")
    assert path.stat().st_size < (tmp_path / "plain.keras").stat().st_size
