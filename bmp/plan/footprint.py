"""What a training step keeps in memory, read off its graph."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from bmp.plan.tensors import LOOPS, count_bytes, find_bodies, find_root, is_weight, list_operations
from bmp.plan.trace import StepGraph

_IN_PLACE_TEXT = """
    Add AddN AddV2 BiasAdd Cast Div DivNoNan Elu EluGrad Erf Exp LeakyRelu LeakyReluGrad Log Maximum Minimum Mul Neg
    Pow RealDiv Relu Relu6 Relu6Grad ReluGrad Rsqrt RsqrtGrad Select SelectV2 Selu SeluGrad Sigmoid SigmoidGrad Softmax
    Softplus SoftplusGrad Sqrt SqrtGrad Square Sub Tanh TanhGrad
"""
_IN_PLACE = frozenset(_IN_PLACE_TEXT.split())
"""Operations that TensorFlow lets write over an input that nobody else needs."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one training step beside the weights and the state of the optimizer.

    Args:
        kept_bytes: Tensors of the forward pass that the backward pass reads: the activations.
        working_bytes: The most that is held at a time: activations, gradients, and what is on its way between them.
        pushed_bytes: The gradients as they are; less than the weights where rows of an embedding were looked up.
    """

    kept_bytes: int
    working_bytes: int
    pushed_bytes: int


def measure_footprint(step: StepGraph) -> Footprint:
    """Returns what a step holds, its operations run one after the other in the order they were traced in.

    TensorFlow runs independent operations at the same time, fuses some, and its kernels use scratch memory of their
    own: what is measured on a machine differs by that.
    """
    return Footprint(_count_kept(step), _find_peak(step.graph, owns_inputs=True), step.pushed_bytes)


def _count_kept(step: StepGraph) -> int:
    names = [op.name for op in step.graph.get_operations()]
    forward, backward = set(names[: step.forward_end]), set(names[step.forward_end : step.backward_end])
    readers = [op for op in list_operations(step.graph) if op.name in backward]
    roots = {root.name: root for op in readers for root in map(find_root, op.inputs) if root.op.name in forward}
    captured = _name_captures(step.graph)
    return sum(count_bytes(root) for name, root in roots.items() if name not in captured and not is_weight(root))


def _name_captures(graph: Any) -> set[str]:
    """Returns the inputs that are variables and constants from outside, in memory all the time."""
    return {tensor.name for tensor in graph.internal_captures}


def _find_peak(graph: Any, *, owns_inputs: bool) -> int:
    """Returns the most bytes held at a time while a graph runs in order, what it returns included.

    Args:
        graph: Of a step, or of a function within it.
        owns_inputs: Whether its arguments count here; those of a function count where it is called.
    """
    operations = list_operations(graph)
    foreign = _name_captures(graph) if owns_inputs else {tensor.name for tensor in graph.inputs}
    last_use = _find_last_use(graph, operations)
    held: dict[str, int] = {}
    total = peak = 0
    for place, op in enumerate(operations):
        made = {tensor.name: count_bytes(tensor) for tensor in op.outputs if _is_new(tensor, foreign)}
        dying = {root.name for root in map(find_root, op.inputs) if last_use.get(root.name) == place}
        inside = max((_find_peak(body, owns_inputs=False) for body in find_bodies(op)), default=0)
        if op.type in LOOPS:
            inside += sum(made.values())  # what it gathers lies outside its body
        reused = _find_reused(op, made, dying, held)
        total -= held.pop(reused, 0)
        peak = max(peak, total + max(inside, sum(made.values())))
        held |= made
        total += sum(made.values())
        for name in [*dying, *(name for name in made if name not in last_use)]:
            total -= held.pop(name, 0)
    return peak


def _find_last_use(graph: Any, operations: list[tf.Operation]) -> dict[str, int]:
    last_use = {}
    for place, op in enumerate(operations):
        for tensor in op.inputs:
            last_use[find_root(tensor).name] = place
    return last_use | {find_root(tensor).name: len(operations) for tensor in graph.outputs}


def _is_new(tensor: tf.Tensor, foreign: set[str]) -> bool:
    """Returns whether a tensor is memory of its own, made here."""
    return not is_weight(tensor) and tensor.name not in foreign and find_root(tensor).name == tensor.name


def _find_reused(op: tf.Operation, made: dict[str, int], dying: set[str], held: dict[str, int]) -> str:
    """Returns the input that an operation writes its output over, or an empty text."""
    if op.type not in _IN_PLACE or len(made) != 1:
        return ""
    (size_bytes,) = made.values()
    return next((name for name in dying if held.get(name) == size_bytes), "")
