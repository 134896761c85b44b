"""bmp, the Big Model Platform: from a Keras model to a small, proven, served endpoint.

The map of the house, in the order of a run (`bmp/run.py` reads like this list):

    config        a recipe written down: YAML, overrides, one clear sentence for every mistake
    data          SOURCES       where examples come from: checked, split, as records on disk, as batches
    transforms    TRANSFORMS    raw features to model inputs, described as data; the same in training and serving
    objectives    OBJECTIVES    what is learned: output, loss, metrics
    models        MODELS        networks built from a signature, or functions of your own
    distribution  STRATEGIES    which devices and processes take part; the launcher that starts and restarts them
    training      OPTIMIZERS, SCHEDULES, and the trainer around `keras.Model.fit`: steps, checkpoints, exact resume
    artifact      FORMATS       the finished model as a directory: manifest, exported files, proof
    compression   TECHNIQUES    smaller and faster forms: what there is to try, the search, the promise and its proof
    registry      published versions
    runs          the directory of each run, and how it stands
    attempt       one process's part in a run: who else is there, where the traces go, how it ended
    builders      the entries of all these catalogs that a recipe names
    run           the whole flow, one line a stage
    compress      a published version searched for its best compressed form; claims: measured again
    imports       IMPORTERS     models from elsewhere, read in a sandbox, proven, published
    plan          what a training will take, before it starts
    smoke         one prediction by a real server
    doctor        whether everything is here
    cli           the `bmp` command

Below them all: signature, catalog, plugins, storage, durations, names, errors.

Importing bmp selects Keras 2 (`tf_keras`) for this process and loads nothing heavy.
"""

import os
import sys

__version__ = "0.1.0"


def _select_keras_2() -> None:
    """Makes `tf.keras` mean Keras 2, which TF-MOT and multi-worker training need.

    TensorFlow reads the variable at the first use of `tf.keras`, so it has to be set before.

    Raises:
        ImportError: `tf.keras` was already bound to Keras 3 in this process.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow accepts only "1", "true", "True"
    bound = getattr(sys.modules.get("tensorflow"), "__dict__", {}).get("keras")
    keras_version = getattr(bound, "__version__", None)  # Keras 3 has one, the tf.keras of Keras 2 has none
    if callable(keras_version):
        keras_version = keras_version()
    if keras_version is not None and str(keras_version).startswith("3."):
        raise ImportError(
            f"bmp needs Keras 2, but this process already uses Keras {keras_version} as tf.keras. "
            "Import bmp before tensorflow, or set TF_USE_LEGACY_KERAS=1 before starting Python."
        )


_select_keras_2()
