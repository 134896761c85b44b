"""What is known of a traced graph without running it: functions within it, trips of its loops, bytes of its tensors."""

import math
from typing import Any

import tensorflow as tf

CALLS = ("PartitionedCall", "StatefulPartitionedCall")
LOOPS = ("While", "StatelessWhile")
CHOICES = ("If", "StatelessIf")
_VIEWS = {"Identity", "IdentityN", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient", "EnsureShape"}
_IN_PLACE_LISTS = {"TensorListPushBack", "TensorListSetItem"}
_WEIGHTS = {"ReadVariableOp", "Const"}


def list_operations(graph: Any) -> list[tf.Operation]:
    """Returns the operations of a graph that its outputs or its effects need, in the order in which they were made.

    The rest TensorFlow leaves out too: Keras traces some only for the shape of what they would compute.
    """
    waiting = [*(tensor.op for tensor in graph.outputs), *graph.control_outputs]
    needed: set[str] = set()
    while waiting:
        op = waiting.pop()
        if op.name not in needed:
            needed.add(op.name)
            waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return [op for op in graph.get_operations() if op.name in needed]


def find_body(op: tf.Operation, attribute: str) -> Any:
    """Returns the graph of a function that an operation calls."""
    return op.graph._get_function(op.get_attr(attribute).name).graph


def find_bodies(op: tf.Operation) -> list[Any]:
    """Returns the graphs an operation may run: one of a call or a loop, two of a choice, else none."""
    if op.type in CALLS:
        return [find_body(op, "f")]
    if op.type in LOOPS:
        return [find_body(op, "body")]
    return [find_body(op, branch) for branch in ("then_branch", "else_branch")] if op.type in CHOICES else []


def count_trips(op: tf.Operation) -> int | None:
    """Returns how often a loop runs its body; None where only running it would tell.

    Known is a loop that counts by a constant from a constant up to a constant, or has a constant maximum of trips.
    """
    most = _find_number(op.inputs[1])  # by the form of tf.while_loop: counter, maximum, the loop's own variables
    counted = _count_up(op)
    if most is None or most < 0:
        return counted
    return most if counted is None else min(counted, most)


def _count_up(op: tf.Operation) -> int | None:
    condition, body = find_body(op, "cond"), find_body(op, "body")
    test = _look_through(condition.outputs[0]).op
    while test.type == "LogicalAnd":
        test = next(_look_through(part).op for part in test.inputs)
    if test.type != "Less":
        return None
    place, end = (_position(tensor, condition) for tensor in test.inputs)
    if place is None:
        return None
    add = _look_through(body.outputs[place]).op
    step = next(filter(None, map(_find_number, add.inputs)), None) if add.type in ("Add", "AddV2") else None
    first, last = _find_number(op.inputs[place]), _find_number(test.inputs[1] if end is None else op.inputs[end])
    if step is None or first is None or last is None:
        return None
    return max(math.ceil((last - first) / step), 0)


def _find_number(tensor: tf.Tensor) -> int | None:
    """Returns the whole number that a tensor always is, such as a size taken from a known shape; None if it varies."""
    value, index = tf.get_static_value(tensor), None
    if value is None and tensor.op.type == "StridedSlice" and tensor.shape.rank == 0:
        value, index = (tf.get_static_value(part) for part in tensor.op.inputs[:2])
    if value is None or (index is not None and index.size != 1):
        return None
    return int(value if index is None else value[int(index[0])])


def _look_through(tensor: tf.Tensor) -> tf.Tensor:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def _position(tensor: tf.Tensor, graph: Any) -> int | None:
    """Returns which input of a function a tensor is."""
    tensor = _look_through(tensor)
    return next((place for place, found in enumerate(graph.inputs) if found.name == tensor.name), None)


def find_root(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the tensor whose memory this one is a view of, or itself.

    Looks through reshapes, through functions that hand an argument back, and through what a loop leaves as it is.
    """
    op = tensor.op
    if op.type in _VIEWS:
        return find_root(op.inputs[tensor.value_index if op.type == "IdentityN" else 0])
    if op.type in CALLS or op.type in LOOPS:
        (body,) = find_bodies(op)
        found = find_root(body.outputs[tensor.value_index])
        place = _position(found, body) if found.graph is body else None
        if place is not None and (op.type in CALLS or place == tensor.value_index):
            return find_root(op.inputs[place])
    return tensor


def is_weight(tensor: tf.Tensor) -> bool:
    """Returns whether a root is memory that is there anyway: of a variable or of a constant."""
    return tensor.op.type in _WEIGHTS or tensor.dtype == tf.resource


def count_elements(tensor: tf.Tensor) -> int:
    """Returns the elements of a tensor; a size that is not known before running counts as one."""
    return math.prod(size or 1 for size in tensor.shape) if tensor.shape.rank is not None else 1


def count_bytes(tensor: tf.Tensor) -> int:
    """Returns the bytes of a tensor; of a list of tensors, of all that it holds when its loop is over."""
    if tensor.dtype == tf.variant:
        return _count_list(tensor)
    return 0 if tensor.dtype in (tf.resource, tf.string) else count_elements(tensor) * tensor.dtype.size


def _count_list(tensor: tf.Tensor) -> int:
    op = tensor.op
    if op.type == "TensorListFromTensor":
        return count_bytes(op.inputs[0])
    if op.type in CALLS:
        return count_bytes(find_body(op, "f").outputs[tensor.value_index])
    if op.type in LOOPS:
        last = _look_through(find_body(op, "body").outputs[tensor.value_index]).op
        if last.type in _IN_PLACE_LISTS:
            return (count_trips(op) or 1) * count_bytes(find_root(last.inputs[-1]))
        if last.type == "Placeholder":
            return _count_list(op.inputs[tensor.value_index])
    return 0
