"""SavedModel: the uncompressed model as TensorFlow Serving loads it, unmodified."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.errors import ArtifactError
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

SIGNATURE_KEY = "serving_default"
SAVED_MODEL_FILE = "saved_model.pb"
_FILES, _DIRECTORIES = (SAVED_MODEL_FILE, "fingerprint.pb"), ("variables/", "assets/", "assets.extra/")


def is_saved_model_file(relative: str) -> bool:
    """Says whether a file of an artifact, by its path there, is part of the SavedModel."""
    return relative in _FILES or relative.startswith(_DIRECTORIES)


def write_saved_model(model: "keras.Model", signature: Signature, directory: Path) -> None:
    """Exports a Keras model with one typed signature, `serving_default`, its tensors named as in `signature`.

    Args:
        model: Inputs and outputs named as in the signature.
        signature: Of the model.
        directory: Gets `saved_model.pb` and `variables/`.
    """
    import tensorflow as tf

    specs = {spec.name: tf.TensorSpec((None, *spec.shape), spec.dtype, spec.name) for spec in signature.inputs}

    @tf.function(input_signature=[specs], autograph=False)
    def serve(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return call_by_name(model, signature, inputs)

    # A plain module: the Keras objects stay out, so loading never rebuilds layers from a config.
    module = tf.Module()
    module.weights = model.weights
    module.serve = serve
    tf.saved_model.save(module, str(directory), signatures={SIGNATURE_KEY: serve.get_concrete_function()})


def call_by_name(model: "keras.Model", signature: Signature, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Calls a model as it is used, with names where Keras has none: for a single input, and a single output."""
    outputs = model(next(iter(inputs.values())) if len(inputs) == 1 else inputs, training=False)
    return outputs if isinstance(outputs, dict) else {signature.outputs[0].name: outputs}


class SavedModelRunner:
    """Runs the `serving_default` signature of a SavedModel directory, without Keras.

    Raises:
        ArtifactError: The directory has no such signature.
    """

    def __init__(self, directory: Path, signature: Signature) -> None:
        import tensorflow as tf

        self.signature = signature
        try:
            self._loaded = tf.saved_model.load(str(directory))  # owns the variables: must outlive the function
        except OSError as error:
            raise ArtifactError(f"There is no SavedModel in {directory}: {error}") from error
        if SIGNATURE_KEY not in self._loaded.signatures:
            raise ArtifactError(f"The SavedModel in {directory} has no signature '{SIGNATURE_KEY}'.")
        self._serve = self._loaded.signatures[SIGNATURE_KEY]

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        import tensorflow as tf

        outputs = self._serve(**{name: tf.constant(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}
