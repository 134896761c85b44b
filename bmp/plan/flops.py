"""Floating-point operations of a traced graph, op by op."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from bmp.plan.tensors import LOOPS, count_elements, count_trips, find_bodies, list_operations

_ONE_AN_ELEMENT_TEXT = """
    Abs Add AddN AddV2 BiasAdd Ceil ClipByValue Cos Div DivNoNan Elu Erf Erfc Exp Expm1 Floor FloorDiv FloorMod
    Inv LeakyRelu Log Log1p LogSoftmax Maximum Minimum Mul MulNoNan Neg Pow RealDiv Reciprocal Relu Relu6 Round Rsqrt
    Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Square SquaredDifference Sub Tan Tanh Xdivy Xlogy
    ResizeBilinear
"""
_ONE_AN_ELEMENT = frozenset(_ONE_AN_ELEMENT_TEXT.split())
_ONE_AN_INPUT = frozenset(["Sum", "Mean", "Max", "Min", "Prod", "EuclideanNorm", "Cumsum", "L2Loss", "SegmentSum"])
_NONE_TEXT = """
    BatchToSpaceND BroadcastTo Cast Concat ConcatV2 Const DepthToSpace EnsureShape ExpandDims Fill Gather GatherNd
    GatherV2 Identity IdentityN MatrixBandPart MirrorPad OneHot Pack Pad PadV2 Placeholder PlaceholderWithDefault
    PreventGradient Range ReadVariableOp Reshape ResizeNearestNeighbor ResourceGather ReverseV2 ScatterNd Select
    SelectV2 Slice SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice
    TensorListConcatV2 TensorListGetItem TensorListPopBack TensorListStack TensorScatterUpdate Tile TopKV2 Transpose
    Unpack ZerosLike OnesLike RandomUniform RandomStandardNormal StatelessRandomUniformV2
"""
_NONE = frozenset(_NONE_TEXT.split())


@dataclass(frozen=True)
class Flops:
    """What was counted.

    Args:
        total: Floating-point operations; a multiply-add is two.
        uncounted: Types of operations for which there is no rule, and loops whose trips are unknown (counted once).
    """

    total: int
    uncounted: frozenset[str] = frozenset()

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.total + other.total, self.uncounted | other.uncounted)


def count_flops(graph: Any) -> Flops:
    """Counts what running a traced graph once computes.

    Products (MatMul, BatchMatMul, Einsum, convolutions) are two for each multiply-add. What works on elements is one
    an element of its output, a reduction one an element of its input, whatever the function: an exponential as well
    as a sum. Moving data is free. A loop counts once for each trip, of a choice the dearer branch.

    Args:
        graph: A FuncGraph whose shapes are known.
    """
    return sum((_count(op) for op in list_operations(graph)), Flops(0))


def _count(op: tf.Operation) -> Flops:
    bodies = [count_flops(body) for body in find_bodies(op)]
    if op.type in LOOPS:
        trips = count_trips(op)
        unknown = frozenset() if trips is not None else frozenset([f"{op.type} of unknown trips"])
        return Flops((1 if trips is None else trips) * bodies[0].total, bodies[0].uncounted | unknown)
    if bodies:
        return max(bodies, key=lambda flops: flops.total)
    if not any(tensor.dtype.is_floating or tensor.dtype.is_complex for tensor in op.outputs) or op.type in _NONE:
        return Flops(0)
    rule = _RULES.get(op.type)
    return Flops(0, frozenset([op.type])) if rule is None else Flops(rule(op))


def _count_product(op: tf.Operation) -> int:
    attribute = {"MatMul": "transpose_a"}.get(op.type, "adj_x")
    inner = op.inputs[0].shape[-2 if op.get_attr(attribute) else -1]
    return 2 * count_elements(op.outputs[0]) * (inner or 1)


def _count_einsum(op: tf.Operation) -> int:
    """Two for each combination of all indices, those that are summed over included; one operand only moves or adds."""
    terms, _, _ = op.get_attr("equation").decode().partition("->")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms.split(","), op.inputs, strict=True):
        before, dots, after = term.partition("...")
        shape = [size or 1 for size in tensor.shape]
        spread = len(shape) - len(before) - len(after) if dots else 0
        # Indices under the dots are numbered from the right, as broadcasting aligns them.
        labels = [*before, *(f".{place}" for place in range(spread, 0, -1)), *after]
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    return (2 if len(op.inputs) > 1 else 1) * math.prod(sizes.values())


def _count_convolution(op: tf.Operation) -> int:
    return 2 * count_elements(op.outputs[0]) * math.prod(op.inputs[1].shape[:-1])  # kernel (h, w, in / groups, out)


def _count_depthwise(op: tf.Operation) -> int:
    return 2 * count_elements(op.outputs[0]) * math.prod(op.inputs[1].shape[:-2])  # kernel (h, w, in, multiplier)


def _count_transposed(op: tf.Operation) -> int:
    return 2 * count_elements(op.inputs[2]) * math.prod(op.inputs[1].shape[:-1])  # kernel (h, w, out, in)


def _count_pool(op: tf.Operation) -> int:
    return count_elements(op.outputs[0]) * math.prod(op.get_attr("ksize"))


def _count_norm(op: tf.Operation) -> int:
    return 2 * count_elements(op.outputs[0])  # one scale, one offset; folded so at inference


def _count_outputs(op: tf.Operation) -> int:
    return count_elements(op.outputs[0])


def _count_inputs(op: tf.Operation) -> int:
    return count_elements(op.inputs[0])


_RULES: dict[str, Callable[[tf.Operation], int]] = {
    "MatMul": _count_product,
    "BatchMatMul": _count_product,
    "BatchMatMulV2": _count_product,
    "BatchMatMulV3": _count_product,
    "Einsum": _count_einsum,
    "Conv2D": _count_convolution,
    "Conv3D": _count_convolution,
    "DepthwiseConv2dNative": _count_depthwise,
    "Conv2DBackpropInput": _count_transposed,
    "Conv3DBackpropInputV2": _count_transposed,
    "AvgPool": _count_pool,
    "AvgPool3D": _count_pool,
    "MaxPool": _count_pool,
    "MaxPool3D": _count_pool,
    "FusedBatchNorm": _count_norm,
    "FusedBatchNormV2": _count_norm,
    "FusedBatchNormV3": _count_norm,
    **dict.fromkeys(_ONE_AN_ELEMENT, _count_outputs),
    **dict.fromkeys(_ONE_AN_INPUT, _count_inputs),
}
