"""HDF5: architecture and weights in one file that `keras.models.load_model` reads."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.errors import ExportError
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import h5py
    import tf_keras as keras


_MIN_PACKED_BYTES = 1024
"""Below this the index of a compressed dataset takes more than compression saves."""


def write_h5(model: "keras.Model", signature: Signature, path: Path) -> None:
    """Saves a Keras model without its optimizer, every weight gzip-compressed and byte-shuffled.

    Args:
        model: A functional or sequential model.
        signature: Of the model; the file carries the model's own.
        path: The file to write.

    Raises:
        ExportError: The model is subclassed: its architecture is code, which a file of weights cannot hold.
    """
    import h5py

    if not model._is_graph_network:
        raise ExportError(
            f"The model '{model.name}' is a subclass of keras.Model with a call of its own, which .h5 cannot hold; it "
            "is written as SavedModel and LiteRT. A functional or sequential model can be written as .h5 as well."
        )

    plain = path.with_suffix(".plain.h5")
    try:
        with warnings.catch_warnings(), _without_remarks():  # Keras calls the format legacy; people's tools read it
            warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
            model.save(plain, save_format="h5", include_optimizer=False)
        # The file structures of HDF5 1.8 to 1.10 are a good deal smaller than the default, those of 1.6.
        with h5py.File(plain) as source, h5py.File(path, "w", libver=("v108", "v110")) as target:
            _copy_compressed(source, target)
    finally:
        plain.unlink(missing_ok=True)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keeps Keras from telling people who save a model that was not compiled that it has no metrics."""
    logger = logging.getLogger("tensorflow")

    def is_news(record: logging.LogRecord) -> bool:
        return "compiled metrics have yet to be built" not in record.getMessage()

    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)


def read_h5(path: Path) -> "keras.Model":
    """Reads a file that `write_h5` wrote. For files of one's own only: loading one may run code it holds."""
    import tf_keras as keras

    import bmp.models.layers  # noqa: F401 - registers bmp's own layers

    model: keras.Model = keras.models.load_model(path, compile=False)
    return model


def _copy_compressed(source: "h5py.Group", target: "h5py.Group") -> None:
    import h5py

    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_compressed(item, target.create_group(name))
            continue
        options: dict[str, Any] = {}
        if item.nbytes >= _MIN_PACKED_BYTES:  # one chunk: a network is read whole
            options = {"compression": "gzip", "compression_opts": 9, "shuffle": True, "chunks": item.shape}
        copy = target.create_dataset(name, data=item[()], **options)
        copy.attrs.update(item.attrs)


class KerasRunner:
    """Runs a Keras model in memory, with names instead of positions."""

    def __init__(self, model: "keras.Model", signature: Signature) -> None:
        self.signature = signature
        self.model = model

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        given = dict(arrays) if len(arrays) > 1 else next(iter(arrays.values()))
        outputs = self.model(given, training=False)
        named = outputs if isinstance(outputs, dict) else {self.signature.outputs[0].name: outputs}
        return {name: np.asarray(tensor) for name, tensor in named.items()}


class H5Runner(KerasRunner):
    """Runs an `.h5` file with Keras. For files of one's own only: loading one may run code it holds."""

    def __init__(self, path: Path, signature: Signature) -> None:
        super().__init__(read_h5(path), signature)
