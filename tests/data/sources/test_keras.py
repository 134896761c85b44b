import socket
import urllib.error

import numpy as np
import pytest

from bmp.data import SOURCES
from bmp.data.sources import keras as module
from bmp.errors import DataError


@pytest.fixture
def offline(monkeypatch, tmp_path):
    from tf_keras.src.utils import data_utils

    waits = []

    def fail(*arguments):
        waits.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(data_utils, "urlretrieve", fail)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return waits


@pytest.mark.parametrize("name", ["mnist", "cifar10", "imdb"])
def test_without_a_network_one_sentence_says_what_to_do(offline, name, tmp_path):
    before = socket.getdefaulttimeout()
    with pytest.raises(DataError) as caught:
        SOURCES.bind("keras", {"name": name})()
    message = str(caught.value)
    assert message.startswith(f"The set '{name}' is not in {tmp_path} and cannot be downloaded (URL fetch failure on")
    assert message.endswith("copy that folder from a machine that has it.") and "\n" not in message
    assert offline == [module._SILENCE_S] and socket.getdefaulttimeout() == before


def test_texts_are_padded_and_cut_to_one_length(monkeypatch):
    import tf_keras as keras

    def load_data(cache_dir, num_words):
        assert num_words == 50
        return ([[1, 2, 3], [4, 5, 6, 7, 8, 9]], np.array([0, 1])), ([[1]], np.array([1]))

    monkeypatch.setattr(keras.datasets.imdb, "load_data", load_data)
    source = SOURCES.bind("keras", {"name": "imdb", "words": 50, "length": 4})()
    assert source.read(np.arange(3))["tokens"].tolist() == [[0, 1, 2, 3], [6, 7, 8, 9], [0, 0, 0, 1]]
    assert source.fields[0].vocabulary == 50 and source.target.labels == ("negative", "positive")
    assert {name: index.tolist() for name, index in source.given.items()} == {"train": [0, 1], "test": [2]}


def test_targets_of_a_second_axis_are_flattened(monkeypatch):
    import tf_keras as keras

    images = np.zeros((3, 32, 32, 3), np.uint8)
    monkeypatch.setattr(
        keras.datasets.cifar10,
        "load_data",
        lambda cache_dir: ((images, np.array([[1], [2], [0]])), (images[:1], np.array([[9]]))),
    )
    source = SOURCES.bind("keras", {"name": "cifar10"})()
    assert source.read_targets(np.arange(4)).tolist() == [1, 2, 0, 9]
    assert source.fields[0].shape == (32, 32, 3) and source.target.labels[9] == "truck"
