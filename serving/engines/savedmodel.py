"""The SavedModel engine, for what LiteRT cannot convert: TensorFlow is imported when a model needs it, not before."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmp.artifact.manifest import Manifest, check_file
from bmp.artifact.saved_model import SAVED_MODEL_FILE, SavedModelRunner
from bmp.errors import ArtifactError, ConfigError
from bmp.signature import Arrays, Signature

_PARTS = ("variables", "assets", "debug")  # directories that TensorFlow reads beside it
_log = logging.getLogger(__name__)


class SavedModelEngine:
    """Runs the `serving_default` signature of a SavedModel, for any number of threads.

    Args:
        path: Its `saved_model.pb`; the other files stand beside it.
        signature: What it takes and returns.
        threads: Threads that TensorFlow may use, inside an operation and across operations, for all models of the
            process together: the first engine decides.

    Raises:
        ArtifactError: There is no SavedModel, or none of this signature.
        ConfigError: TensorFlow is not installed.
    """

    def __init__(self, path: Path, signature: Signature, *, threads: int = 1) -> None:
        _prepare_tensorflow(threads)
        self._runner = SavedModelRunner(path.parent, signature)
        self._signature = signature

    def warm_up(self, inputs: Arrays) -> None:
        """Runs examples one by one and all together, so that the first request pays for no set-up.

        Raises:
            ArtifactError: The model does not take or return what its signature says.
        """
        import tensorflow as tf

        for size in (1, len(next(iter(inputs.values())))):
            batch = {name: array[:size] for name, array in inputs.items()}
            try:
                outputs = self.run(batch)
            except (TypeError, ValueError, tf.errors.InvalidArgumentError) as error:  # names, shapes, dtypes
                raise ArtifactError("The SavedModel's inputs are not those of the signature.") from error
            found = {name: (array.dtype.name, array.shape) for name, array in outputs.items()}
            wanted = {spec.name: (spec.dtype, (size, *spec.shape)) for spec in self._signature.outputs}
            if found != wanted:
                raise ArtifactError(
                    "The SavedModel's outputs are not those of the signature.",
                    expected=str(wanted),
                    received=str(found),
                )

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        return self._runner.run(inputs)


def check_saved_model(directory: Path, manifest: Manifest) -> Path:
    """Returns the path of an artifact's `saved_model.pb` after checking every file that TensorFlow reads with it.

    Raises:
        ArtifactError: One of them is missing, altered or not listed in the manifest.
    """
    listed = {relative for relative in manifest.files if relative.partition("/")[0] in _PARTS}
    present = {
        path.relative_to(directory).as_posix()
        for part in _PARTS
        for path in (directory / part).rglob("*")
        if not path.is_dir()
    }
    for relative in sorted(listed | present):
        check_file(directory, manifest, relative)
    return check_file(directory, manifest, SAVED_MODEL_FILE)


def _prepare_tensorflow(threads: int) -> None:
    """Imports TensorFlow and bounds it; a process that had it before has set it up its own way."""
    is_ours = "tensorflow" not in sys.modules
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ConfigError(
            "This model is served by the SavedModel engine, which needs TensorFlow, but it is not installed here. "
            "Install it with pip install -r requirements.txt, or publish a variant that LiteRT can run.",
            expected="tensorflow",
            received="not installed",
        ) from error
    if is_ours:
        tf.config.set_visible_devices([], "GPU")  # each worker would take all of its memory
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        _log.info("TensorFlow %s runs on the CPU with %d thread(s)", tf.__version__, threads)
