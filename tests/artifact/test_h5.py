import logging

import h5py
import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.h5 import write_h5
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (10,)),))


@pytest.fixture(scope="module")
def model():
    model = MODELS["cnn"](SIGNATURE, filters=[8, 16], dense=[64], scale=0.0625)
    model.compile("adam", "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).uniform(0, 16, (8, 8, 8)).astype(np.float32)
    model.train_on_batch(images, np.arange(8))  # so that there is an optimizer with weights to leave out
    return model


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("h5") / "model.h5"
    write_h5(model, SIGNATURE, path)
    return path


@pytest.fixture
def datasets(path):
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        yield found


def test_keras_reads_it(path, model):
    loaded = keras.models.load_model(path, compile=False)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert len(loaded.get_weights()) == len(model.get_weights()) > 0
    for mine, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_every_big_weight_is_shuffled_and_compressed(datasets, model):
    assert len(datasets) == len(model.get_weights())
    big = [item for item in datasets.values() if item.nbytes > 4096]
    assert len(big) == 2
    assert {(item.compression, item.shuffle) for item in big} == {("gzip", True)}


@pytest.mark.parametrize("smallest_weight", [0, 0.1], ids=["dense", "sparse"])
def test_takes_less_room_than_what_keras_writes(tmp_path, model, smallest_weight):
    thinned = keras.models.clone_model(model)
    thinned.set_weights([weight * (np.abs(weight) >= smallest_weight) for weight in model.get_weights()])
    write_h5(thinned, SIGNATURE, tmp_path / "packed.h5")
    with pytest.warns(UserWarning, match="legacy"):
        thinned.save(tmp_path / "plain.h5", include_optimizer=False)
    assert (tmp_path / "packed.h5").stat().st_size < (tmp_path / "plain.h5").stat().st_size


def test_leaves_the_optimizer_out_and_the_model_as_it_was(path, datasets, model):
    with h5py.File(path) as file:
        assert list(file) == ["model_weights"]
        assert "training_config" not in file.attrs
    assert not [name for name in datasets if "adam" in name.lower() or "optimizer" in name.lower()]
    assert model.optimizer is not None


def test_leaves_no_other_file(path):
    assert [entry.name for entry in path.parent.iterdir()] == ["model.h5"]


def test_a_model_that_was_never_compiled_is_written_without_a_remark(model, tmp_path):
    copy = keras.models.clone_model(model)
    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append
    logger = logging.getLogger("tensorflow")
    logger.addHandler(listener)
    try:
        write_h5(copy, SIGNATURE, tmp_path / "model.h5")
        assert not said
        logger.warning("what others have to say is heard")
        assert len(said) == 1
    finally:
        logger.removeHandler(listener)
