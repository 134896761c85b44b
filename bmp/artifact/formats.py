"""FORMATS: the ways a model is written, and the engine that runs what was written."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from bmp.artifact.h5 import H5Runner, write_h5
from bmp.artifact.keras_zip import KerasZipRunner, write_keras_zip
from bmp.artifact.litert import LiteRTRunner, write_litert
from bmp.artifact.onnx import OnnxRunner, write_onnx
from bmp.artifact.saved_model import SavedModelRunner, write_saved_model
from bmp.catalog import Catalog
from bmp.signature import Arrays, Signature


class Runner(Protocol):
    """A model that has been read back from its file."""

    signature: Signature

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        ...


@dataclass(frozen=True)
class Format:
    """One way to write a model.

    Args:
        path: Where it stands in an artifact that holds it; `.` for files that stand at its top.
        write: `(model, signature, path)`.
        load: `(path, signature)` to a runner.
    """

    path: str
    write: Callable[..., None]
    load: Callable[[Path, Signature], Runner]


FORMATS = Catalog(
    "format",
    {
        "saved_model": Format(".", write_saved_model, SavedModelRunner),
        "h5": Format("model.h5", write_h5, H5Runner),
        "keras": Format("model.keras", write_keras_zip, KerasZipRunner),
        "onnx": Format("model.onnx", write_onnx, OnnxRunner),
        "litert": Format("model.tflite", write_litert, LiteRTRunner),
    },
)
