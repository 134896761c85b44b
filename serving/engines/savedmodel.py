"""The SavedModel engine, for what LiteRT cannot convert: TensorFlow is imported when a model needs it, not before."""

import gc
import logging
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from bmp.artifact.manifest import Manifest, check_file
from bmp.artifact.saved_model import SAVED_MODEL_FILE, SavedModelRunner
from bmp.errors import ArtifactError, ConfigError, UnsafeError
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

    max_sizes = None
    """Any batch size is as good as another."""

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

    def keep(self, sizes: Collection[int]) -> None:
        """Does nothing: nothing is set up for a batch size."""


def check_saved_model(directory: Path, manifest: Manifest, *, trust: bool = False) -> Path:
    """Returns the path of an artifact's `saved_model.pb` after checking every file that TensorFlow reads with it.

    A graph is a program, and whoever published it wrote the manifest as well: what that says of trust counts for
    nothing here. Only operations that compute are let in, unless the operator vouches for the model.

    Args:
        directory: Of the artifact.
        manifest: Of the artifact.
        trust: Whether the operator vouches for it: then its graph is not looked into.

    Raises:
        ArtifactError: One of them is missing, altered or not listed in the manifest.
        UnsafeError: Loading it could do harm.
        ConfigError: TensorFlow is not installed, and it takes that to look.
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
    path = check_file(directory, manifest, SAVED_MODEL_FILE)
    if not trust:
        _check_graph(directory)
    return path


def _check_graph(directory: Path) -> None:
    _prepare_tensorflow()
    from bmp.artifact.guard import saved_model as guard

    try:
        guard.check_saved_model(directory)
    except UnsafeError as error:
        raise UnsafeError(
            f"{error.message} If you vouch for what this model does, name it in BMP_TRUST.",
            expected=error.expected,
            received=error.received,
        ) from error


def _prepare_tensorflow(threads: int = 1) -> None:
    """Imports TensorFlow and bounds it; a process that had it before has set it up its own way."""
    is_ours = "tensorflow" not in sys.modules
    if is_ours:
        # oneDNN's allocator never gives back what a dropped model had. Without it MobileNetV2 took 2.4 ms for 3.0 for
        # one example, and 12.4 for 10.2 for eight.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
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
        gc.collect()
        gc.freeze()  # what is here to stay is not looked through again each time that a model is dropped
        _log.info("TensorFlow %s runs on the CPU with %d thread(s)", tf.__version__, threads)
