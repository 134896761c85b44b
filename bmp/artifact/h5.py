"""HDF5: architecture and weights in one file that `keras.models.load_model` reads."""

import logging
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bmp.artifact.guard import list_own_layers, rebuild_model
from bmp.artifact.saved_model import call_by_name
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
    check_functional(model, ".h5")
    plain = path.with_suffix(".plain.h5")
    try:
        with warnings.catch_warnings(), without_remarks():  # Keras calls the format legacy; people's tools read it
            warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
            model.save(plain, save_format="h5", include_optimizer=False)
        compress_h5(plain, path)
    finally:
        plain.unlink(missing_ok=True)


def check_functional(model: "keras.Model", suffix: str) -> None:
    """Checks that the architecture of a model is data, so that a file of its own can hold it.

    Raises:
        ExportError: The model is subclassed.
    """
    if not model._is_graph_network:
        raise ExportError(
            f"The model '{model.name}' is a subclass of keras.Model with a call of its own, which {suffix} cannot "
            "hold; it is written as SavedModel and LiteRT. A functional or sequential model can be written as "
            f"{suffix} as well."
        )


@contextmanager
def without_remarks() -> Iterator[None]:
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
    """Reads a file that `write_h5` wrote: the description as data, layers from a closed table, weights as arrays.

    Layers of the user's own are built if this process has imported the file that registers them.

    Raises:
        ArtifactError: The file is damaged or does not fit itself.
        UnsafeError: It names a layer, or holds something, that no file of bmp's does.
    """
    return rebuild_model(path, own=list_own_layers())


def compress_h5(source: Path | BinaryIO, target: Path | BinaryIO, *, leave_out: Collection[str] = ()) -> None:
    """Copies an HDF5 file, every dataset of some size gzip-compressed and byte-shuffled.

    Args:
        source: To copy.
        target: To write.
        leave_out: Names of groups at the top that are not copied.
    """
    import h5py

    # The file structures of HDF5 1.8 to 1.10 are a good deal smaller than the default, those of 1.6.
    with h5py.File(source) as plain, h5py.File(target, "w", libver=("v108", "v110")) as packed:
        _copy_compressed(plain, packed, leave_out)


def _copy_compressed(source: "h5py.Group", target: "h5py.Group", leave_out: Collection[str] = ()) -> None:
    import h5py

    target.attrs.update(source.attrs)
    for name, item in source.items():
        if name in leave_out:
            continue
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
        outputs = call_by_name(self.model, self.signature, dict(arrays))
        return {name: np.asarray(tensor) for name, tensor in outputs.items()}


class H5Runner(KerasRunner):
    """Runs an `.h5` file with Keras; see `read_h5`."""

    def __init__(self, path: Path, signature: Signature) -> None:
        super().__init__(read_h5(path), signature)
