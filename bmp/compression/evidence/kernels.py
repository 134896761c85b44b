"""The kernel report: which code LiteRT runs for each operation of a file, and why none that is faster."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bmp.artifact.graph import Graph, Operator, Tensor, read_graph

_SHAPE_OPERATORS = frozenset({"SHAPE", "PACK", "STRIDED_SLICE", "FILL", "RESHAPE", "EXPAND_DIMS", "SQUEEZE"})
_LOOKUPS = frozenset({"GATHER", "EMBEDDING_LOOKUP"})
_MANY_ZEROS = 0.2
_FEW_VALUES = 64
_SMALL = 1024
"""Kernels with fewer weights stay float when LiteRT's converter stores weights as int8 by itself."""


@dataclass(frozen=True)
class KernelRow:
    """One operation.

    Args:
        operator: Such as `FULLY_CONNECTED`.
        source: Path of the operation in the model, as far as the file still knows it.
        shape: Of its output, at a batch of one.
        weights: How many numbers its kernels hold.
        kernel: What runs: `XNNPACK int8`, and the like.
        remark: Why nothing faster does, or empty.
    """

    operator: str
    source: str
    shape: tuple[int, ...]
    weights: int
    kernel: str
    remark: str


@dataclass(frozen=True)
class KernelReport:
    """All operations of a file in order of execution, and a summary of one sentence or two."""

    rows: tuple[KernelRow, ...]
    summary: str


def report_kernels(path: Path) -> KernelReport:
    """Loads a `.tflite` file as serving does, and tells what runs each operation.

    Whether XNNPACK or LiteRT's own code runs an operation is asked of the interpreter; which of their kernels follows
    from the types of its inputs and weights.

    Raises:
        ArtifactError: It is no `.tflite` file.
    """
    graph = read_graph(path)
    delegated = _find_delegated(path, graph)
    storage = _find_storage(graph)
    rows = tuple(
        _describe(graph, operator, operator.index in delegated, storage)
        for operator in graph.operators
        if not _unpacks_weights(graph, operator)
    )
    return KernelReport(rows, _summarize(rows, graph.kernels))


def _find_delegated(path: Path, graph: Graph) -> set[int]:
    """Returns the indices of the operations that XNNPACK takes over.

    The interpreter lists each part that was taken over by the tensors that go in and come out; what lies between is
    in it.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    taken: set[int] = set()
    for part in interpreter._get_ops_details():
        if part["op_name"] == "DELEGATE":
            taken |= _walk_back(graph, part["outputs"], {int(index) for index in part["inputs"]})
    return taken


def _find_storage(graph: Graph) -> str:
    """Returns `int8` where activations are, `dynamic` where only weights are, else `float`."""
    int8 = [tensor for tensor in graph.tensors if tensor.dtype == "int8" and len(tensor.scales)]
    if any(tensor.data is None for tensor in int8):
        return "int8"
    return "dynamic" if int8 else "float"


def _walk_back(graph: Graph, outputs: Iterable[int], inputs: set[int]) -> set[int]:
    """Returns the operations between tensors."""
    found: set[int] = set()
    waiting = [int(index) for index in outputs]
    while waiting:
        index = waiting.pop()
        operator = graph.producer(index)
        if operator is not None and index not in inputs and operator.index not in found:
            found.add(operator.index)
            waiting += operator.inputs
    return found


def _unpacks_weights(graph: Graph, operator: Operator) -> bool:
    """Returns whether an operation only makes float32 of stored weights, once, when the file is loaded."""
    return operator.name == "DEQUANTIZE" and graph.tensors[operator.inputs[0]].data is not None


def _describe(graph: Graph, operator: Operator, is_delegated: bool, storage: str) -> KernelRow:
    kernels = list(graph.kernels_of(operator))
    dtype = _find_dtype(graph, operator)
    remarks = [_explain(operator, kernels, dtype, is_delegated, storage), *_say_patterns(kernels)]
    output = graph.tensors[operator.outputs[0]]
    return KernelRow(
        operator=operator.name,
        source=output.name,
        shape=output.shape,
        weights=sum(_count(kernel) for kernel in kernels),
        kernel=_name_kernel(kernels, dtype, is_delegated),
        remark="; ".join(filter(None, remarks)),
    )


def _find_dtype(graph: Graph, operator: Operator) -> str:
    """Returns what an operation computes with: the type of the first input that is computed."""
    tensors = [graph.tensors[index] for index in operator.inputs] or [graph.tensors[operator.outputs[0]]]
    return next((tensor.dtype for tensor in tensors if tensor.data is None), tensors[0].dtype)


def _name_kernel(kernels: list[Tensor], dtype: str, is_delegated: bool) -> str:
    engine = "XNNPACK" if is_delegated else "LiteRT builtin"
    stored = kernels[0].dtype if kernels else dtype
    if any(kernel.is_sparse for kernel in kernels):
        return f"{engine} sparse {dtype}"
    if dtype == "float32" and stored == "int8":
        return f"{engine} dynamic int8"
    if dtype == "float32" and stored == "float16":
        return f"{engine} float32 (weights unpacked from float16)"
    return f"{engine} {dtype}"


def _explain(operator: Operator, kernels: list[Tensor], dtype: str, is_delegated: bool, storage: str) -> str:
    """Returns why no faster kernel runs, in a clause, or an empty string."""
    if not kernels:
        return "" if is_delegated else _explain_builtin(operator, dtype)
    if not is_delegated and operator.name not in _LOOKUPS:
        return _explain_builtin(operator, dtype)
    if operator.name in _LOOKUPS:
        return "a look-up: nothing is multiplied"
    if dtype != "float32" or kernels[0].dtype == "int8":
        return ""
    if kernels[0].dtype == "float16":
        return "float16 saves bytes here, not time"
    if storage == "dynamic":
        return f"{sum(map(_count, kernels)):,} weights: LiteRT leaves kernels under {_SMALL:,} float32"
    if storage == "int8":
        return "float32 in an int8 file: it was asked to stay so, or LiteRT has no int8 form"
    return "float32 weights: int8 kernels need a storage of int8 or dynamic"


def _explain_builtin(operator: Operator, dtype: str) -> str:
    if operator.name in _SHAPE_OPERATORS:
        return "moves or measures shapes: costs next to nothing"
    if operator.name in ("QUANTIZE", "DEQUANTIZE"):
        return "converts between float32 and whole numbers"
    if dtype == "int16":
        return "XNNPACK has no int16 kernels"
    return f"XNNPACK does not take {operator.name} on {dtype} here"


def _say_patterns(kernels: list[Tensor]) -> list[str]:
    """Returns what zeros and shared values in the kernels are good for."""
    arrays = [kernel.centred().ravel() for kernel in kernels if kernel.data is not None]
    if not arrays:
        return []
    weights = np.concatenate([array.astype(np.float32) for array in arrays])
    zeros, values = float(np.mean(weights == 0)), len(np.unique(weights))
    said = []
    if zeros >= _MANY_ZEROS and not any(kernel.is_sparse for kernel in kernels):
        said.append(f"{zeros:.0%} zeros: sparsity saves bytes here, not time")
    if values <= _FEW_VALUES < weights.size / 4:
        said.append(f"{values} values: sharing saves bytes here, not time")
    return said


def _count(kernel: Tensor) -> int:
    return int(np.prod(kernel.shape))


def _summarize(rows: tuple[KernelRow, ...], kernels: tuple[Tensor, ...]) -> str:
    operators, weights = Counter(row.kernel for row in rows), Counter[str]()
    for row in rows:
        weights[row.kernel] += row.weights
    total = sum(weights.values())
    parts = [
        f"{kernel} runs {count} of {len(rows)} operations"
        + (f" and {100 * weights[kernel] / total:.3g} % of the weights" if weights[kernel] else "")
        for kernel, count in operators.most_common()
    ]
    sentences = [f"{'; '.join(parts)}."]
    stored = [kernel.centred() for kernel in kernels if kernel.data is not None]
    size = sum(array.size for array in stored)
    zeros = sum(int(np.count_nonzero(array == 0)) for array in stored) / size if size else 0.0
    if zeros >= _MANY_ZEROS and not any(kernel.is_sparse for kernel in kernels):
        sentences.append(f"{zeros:.0%} of the weights are zero: sparsity saves bytes here, not time.")
    return " ".join(sentences)
