"""LiteRT: what serving runs. Writing needs TensorFlow, running does not."""

import re
import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.errors import ArtifactError, ExportError
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

SIGNATURE_KEY = "serving_default"
_MAX_PLANS = 4


def write_litert(model: "keras.Model", signature: Signature, path: Path, *, calibration: Arrays | None = None) -> None:
    """Exports a Keras model as a `.tflite` file with a named signature and a free batch dimension.

    Args:
        model: Inputs and outputs named as in the signature.
        signature: Of the model.
        path: The file to write.
        calibration: Inputs `(N, *shape)` by name. When given, weights and activations become int8, with
            ranges taken from these examples; inputs and outputs stay float.

    Raises:
        ExportError: An operation of the model has no LiteRT form.
    """
    import tensorflow as tf

    from bmp.artifact.saved_model import write_saved_model

    with tempfile.TemporaryDirectory() as directory:  # through a SavedModel: it carries the signature's names
        write_saved_model(model, signature, Path(directory))
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=[SIGNATURE_KEY])
        if calibration is not None:
            count = len(next(iter(calibration.values())))
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                (SIGNATURE_KEY, {name: array[index : index + 1] for name, array in calibration.items()})
                for index in range(count)
            )
        try:
            with warnings.catch_warnings():  # the converter's calibrator uses tf.lite.Interpreter, by itself
                warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
                path.write_bytes(converter.convert())
        except Exception as error:  # the converter raises plain Exception subclasses of its own
            raise ExportError(f"LiteRT cannot convert the model '{model.name}': {_find_reason(error)}.") from error


def _find_reason(error: Exception) -> str:
    """Returns which operation has no LiteRT form, as far as the converter's pages say so."""
    text = str(error).strip()
    named = re.search(r"'(tf\.\w+)' op ([^\n]+)", text) or re.search(r"ops?: (\w+)()", text)
    if named:
        return f"the operation {named[1].removeprefix('tf.')} has no LiteRT form: it {named[2]}".removesuffix(
            ": it "
        ).rstrip(".")
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")


class LiteRTRunner:
    """Runs a `.tflite` file; one thread at a time.

    A plan (an interpreter whose tensors are allocated) is kept for the last few batch sizes, because
    allocating costs more than running a small model.

    Args:
        model: The file, or its bytes.
        signature: What it must take and return.
        threads: Threads one run may use.

    Raises:
        ArtifactError: It is no `.tflite` file, or its tensors are not those of the signature.
    """

    def __init__(self, model: Path | bytes, signature: Signature, *, threads: int = 1) -> None:
        self.signature = signature
        self._bytes = model if isinstance(model, bytes) else model.read_bytes()
        self._threads = threads
        self._plans: OrderedDict[tuple[tuple[int, ...], ...], Any] = OrderedDict()  # shapes to interpreter
        interpreter = self._load()
        try:
            runner = interpreter.get_signature_runner(SIGNATURE_KEY)
        except ValueError as error:
            raise ArtifactError(f"The LiteRT file has no signature '{SIGNATURE_KEY}': {error}") from error
        self._inputs = _match("input", runner.get_input_details(), signature.inputs)
        self._outputs = _match("output", runner.get_output_details(), signature.outputs)

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch.

        Args:
            arrays: `(B, *shape)` by input name, as the signature says; not checked here.

        Returns:
            `(B, *shape)` by output name; the arrays are the caller's to keep.
        """
        interpreter = self._plan(arrays)
        for name, index in self._inputs:
            interpreter.set_tensor(index, arrays[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in self._outputs}

    def _plan(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Returns an interpreter allocated for these shapes, the least recently used one giving way."""
        shapes = tuple(arrays[name].shape for name, _ in self._inputs)
        interpreter = self._plans.get(shapes)
        if interpreter is not None:
            self._plans.move_to_end(shapes)
            return interpreter
        interpreter = self._plans.popitem(last=False)[1] if len(self._plans) >= _MAX_PLANS else self._load()
        for (_, index), shape in zip(self._inputs, shapes, strict=True):
            interpreter.resize_tensor_input(index, shape, strict=True)
        interpreter.allocate_tensors()
        self._plans[shapes] = interpreter
        return interpreter

    def _load(self) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            return Interpreter(model_content=self._bytes, num_threads=self._threads)
        except ValueError as error:
            raise ArtifactError(f"Not a LiteRT model: {error}") from error


def read_kernels(path: Path) -> Arrays:
    """Returns the weights of a `.tflite` file that have two or more dimensions, by tensor name.

    Quantized kernels are returned as stored (int8). Biases and constants of shape arithmetic are left out.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without the default delegate: XNNPACK would take the kernels away into its own packed form.
    interpreter = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    kernels = {}
    for detail in interpreter.get_tensor_details():
        if len(detail["shape"]) < 2 or detail["dtype"] not in (np.float32, np.float16, np.int8):
            continue
        try:
            kernels[detail["name"]] = interpreter.get_tensor(detail["index"])
        except ValueError:  # an activation: it has no data before the first run
            continue
    return kernels


def _match(kind: str, details: Mapping[str, Any], specs: Any) -> list[tuple[str, int]]:
    """Pairs the names of a signature with tensor indices, checking that both tell the same story."""
    found = {
        name: (np.dtype(detail["dtype"]).name, *(None if size < 0 else int(size) for size in detail["shape_signature"]))
        for name, detail in details.items()
    }
    wanted = {spec.name: (spec.dtype, None, *spec.shape) for spec in specs}
    if found != wanted:
        raise ArtifactError(
            f"The LiteRT file's {kind}s are not those of the signature.",
            expected=str(wanted),
            received=str(found),
        )
    return [(spec.name, details[spec.name]["index"]) for spec in specs]
