"""`.keras`: architecture and weights in a zip archive, the format Keras 2 (tf_keras) itself writes by that name.

metadata.json      which Keras wrote it
config.json        the architecture
model.weights.h5   the weights, HDF5
"""

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from bmp.artifact.guard import list_own_layers, rebuild_model
from bmp.artifact.h5 import KerasRunner, check_functional, compress_h5, without_remarks
from bmp.signature import Signature

if TYPE_CHECKING:
    import tf_keras as keras

_CONFIG, _WEIGHTS = "config.json", "model.weights.h5"
_OF_TRAINING = ("optimizer", "metrics")
"""Groups of the weights that are no part of the model."""


def write_keras_zip(model: "keras.Model", signature: Signature, path: Path) -> None:
    """Saves a Keras model without its optimizer, the weights gzip-compressed and byte-shuffled.

    Args:
        model: A functional or sequential model.
        signature: Of the model; the file carries the model's own.
        path: The file to write.

    Raises:
        ExportError: The model is subclassed: its architecture is code, which a file of weights cannot hold.
    """
    check_functional(model, ".keras")
    with tempfile.TemporaryDirectory() as directory:
        plain = Path(directory) / "plain.keras"  # Keras insists on the suffix
        with without_remarks():
            model.save(plain, save_format="keras")
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as target:
            _copy_members(source, target)


def _copy_members(source: zipfile.ZipFile, target: zipfile.ZipFile) -> None:
    rewrites = {_CONFIG: _forget_training, _WEIGHTS: _pack_weights}
    for member in source.infolist():
        content = source.read(member)
        if member.filename in rewrites:
            content = rewrites[member.filename](content)
        # The weights are compressed inside.
        kind = zipfile.ZIP_STORED if member.filename == _WEIGHTS else zipfile.ZIP_DEFLATED
        target.writestr(member.filename, content, kind)


def _forget_training(config: bytes) -> bytes:
    return json.dumps({**json.loads(config), "compile_config": None}).encode()


def _pack_weights(weights: bytes) -> bytes:
    packed = io.BytesIO()
    compress_h5(io.BytesIO(weights), packed, leave_out=_OF_TRAINING)
    return packed.getvalue()


class KerasZipRunner(KerasRunner):
    """Runs a `.keras` file with Keras; nothing in it can run code.

    Raises:
        ArtifactError: It is damaged, or holds what is not allowed.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        super().__init__(rebuild_model(path, own=list_own_layers()), signature)
