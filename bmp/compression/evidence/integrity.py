"""What is left of a chain in the exported file: zeros, shared values and 2:4 patterns, counted on its tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bmp.artifact.graph import Graph, Tensor, read_graph
from bmp.artifact.litert import layer_names
from bmp.compression.technique import Pattern
from bmp.compression.weights.kernels import GROUP, Kernel, find_kernels
from bmp.errors import ProofError, suggest

if TYPE_CHECKING:
    import tf_keras as keras

_ALIKE = 0.9
"""Least mean cosine between the channels of a kernel and those of the tensor that is taken for it."""


@dataclass(frozen=True)
class KernelCount:
    """What shows in one kernel of a file.

    Args:
        shape: Output channels first, inputs last.
        zeros: Share of zeros, 0 to 1.
        values: How many different ones there are.
        values_per_channel: The same in the output channel that has most.
        two_of_four: Whether of each four consecutive inputs of an output at most two are not zero.
        block_zeros: Share of the weights that lie in runs of four zeros, 0 to 1; a last shorter run counts.
    """

    shape: tuple[int, ...]
    zeros: float
    values: int
    values_per_channel: int
    two_of_four: bool
    block_zeros: float


def count_patterns(path: Path) -> dict[str, KernelCount]:
    """Counts what shows in each kernel of a `.tflite` file, by the name of its tensor.

    Raises:
        ArtifactError: It is no `.tflite` file.
    """
    graph = read_graph(path)
    return {kernel.name: count_kernel(_to_rows(graph, kernel)) for kernel in graph.kernels}


def count_kernel(rows: np.ndarray) -> KernelCount:
    """Counts what shows in a kernel `(outputs, ..., inputs)`."""
    nonzeros = np.count_nonzero(_to_groups(rows), axis=-1)  # (outputs, ..., groups)
    sizes = np.full(nonzeros.shape[-1], GROUP)
    sizes[-1] = (rows.shape[-1] - 1) % GROUP + 1
    return KernelCount(
        shape=rows.shape,
        zeros=float(np.mean(rows == 0)),
        values=len(np.unique(rows)),
        values_per_channel=max(len(np.unique(channel)) for channel in rows),
        two_of_four=bool((nonzeros <= GROUP // 2).all()),
        block_zeros=float(((nonzeros == 0) * sizes).sum() / rows.size),
    )


def check_patterns(path: Path, patterns: Sequence[Pattern], model: "keras.Model") -> None:
    """Checks that an exported file still shows all that the techniques of its chain have reached.

    Where the file gives each channel a scale of its own, shared values are counted in each channel.

    Args:
        path: The `.tflite` file.
        patterns: What it must show, in each kernel of the layers they name.
        model: It was exported from.

    Raises:
        ProofError: A pattern is gone, or its kernel cannot be found in the file.
    """
    graph = read_graph(path)
    for pattern in patterns:
        for kernel in _list_kernels(model, pattern):
            found = find_kernel(graph, kernel, layer_names(model))
            _check_pattern(pattern, count_kernel(found.rows), found.scales_channels, path.name)


@dataclass(frozen=True)
class Found:
    """A kernel of Keras in a file.

    Args:
        tensor: That holds it.
        rows: Its numbers as stored, with zero at zero, `(outputs, ..., inputs)`.
        scales_channels: Whether the file scales each channel by itself: it is quantized so, or has a norm folded in.
    """

    tensor: Tensor
    rows: np.ndarray
    scales_channels: bool


def find_kernel(graph: Graph, kernel: Kernel, layers: Sequence[str]) -> Found:
    """Finds the tensor of a file that holds a kernel of Keras.

    The names of tensors say which may; of these, or of all where none is named so, the values choose.

    Args:
        graph: Of the file.
        kernel: Of the model that was exported.
        layers: Names of all layers of the model.

    Raises:
        ProofError: None is found.
    """
    own = {kernel.layer, f"quant_{kernel.layer}"}  # in TF-MOT's wrapper
    named = {
        tensor.index: tensor
        for operator in graph.operators
        if own.intersection(graph.layers_of(operator, layers))
        for tensor in graph.kernels_of(operator)
    }
    views = _list_views(kernel)
    for tensors in (named.values(), graph.kernels):
        scored = [
            (_likeness(_to_rows(graph, tensor), view), -tensor.index, place)
            for tensor in tensors
            for place, view in enumerate(views)
        ]
        likeness, index, place = max(scored, default=(0.0, 0, 0))
        if likeness >= _ALIKE:
            tensor, view = graph.tensors[-index], views[place]
            return Found(tensor, _to_rows(graph, tensor).reshape(view.shape), _scales_channels(graph, tensor, view))
    shape = "x".join(map(str, kernel.variable.shape))
    raise ProofError(
        f"The {kernel.attribute} of layer '{kernel.layer}' is not to be found in the exported file, so what was "
        "reached in it cannot be proven.",
        expected=f"a tensor of {shape} weights",
        received=", ".join(f"{tensor.name} {tensor.shape}" for tensor in graph.kernels) or "no kernel",
    )


def _list_kernels(model: "keras.Model", pattern: Pattern) -> list[Kernel]:
    """Returns the kernels of a layer that a pattern speaks of.

    Raises:
        ProofError: There is no such layer, or it has none.
    """
    if any(type(layer).__name__.startswith("QuantizeWrapper") for layer in model.layers):
        from bmp.compression.rounding.quantizers import list_held_kernels  # imports TF-MOT

        kernels = list_held_kernels(model, {pattern.layer})
    else:
        kernels = [kernel for layer in model.layers if layer.name == pattern.layer for kernel in find_kernels(layer)]
    if pattern.kind == "two_of_four":
        kernels = [kernel for kernel in kernels if kernel.has_groups()]
    if pattern.kind == "blocks":
        kernels = [kernel for kernel in kernels if (_count_inputs(kernel) or 0) >= GROUP]
    if not kernels:
        raise ProofError(
            f"The model '{model.name}' has no layer '{pattern.layer}' with a kernel that could show what was reached "
            f"in it.{suggest(pattern.layer, layer_names(model))}",
            expected=f"a layer '{pattern.layer}' with a kernel",
            received=", ".join(layer_names(model)),
        )
    return kernels


def _count_inputs(kernel: Kernel) -> int | None:
    return None if kernel.inputs_axis is None else int(kernel.variable.shape[kernel.inputs_axis])


def _list_views(kernel: Kernel) -> list[np.ndarray]:
    """Returns a kernel of Keras as `(outputs, ..., inputs)`; in each way it may be meant, where there is no one way."""
    values = kernel.read()
    if kernel.outputs_axis is not None:
        return [np.moveaxis(values, kernel.outputs_axis, 0)]  # Keras has the inputs last, or last but the outputs
    first, last = values.reshape(len(values), -1), values.reshape(-1, values.shape[-1])
    return [first, first.T, last.T]


def _check_pattern(pattern: Pattern, count: KernelCount, scales_channels: bool, file: str) -> None:
    expected, found = _compare(pattern, count, scales_channels)
    if found is not None:
        raise ProofError(
            f"{file}: layer '{pattern.layer}' should have {expected} and has {found}: a later step has undone what an "
            "earlier one reached.",
            expected=expected,
            received=found,
        )


def _compare(pattern: Pattern, count: KernelCount, scales_channels: bool) -> tuple[str, str | None]:
    """Returns what is expected, and what was found where that is something else."""
    if pattern.kind == "two_of_four":
        expected, found = "two of four weights at zero", "groups with more"
        return expected, None if count.two_of_four else found
    if pattern.kind == "values":
        in_channel = pattern.per_channel or scales_channels
        values = count.values_per_channel if in_channel else count.values
        what = "different values in a channel" if in_channel else "different values"
        return f"at most {pattern.value:g} {what}", None if values <= pattern.value else f"{values} {what}"
    share, what = (count.zeros, "zeros") if pattern.kind == "zeros" else (count.block_zeros, "zeros in runs of four")
    size = int(np.prod(count.shape))
    is_kept = share * size >= np.floor(pattern.value * size) - 1  # a share is not always a whole number of weights
    return f"{pattern.value:.1%} {what}", None if is_kept else f"{share:.1%} {what}"


def _scales_channels(graph: Graph, tensor: Tensor, kernel: np.ndarray) -> bool:
    """Returns whether a tensor is the kernel with each channel scaled by itself; not where it is another one.

    Channels have scales of their own where they are rounded so, and after a norm has been folded in.
    """
    values = _to_rows(graph, tensor, tensor.to_floats()).reshape(len(kernel), -1)
    kernel = kernel.reshape(len(kernel), -1)
    squares = (kernel**2).sum(axis=1, keepdims=True)
    factors = (values * kernel).sum(axis=1, keepdims=True) / np.where(squares > 0, squares, 1)
    rounding = float(tensor.scales.max()) if len(tensor.scales) else 1e-3 * float(np.abs(values).max(initial=0))
    is_scaled_only = np.allclose(values, kernel * factors, rtol=2e-3, atol=rounding)  # float16 rounds too
    return is_scaled_only and (len(tensor.scales) > 1 or not np.allclose(values, kernel, rtol=2e-3, atol=rounding))


def _to_rows(graph: Graph, kernel: Tensor, values: np.ndarray | None = None) -> np.ndarray:
    """Returns the numbers of a kernel of a file, or other values for it, with outputs first and inputs last."""
    values = kernel.centred() if values is None else values
    users = {
        operator.name
        for operator in graph.operators
        if operator.name != "DEQUANTIZE" and kernel.index in (tensor.index for tensor in graph.kernels_of(operator))
    }
    if "DEPTHWISE_CONV_2D" in users:
        return np.moveaxis(values[0], -1, 0)  # (1, H, W, C) to (C, H, W)
    if "BATCH_MATMUL" in users:
        return np.moveaxis(values, -1, 0)
    return values


def _likeness(rows: np.ndarray, kernel: np.ndarray) -> float:
    """Returns the mean cosine between the channels of two kernels; 0 for other shapes.

    The sign counts for nothing, since a folded norm may turn it.
    """
    if rows.size != kernel.size or len(rows) != len(kernel) or rows.shape[-1] != kernel.shape[-1]:
        return 0.0
    mine, theirs = (array.reshape(len(kernel), -1).astype(np.float32) for array in (rows, kernel))
    lengths = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = np.abs((mine * theirs).sum(axis=1)) / np.where(lengths > 0, lengths, 1)
    are_zero = ~mine.any(axis=1) & ~theirs.any(axis=1)
    return float(np.where(are_zero, 1, cosines).mean())


def _to_groups(rows: np.ndarray) -> np.ndarray:
    """Returns `(outputs, ..., inputs)` as `(outputs, ..., groups, 4)`, the last group filled with zeros."""
    missing = -rows.shape[-1] % GROUP
    padded = np.pad(rows, [*[(0, 0)] * (rows.ndim - 1), (0, missing)])
    return padded.reshape(*rows.shape[:-1], -1, GROUP)
