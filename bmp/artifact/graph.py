"""What a `.tflite` file holds: tensors and operators, read from its bytes; no TensorFlow, and nothing is run."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bmp.errors import ArtifactError

_FLOATING_OR_INT8 = ("float32", "float16", "int8")
_ABSENT = -1
_MAGIC = slice(4, 8), b"TFL3"


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file.

    Args:
        index: Place in `Graph.tensors`.
        name: As the converter gave it: the path of the operation that it comes from, `model/dense/MatMul`; after
            operations have been fused, several of them with `;` between.
        shape: At a batch of one.
        dtype: A numpy name, or `other`.
        data: Of a constant; None of what is computed.
        scales: Of a quantized tensor: one, or one for each slice along `axis`; else empty.
        zero_points: One for each scale.
        axis: See scales.
        buffer: Two tensors with the same one share their bytes.
        is_sparse: Whether the file stores only the values that are not zero.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int
    buffer: int
    is_sparse: bool

    @property
    def is_kernel(self) -> bool:
        """Whether it is a weight of two or more dimensions."""
        return self.data is not None and len(self.shape) > 1 and self.dtype in _FLOATING_OR_INT8

    def centred(self) -> np.ndarray:
        """Returns the numbers of a constant as they are stored, with the one that stands for zero at zero."""
        assert self.data is not None, self.name
        if not self.zero_points.any():
            return self.data
        return self.data.astype(np.int16) - self._along(self.zero_points).astype(np.int16)

    def to_floats(self) -> np.ndarray:
        """Returns the values of a constant that its numbers stand for, float32 `shape`."""
        values = self.centred().astype(np.float32)
        return values * self._along(self.scales).astype(np.float32) if len(self.scales) else values

    def _along(self, parameters: np.ndarray) -> np.ndarray:
        """Returns a parameter for each slice as an array that fits the numbers."""
        sizes = [1] * len(self.shape)
        if len(parameters) > 1:
            sizes[self.axis] = len(parameters)
        return parameters.reshape(sizes)


@dataclass(frozen=True)
class Operator:
    """One operation of the file.

    Args:
        index: Place in `Graph.operators`, in order of execution.
        name: Such as `FULLY_CONNECTED`.
        inputs: Indices of tensors; those that are left out are not listed.
        outputs: Indices of tensors.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """All tensors and operations of a file; the main graph's first, then those of loops and branches."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    _producers: dict[int, Operator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for operator in self.operators:
            for output in operator.outputs:
                self._producers.setdefault(output, operator)

    @cached_property
    def kernels(self) -> tuple[Tensor, ...]:
        """Weights of two or more dimensions."""
        return tuple(tensor for tensor in self.tensors if tensor.is_kernel)

    def producer(self, index: int) -> Operator | None:
        """Returns what computes a tensor; None of inputs and constants."""
        return self._producers.get(index)

    def kernels_of(self, operator: Operator) -> Iterator[Tensor]:
        """Yields the kernels that an operation works with, also those that it gets unpacked from float16."""
        for index in operator.inputs:
            before = self.producer(index)
            if self.tensors[index].is_kernel:
                yield self.tensors[index]
            elif before is not None and before.name == "DEQUANTIZE" and self.tensors[before.inputs[0]].is_kernel:
                yield self.tensors[before.inputs[0]]

    def layers_of(self, operator: Operator, layers: Iterable[str]) -> tuple[str, ...]:
        """Returns which layers of Keras an operation comes from, found by the names of its tensors.

        The name of its output says it; where the converter put another name there, as on the last operation of a
        graph, the names of its kernels do, or else the operation before.

        Args:
            operator: Of this graph.
            layers: Names of all layers of the model.
        """
        layers = tuple(layers)
        step: Operator | None = operator
        while step is not None:
            names = [self.tensors[index].name for index in step.outputs]
            names_of_kernels = [kernel.name for kernel in self.kernels_of(step)]
            found = find_layers(names, layers) or find_layers(names_of_kernels, layers)
            if found:
                return found
            step = next(filter(None, (self.producer(index) for index in step.inputs)), None)
        return ()


def find_layers(names: Iterable[str], layers: Iterable[str]) -> tuple[str, ...]:
    """Returns the layers that names of tensors speak of: in each path the one that stands first after the model."""
    layers = tuple(layers)
    found = []
    for path in (f"/{part.partition('/')[2]}/" for name in names for part in name.split(";")):
        # Where several begin at one place, the longest: `block/dense` before `block`.
        places = [(path.find(f"/{layer}/"), -len(layer), layer) for layer in layers]
        found += [layer for place, _, layer in sorted(places) if place >= 0][:1]
    return tuple(dict.fromkeys(found))


def read_graph(model: Path | bytes) -> Graph:
    """Reads tensors and operations of a `.tflite` file.

    Raises:
        ArtifactError: It is none.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = bytes(model) if isinstance(model, (bytes, bytearray)) else model.read_bytes()
    where, magic = _MAGIC
    if content[where] != magic:
        raise ArtifactError("Not a LiteRT model: it does not begin as one.", expected="TFL3", received="other bytes")
    try:
        return _read_graph(schema.Model.GetRootAs(content, 0))
    except (struct.error, IndexError, KeyError, TypeError, ValueError) as error:  # offsets that lead nowhere
        raise ArtifactError(f"Not a whole LiteRT model: {error}.") from error


def _read_graph(file: Any) -> Graph:
    tensors: list[Tensor] = []
    operators: list[Operator] = []
    for number in range(file.SubgraphsLength()):
        graph, offset = file.Subgraphs(number), len(tensors)
        tensors += [_read_tensor(file, graph.Tensors(i), offset + i) for i in range(graph.TensorsLength())]
        for i in range(graph.OperatorsLength()):
            operators.append(_read_operator(file, graph.Operators(i), len(operators), offset))
    return Graph(tuple(tensors), tuple(operators))


def _read_tensor(file: Any, tensor: Any, index: int) -> Tensor:
    shape = tuple(int(size) for size in _to_array(tensor.ShapeAsNumpy()))
    dtype = _dtypes().get(tensor.Type(), "other")
    quantization = tensor.Quantization()
    scales = _to_array(quantization.ScaleAsNumpy() if quantization else 0)
    zero_points = _to_array(quantization.ZeroPointAsNumpy() if quantization else 0)
    raw = _to_array(file.Buffers(tensor.Buffer()).DataAsNumpy()).astype(np.uint8)
    is_sparse = tensor.Sparsity() is not None
    data = None
    if len(raw) and dtype != "other" and not is_sparse:
        data = raw.view(dtype).reshape(shape)
    return Tensor(
        index=index,
        name=(tensor.Name() or b"").decode(),
        shape=shape,
        dtype=dtype,
        data=data,
        scales=scales,
        zero_points=zero_points if len(zero_points) else np.zeros(len(scales), np.int64),
        axis=quantization.QuantizedDimension() if quantization else 0,
        buffer=tensor.Buffer(),
        is_sparse=is_sparse,
    )


def _read_operator(file: Any, operator: Any, index: int, offset: int) -> Operator:
    code = file.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    custom = code.CustomCode()
    return Operator(
        index=index,
        name=custom.decode() if custom else _operator_names()[number],
        inputs=tuple(int(i) + offset for i in _to_array(operator.InputsAsNumpy()) if i != _ABSENT),
        outputs=tuple(int(i) + offset for i in _to_array(operator.OutputsAsNumpy())),
    )


def _to_array(values: Any) -> np.ndarray:
    """Returns a vector of the file; the reader gives 0 for one that is not there."""
    return np.zeros(0) if isinstance(values, int) else values


@cache
def _operator_names() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {number: name for name, number in vars(BuiltinOperator).items() if not name.startswith("_")}


@cache
def _dtypes() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import TensorType

    names = {number: name.lower() for name, number in vars(TensorType).items() if not name.startswith("_")}
    return {number: name for number, name in names.items() if name in _KNOWN_DTYPES}


_KNOWN_DTYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
