"""ONNX: for runtimes that know neither Keras nor TensorFlow. Written by tf2onnx, run by ONNX Runtime."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.artifact.saved_model import call_by_name
from bmp.errors import ArtifactError, ExportError
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

_OPSET = 18
"""Version of the operators; what runs it is ONNX Runtime 1.14 and later."""


def write_onnx(model: "keras.Model", signature: Signature, path: Path) -> None:
    """Exports a Keras model with a free batch dimension, its tensors named as in `signature`.

    tf2onnx leaves an operation that it does not know in the file as it is; so what it wrote is checked here.

    Args:
        model: Inputs and outputs named as in the signature.
        signature: Of the model.
        path: The file to write.

    Raises:
        ExportError: An operation of the model has no ONNX form.
    """
    import onnx
    import tensorflow as tf
    import tf2onnx

    names = [spec.name for spec in signature.inputs]
    specs = [tf.TensorSpec((None, *spec.shape), spec.dtype, spec.name) for spec in signature.inputs]

    @tf.function(input_signature=specs, autograph=False)
    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        return call_by_name(model, signature, dict(zip(names, tensors, strict=True)))

    with _without_remarks():
        converted, _ = tf2onnx.convert.from_function(
            serve, specs, opset=_OPSET, custom_op_handlers={"Erfc": (_write_erfc, [])}
        )
    try:
        onnx.checker.check_model(converted)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"ONNX cannot hold the model '{model.name}': {_find_reason(error)}.") from error
    path.write_bytes(converted.SerializeToString())


def _write_erfc(graph: Any, node: Any, name: str, args: list[Any]) -> None:
    """Writes erfc(x), of which the exact GELU is made, as 1 - erf(x): tf2onnx knows no form of it."""
    from tf2onnx.utils import map_onnx_to_numpy_type

    (output,) = node.output
    dtype, shape = graph.get_dtype(output), graph.get_shape(output)
    erf = graph.make_node("Erf", node.input, name=f"{name}_erf", shapes=[shape], dtypes=[dtype])
    one = graph.make_const(f"{name}_one", np.ones((), map_onnx_to_numpy_type(dtype)))
    graph.remove_node(name)
    graph.make_node("Sub", [one.output[0], erf.output[0]], name=name, outputs=[output], shapes=[shape], dtypes=[dtype])


def _find_reason(error: Exception) -> str:
    """Returns which operation has no ONNX form, where the checker says so."""
    text = str(error).strip()
    unknown = re.match(r"No Op registered for (\w+)", text)
    if unknown:
        return f"the operation {unknown[1]} has no ONNX form"
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keeps tf2onnx from telling how it goes; what it could not do shows in the file."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class OnnxRunner:
    """Runs an `.onnx` file with ONNX Runtime, without TensorFlow.

    Raises:
        ArtifactError: It is no ONNX model, or its inputs and outputs are not those of the signature.
    """

    def __init__(self, path: Path, signature: Signature) -> None:
        import onnxruntime

        self.signature = signature
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises plain Exception subclasses of its own
            raise ArtifactError(f"{path} is no ONNX model that can be run: {error}") from error
        for found, specs in (
            (self._session.get_inputs(), signature.inputs),
            (self._session.get_outputs(), signature.outputs),
        ):
            names, wanted = sorted(tensor.name for tensor in found), sorted(spec.name for spec in specs)
            if names != wanted:
                raise ArtifactError(
                    f"{path} has other inputs or outputs than the signature.", expected=str(wanted), received=str(names)
                )

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        names = [spec.name for spec in self.signature.outputs]
        return dict(zip(names, self._session.run(names, dict(arrays)), strict=True))
