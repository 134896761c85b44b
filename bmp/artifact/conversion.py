"""Conversion: a Keras model to the bytes of a `.tflite` file. Imports TensorFlow; `litert` calls it."""

import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.lite.python.convert import mlir_quantize

from bmp.artifact.graph import Graph, read_graph
from bmp.artifact.litert import FLOAT32, SIGNATURE_KEY, Storage, layer_names
from bmp.artifact.saved_model import write_saved_model
from bmp.errors import ExportError, suggest
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras

_WRONG_IN_INT8 = ("MAXIMUM", "MINIMUM")
"""Operations that the converter makes int8 without bringing both inputs to one scale: they stay float32."""

_RIGHT_IN_INT16 = (
    "ABS ADD AVERAGE_POOL_2D BATCH_MATMUL CAST CONCATENATION CONV_2D CONV_3D DEPTHWISE_CONV_2D DIV ELU EXP "
    "EXPAND_DIMS FILL FULLY_CONNECTED GATHER GELU L2_NORMALIZATION LEAKY_RELU LOG LOGISTIC MAXIMUM MAX_POOL_2D MEAN "
    "MINIMUM MUL PACK PAD PRELU REDUCE_MAX RELU RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SHAPE "
    "SOFTMAX SPLIT SPLIT_V SQRT STRIDED_SLICE SUB TANH TILE TRANSPOSE TRANSPOSE_CONV UNPACK"
)
"""With any other operation the converter of int16x8 gives a file that is wrong or does not run, or ends the process."""


def calibrate(model: "keras.Model", signature: Signature, calibration: Arrays) -> bytes:
    """Returns the float32 file with the range of every activation in it; see `litert.write_litert`.

    Raises:
        ExportError: An operation of the model has no LiteRT form.
    """
    return convert(model, signature, Storage("int8"), calibration, is_last=False)


def quantize(calibrated: bytes, storage: Storage, model: "keras.Model", *, compares: bool = False) -> bytes:
    """Returns the int8 file, in which `storage.float_layers` compute in float32.

    Args:
        calibrated: What `calibrate` returns.
        storage: Of kind `int8`.
        model: Whose layers they are.
        compares: Whether each int8 operation is followed by one, `NumericVerify`, that subtracts what float32 gives for
            the same inputs; for finding where errors come from.

    Raises:
        ExportError: There is no such layer, or nothing in the file comes from it.
    """
    graph = read_graph(calibrated)
    wrong = [graph.tensors[step.outputs[0]].name for step in graph.operators if step.name in _WRONG_IN_INT8]
    io_type = tf.int8 if storage.integer_io else tf.float32
    content: bytes = mlir_quantize(
        calibrated,
        disable_per_channel=not storage.per_channel,
        disable_per_channel_for_dense_layers=not storage.per_channel,
        input_data_type=io_type,
        output_data_type=io_type,
        enable_numeric_verify=compares,
        denylisted_nodes=[*wrong, *_find_operations(graph, storage.float_layers, layer_names(model))],
    )
    return content


def check_int16(model: "keras.Model", signature: Signature) -> None:
    """Checks that LiteRT can hold a model as int16x8; its converter would not always say so.

    Raises:
        ExportError: An operation has no such form.
    """
    names = {operator.name for operator in read_graph(convert(model, signature, FLOAT32)).operators}
    wrong = sorted(names.difference(_RIGHT_IN_INT16.split()))
    if wrong:
        raise ExportError(
            f"LiteRT has no sound int16x8 form of {', '.join(wrong)}, which the model '{model.name}' needs; store it "
            "as int8 or dynamic.",
            expected="int8 or dynamic",
            received="int16x8",
        )


def convert(
    model: "keras.Model",
    signature: Signature,
    storage: Storage,
    calibration: Arrays | None = None,
    *,
    is_last: bool = True,
) -> bytes:
    """Runs LiteRT's converter; where this is not the last step, it stops when it knows all ranges.

    Raises:
        ExportError: An operation of the model has no LiteRT form.
    """
    with tempfile.TemporaryDirectory() as directory:  # through a SavedModel: it carries the signature's names
        write_saved_model(model, signature, Path(directory))
        converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=[SIGNATURE_KEY])
        _set_options(converter, storage)
        converter._experimental_calibrate_only = not is_last
        if storage.is_calibrated and calibration is not None:
            converter.representative_dataset = lambda: _each_example(calibration)
        try:
            with warnings.catch_warnings():  # the converter's calibrator uses tf.lite.Interpreter, by itself
                warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
                content: bytes = converter.convert()
        except Exception as error:  # the converter raises plain Exception subclasses of its own
            raise ExportError(f"LiteRT cannot convert the model '{model.name}': {_find_reason(error)}.") from error
    return content


def _find_operations(graph: Graph, wanted: Sequence[str], layers: tuple[str, ...]) -> list[str]:
    """Returns the operations that stay float with some layers, as the converter calls them: by names of their outputs.

    What only passes on the numbers of such layers, without weights of its own, stays float as well.
    """
    layers_of = {operator.index: graph.layers_of(operator, layers) for operator in graph.operators}
    known = dict.fromkeys(layer for found in layers_of.values() for layer in found)
    for layer in wanted:
        if layer not in known:
            raise ExportError(
                f"float_layers: no operation of the file comes from a layer '{layer}'; there are "
                f"{', '.join(known)}.{suggest(layer, known)}",
                expected=f"some of {', '.join(known)}",
                received=layer,
            )
    stays: set[int] = set()
    for operator in graph.operators:
        before = {step.index for step in map(graph.producer, operator.inputs) if step is not None}
        passes_on = bool(before) and before <= stays and not any(graph.kernels_of(operator))
        if passes_on or not set(wanted).isdisjoint(layers_of[operator.index]):
            stays.add(operator.index)
    return [graph.tensors[index].name for step in stays for index in graph.operators[step].outputs]


def _set_options(converter: Any, storage: Storage) -> None:
    if storage.kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if storage.kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if storage.kind == "int16x8":
        integer = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [integer, tf.lite.OpsSet.TFLITE_BUILTINS]  # float where it has none
    converter._experimental_disable_per_channel = not storage.per_channel
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not storage.per_channel
    if storage.integer_io:
        converter.inference_input_type = converter.inference_output_type = tf.int8


def _each_example(calibration: Arrays) -> Iterator[tuple[str, Arrays]]:
    for index in range(len(next(iter(calibration.values())))):
        yield SIGNATURE_KEY, {name: array[index : index + 1] for name, array in calibration.items()}


def _find_reason(error: Exception) -> str:
    """Returns which operation has no LiteRT form, as far as the converter's pages say so."""
    text = str(error).strip()
    named = re.search(r"'(tf\.\w+)' op ([^\n]+)", text) or re.search(r"ops?: (\w+)()", text)
    if named:
        return f"the operation {named[1].removeprefix('tf.')} has no LiteRT form: it {named[2]}".removesuffix(
            ": it "
        ).rstrip(".")
    return (text.splitlines() or [type(error).__name__])[0].rstrip(".")
