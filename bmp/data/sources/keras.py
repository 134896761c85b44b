"""The sets that Keras downloads once and keeps."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt

from bmp.data.source import Source, Target
from bmp.data.sources.memory import ArraySource, Stacked
from bmp.errors import DataError
from bmp.transforms import Field

_LABELS = {
    "fashion_mnist": (
        "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "imdb": ("negative", "positive"),
}  # fmt: skip
_CLASSES = {"mnist": 10, "cifar100": 100, "reuters": 46}
_TEXTS = ("imdb", "reuters")
_SILENCE_S = 15


def load_keras(
    *,
    name: Literal["mnist", "fashion_mnist", "cifar10", "cifar100", "imdb", "reuters"],
    words: PositiveInt = 10_000,
    length: PositiveInt = 200,
) -> Source:
    """Loads a set of `keras.datasets`, with its own training and test split.

    Args:
        name: Images `(28, 28)` or `(32, 32, 3)` with pixels 0 to 255; `imdb` and `reuters` are tokens of words.
        words: Of imdb and reuters: how many of the most frequent words have a token of their own.
        length: Of imdb and reuters: tokens of an example; of longer texts the end is kept, shorter ones begin with 0.

    Keras keeps its downloads in `~/.keras`, or where KERAS_HOME says.

    Raises:
        DataError: The set is not there and cannot be downloaded.
    """
    (x_train, y_train), (x_test, y_test) = _load(name, {"num_words": words} if name in _TEXTS else {})
    if name in _TEXTS:
        field_name = "tokens"
        field = Field(field_name, "tensor", "int32", (length,), words)
        x_train, x_test = _pad(x_train, length), _pad(x_test, length)
    else:
        field_name = "image"
        field = Field(field_name, "tensor", "float32", x_train.shape[1:])
    targets = np.concatenate([y_train, y_test]).reshape(-1).astype(np.int64)  # CIFAR's have a second axis
    labels = _LABELS.get(name) or tuple(map(str, range(_CLASSES[name])))
    return ArraySource(
        {field_name: Stacked([x_train, x_test], field_name)},
        (field,),
        targets,
        Target("class", labels),
        given={"train": np.arange(len(x_train)), "test": np.arange(len(x_train), len(targets))},
        where=f"keras {name}, example {{}}".format,
    )


def _load(name: str, arguments: dict[str, Any]) -> Any:
    import tf_keras as keras

    home = os.environ.get("KERAS_HOME")
    try:
        with _patience():
            return getattr(keras.datasets, name).load_data(cache_dir=home, **arguments)
    except Exception as error:  # Keras raises plain Exception where a download fails
        place = home or os.path.join("~", ".keras")  # noqa: PTH118  (a text for people)
        raise DataError(
            f"The set '{name}' is not in {place} and cannot be downloaded ({' '.join(str(error).split())}). Run once "
            "with access to the internet, or copy that folder from a machine that has it.",
            expected=f"{name} in {place}",
            received=type(error).__name__,
        ) from error


@contextmanager
def _patience() -> Iterator[None]:
    """A server that says nothing is given up after some seconds; Keras itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _pad(sequences: Any, length: int) -> np.ndarray:
    """Returns tokens, int32 `(N, length)`; zeros stand before shorter texts."""
    tokens = np.zeros((len(sequences), length), np.int32)
    for row, sequence in zip(tokens, sequences, strict=True):
        end = sequence[-length:]
        row[length - len(end) :] = end
    return tokens
