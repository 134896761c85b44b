"""HDF5: architecture and weights in one file that `keras.models.load_model` reads."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import h5py
    import tf_keras as keras


def write_h5(model: "keras.Model", signature: Signature, path: Path) -> None:
    """Saves a Keras model without its optimizer, every weight gzip-compressed and byte-shuffled.

    Args:
        model: A functional or sequential model.
        signature: Of the model; the file carries the model's own.
        path: The file to write.
    """
    import h5py

    plain = path.with_suffix(".plain.h5")
    with warnings.catch_warnings():  # Keras calls the format legacy; people's tools read it
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        model.save(plain, save_format="h5", include_optimizer=False)
    with h5py.File(plain) as source, h5py.File(path, "w") as target:
        _copy_compressed(source, target)
    plain.unlink()


def _copy_compressed(source: "h5py.Group", target: "h5py.Group") -> None:
    import h5py

    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_compressed(item, target.create_group(name, track_order=False))
            continue
        packed = item.ndim > 0 and item.size > 0
        options = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if packed else {}
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
        import tf_keras as keras

        super().__init__(keras.models.load_model(path, compile=False), signature)
