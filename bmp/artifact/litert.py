"""LiteRT: what serving runs. Writing needs TensorFlow, running does not."""

import warnings
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bmp.artifact.graph import read_graph
from bmp.errors import ArtifactError, ExportError
from bmp.signature import Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

SIGNATURE_KEY = "serving_default"
MAX_PLANS = 4
"""How many batch sizes a runner is set up for at the same time."""
_LOWEST, _HIGHEST = np.float32(-128), np.float32(127)

Kind = Literal["float32", "float16", "dynamic", "int8", "int16x8"]


@dataclass(frozen=True)
class Storage:
    """How a `.tflite` file stores a network, and computes with it.

    Args:
        kind: `float32`; `float16`: weights of half the size, computed in float32; `dynamic`: int8 weights, activations
            rounded to int8 while it runs; `int8`: weights and activations, with ranges from examples; `int16x8`: int8
            weights, int16 activations.
        integer_io: Whether inputs and outputs of the file are int8 as well (`int8` only); the engine converts.
        float_layers: Names of layers that stay float (`int8` only).
        is_trained: Whether the model carries ranges of its own from training, and no examples are needed.
        calibration_examples: How many examples set the ranges.
        per_channel: Whether int8 weights have a scale for each channel, which is more exact; one for the whole kernel
            keeps values that the whole kernel shares.
    """

    kind: Kind = "float32"
    integer_io: bool = False
    float_layers: tuple[str, ...] = ()
    is_trained: bool = False
    calibration_examples: int = 512
    per_channel: bool = True

    @property
    def is_calibrated(self) -> bool:
        """Whether an export needs examples."""
        return self.kind in ("int8", "int16x8") and not self.is_trained


FLOAT32 = Storage()
"""Numbers as they are in training."""


def write_litert(
    model: "keras.Model",
    signature: Signature,
    path: Path,
    *,
    storage: Storage = FLOAT32,
    calibration: Arrays | None = None,
) -> None:
    """Exports a Keras model as a `.tflite` file with a named signature and a free batch dimension.

    Args:
        model: Inputs and outputs named as in the signature.
        signature: Of the model.
        path: The file to write.
        storage: How numbers are stored.
        calibration: Inputs `(N, *shape)` by name that ranges are taken from, for a storage that is calibrated.

    Raises:
        ExportError: An operation of the model has no LiteRT form, or the storage does not fit the model.
    """
    from bmp.artifact.conversion import calibrate, check_int16, convert, quantize

    _check_storage(storage, calibration)
    if storage.kind == "int16x8":
        check_int16(model, signature)
    if storage.kind == "int8" and calibration is not None and storage.is_calibrated:
        content = quantize(calibrate(model, signature, calibration), storage, model)
    else:
        content = convert(model, signature, storage, calibration)
    path.write_bytes(content)


def layer_names(model: "keras.Model") -> tuple[str, ...]:
    """Returns the names of the layers of a model that are not inputs."""
    return tuple(layer.name for layer in model.layers if type(layer).__name__ != "InputLayer")


def _check_storage(storage: Storage, calibration: Arrays | None) -> None:
    if storage.is_calibrated and calibration is None:
        raise ExportError(f"The storage {storage.kind} takes ranges from examples, and none are given.")
    if calibration is not None and not storage.is_calibrated:
        raise ExportError(f"The storage {storage.kind} takes no ranges from examples, and some are given.")
    if storage.kind != "int8" and (storage.integer_io or storage.float_layers):
        raise ExportError(f"Only int8 has integer_io and float_layers; the storage is {storage.kind}.")
    if storage.is_trained and storage.float_layers:
        raise ExportError("A model with ranges from training keeps no layer float afterwards: leave float_layers out.")


class LiteRTRunner:
    """Runs a `.tflite` file; one thread at a time.

    A plan (an interpreter whose tensors are allocated) is kept for the last few batch sizes, because
    allocating costs more than running a small model. Where the file takes or returns int8 for the float32 of the
    signature, numbers are converted here. A file made for one example at a time, as some that are imported, is run once
    for each.

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
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        except (ValueError, RuntimeError, IndexError) as error:
            text = " ".join(str(error).split())
            raise ArtifactError(f"The LiteRT file has no signature '{SIGNATURE_KEY}': {text}") from error
        self._inputs = _match("input", inputs, signature.inputs)
        self._outputs = _match("output", outputs, signature.outputs)
        self._codes = read_codes(inputs, signature.inputs)
        self._output_codes = read_codes(outputs, signature.outputs)
        self._takes_one = _takes_one(inputs)

    def run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch.

        Args:
            arrays: `(B, *shape)` by input name, as the signature says; not checked here.

        Returns:
            `(B, *shape)` by output name; the arrays are the caller's to keep.
        """
        count = len(next(iter(arrays.values())))
        if not self._takes_one or count == 1:
            return self._run(arrays)
        answers = [self._run({name: array[row : row + 1] for name, array in arrays.items()}) for row in range(count)]
        return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}

    def _run(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        interpreter = self._plan(arrays)
        if self._codes:
            arrays = {**arrays, **{name: code.encode(arrays[name]) for name, code in self._codes.items()}}
        for name, index in self._inputs:
            interpreter.set_tensor(index, arrays[name])
        interpreter.invoke()
        outputs = {name: interpreter.get_tensor(index) for name, index in self._outputs}
        if self._output_codes:
            outputs |= {name: code.decode(outputs[name]) for name, code in self._output_codes.items()}
        return outputs

    def read(self, arrays: Mapping[str, np.ndarray], indices: Sequence[int]) -> list[np.ndarray]:
        """Runs one batch and returns tensors of the file, by index; what lies inside a delegated part has no value."""
        with warnings.catch_warnings():  # about the memory that it takes
            warnings.filterwarnings("ignore", message="Warning: Enabling `experimental_preserve_all_tensors`")
            interpreter = self._load(keeps_all=True)  # what was read by all that needs it is written over otherwise
        for name, index in self._inputs:
            interpreter.resize_tensor_input(index, arrays[name].shape, strict=True)
        interpreter.allocate_tensors()
        for name, index in self._inputs:
            interpreter.set_tensor(index, arrays[name])
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in indices]

    def _plan(self, arrays: Mapping[str, np.ndarray]) -> Any:
        """Returns an interpreter allocated for these shapes, the least recently used one giving way.

        Raises:
            ArtifactError: The file has an operation that LiteRT does not know, or does not fit itself.
        """
        shapes = tuple(arrays[name].shape for name, _ in self._inputs)
        interpreter = self._plans.get(shapes)
        if interpreter is not None:
            self._plans.move_to_end(shapes)
            return interpreter
        interpreter = self._plans.popitem(last=False)[1] if len(self._plans) >= MAX_PLANS else self._load()
        try:
            for (_, index), shape in zip(self._inputs, shapes, strict=True):
                interpreter.resize_tensor_input(index, shape, strict=True)
            interpreter.allocate_tensors()
        except RuntimeError as error:
            raise ArtifactError(f"The LiteRT file cannot be run: {' '.join(str(error).split())}") from error
        self._plans[shapes] = interpreter
        return interpreter

    def keep(self, sizes: Collection[int]) -> None:
        """Lets go of the plans for other batch sizes than these."""
        for shapes in [shapes for shapes in self._plans if any(shape[0] not in sizes for shape in shapes)]:
            del self._plans[shapes]

    def _load(self, *, keeps_all: bool = False) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        try:
            return Interpreter(
                model_content=self._bytes,
                num_threads=self._threads,
                experimental_preserve_all_tensors=keeps_all,
            )
        except ValueError as error:
            raise ArtifactError(f"Not a LiteRT model: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Code:
    """How int8 numbers stand for floats: `scale * (number - zero_point)`."""

    scale: np.float32
    zero_point: int

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Returns the nearest int8 numbers; what is out of range becomes the last one, and NaN the first."""
        numbers = np.rint(values / self.scale) + np.float32(self.zero_point)
        return np.fmin(np.fmax(numbers, _LOWEST), _HIGHEST).astype(np.int8)  # other than maximum, fmax lets no NaN pass

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Returns float32 values."""
        return (numbers.astype(np.float32) - np.float32(self.zero_point)) * self.scale


def read_codes(details: Mapping[str, Any], specs: Sequence[TensorSpec]) -> dict[str, Code]:
    """Returns the code of each tensor that is int8 in the file and float32 in the signature."""
    return {
        spec.name: Code(np.float32(details[spec.name]["quantization"][0]), int(details[spec.name]["quantization"][1]))
        for spec in specs
        if spec.dtype == "float32" and details[spec.name]["dtype"] is np.int8
    }


def read_kernels(path: Path) -> Arrays:
    """Returns the weights of a `.tflite` file that have two or more dimensions, by tensor name.

    Quantized kernels are returned as stored (int8). Biases and constants of shape arithmetic are left out.
    """
    return {kernel.name: kernel.data for kernel in read_graph(path).kernels if kernel.data is not None}


def _match(kind: str, details: Mapping[str, Any], specs: Sequence[TensorSpec]) -> list[tuple[str, int]]:
    """Pairs the names of a signature with tensor indices, checking that both tell the same story.

    A float32 of the signature may be int8 in the file, where the file says which number stands for what. The batch is
    free, or one for good.
    """
    found = {
        name: (_seen_dtype(detail), *(None if size < 0 else int(size) for size in detail["shape_signature"]))
        for name, detail in details.items()
    }
    wanted = {spec.name: (spec.dtype, None, *spec.shape) for spec in specs}
    ones = {spec.name: (spec.dtype, 1, *spec.shape) for spec in specs}
    if found not in (wanted, ones):
        raise ArtifactError(
            f"The LiteRT file's {kind}s are not those of the signature.",
            expected=str(wanted),
            received=str(found),
        )
    return [(spec.name, details[spec.name]["index"]) for spec in specs]


def _takes_one(details: Mapping[str, Any]) -> bool:
    """Says whether a file was made for one example at a time."""
    return all(detail["shape_signature"][0] == 1 for detail in details.values())


def _seen_dtype(detail: Mapping[str, Any]) -> str:
    """Returns the dtype that callers see: of numbers with a scale, the float32 they stand for."""
    is_code = detail["dtype"] is np.int8 and detail["quantization"][0] > 0
    return "float32" if is_code else np.dtype(detail["dtype"]).name
