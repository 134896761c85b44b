"""The graphs of a SavedModel: every node of every function stands in a table, and only the saver touches files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bmp.artifact.guard.limits import Limits
from bmp.artifact.guard.names import find_fault
from bmp.artifact.guard.operations import OPERATIONS, REACHES, SAVER_OPERATIONS
from bmp.errors import UnsafeError

ASSETS = "assets"
_LOCAL = re.compile(r"(/job:localhost)?(/replica:0)?(/task:0)?(/device:(CPU|GPU|cpu|gpu):(\d+|\*))?|/(cpu|gpu):\d+|")
_HANDLES = (20, 21)
"""DT_RESOURCE and DT_VARIANT."""
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


class GraphCheck:
    """One graph with its library of functions.

    Args:
        directory: For messages, and for the files that the graph names.
        graph: A `MetaGraphDef`.
        limits: On sizes and counts.
    """

    def __init__(self, directory: Path, graph: Any, limits: Limits) -> None:
        self._directory, self._graph, self._limits = directory, graph, limits
        self._functions = {function.signature.name: function for function in graph.graph_def.library.function}
        self._size_bytes = graph.ByteSize()
        self._constant_bytes = 0
        self._count = 0

    def check(self) -> None:
        """Checks the graph.

        Raises:
            UnsafeError: It could do more than compute.
        """
        if len(self._functions) < len(self._graph.graph_def.library.function):
            raise self._refuse("it has two functions of one name")
        self._check_assets()
        savers = self._find_savers()
        for where, nodes in self._bodies():
            for node in nodes:
                self._check_node(node, where, is_saver=where in savers)
        self._check_calls_to(savers)
        for name in savers:
            self._check_saver(self._functions[name])
        self._check_circles()

    def _bodies(self) -> Iterator[tuple[str, Any]]:
        """Yields each function's name and nodes, and those of the graph itself under no name."""
        yield "", self._graph.graph_def.node
        for name, function in self._functions.items():
            yield name, function.node_def

    def _refuse(self, fault: str) -> UnsafeError:
        return UnsafeError(
            f"The SavedModel in {self._directory} is refused: {fault}. Export the network again without it; a model of "
            "your own can be read with --trust.",
            expected="operations that only compute",
            received=fault,
        )

    def _check_assets(self) -> None:
        for asset in self._graph.asset_file_def:
            fault = find_fault(asset.filename)
            if fault or "/" in asset.filename or not (self._directory / ASSETS / asset.filename).is_file():
                raise self._refuse(f"it names the file {show(asset.filename)}, which is not in {ASSETS}/")
        for node in self._graph.object_graph_def.nodes:
            if node.registered_saver:
                raise self._refuse(f"an object is saved by code of its own, {show(node.registered_saver)}")

    def _check_node(self, node: Any, where: str, *, is_saver: bool) -> None:
        self._count += 1
        if self._count > self._limits.objects:
            raise self._refuse(f"it has more than {self._limits.objects:,} nodes")
        known = node.op in OPERATIONS or node.op in self._functions or (is_saver and node.op in SAVER_OPERATIONS)
        if not known:
            place = f"in the function {show(where)}" if where else "in the graph"
            raise self._refuse(f"the node {show(node.name)} {place} is the operation {show(node.op)}{_reach(node.op)}")
        if not _LOCAL.fullmatch(node.device):
            raise self._refuse(f"the node {show(node.name)} runs on the device {show(node.device)}, on another machine")
        for value in node.attr.values():
            for tensor in (value.tensor, *value.list.tensor):
                self._check_constant(tensor, node.name)

    def _check_constant(self, tensor: Any, name: str) -> None:
        """Adds up what constants unpack to: one number with a shape stands for as many as the shape says."""
        count = 1
        for size in tensor.tensor_shape.dim:
            count *= max(0, size.size)
        if not tensor.dtype:
            return
        if tensor.dtype in _HANDLES:
            raise self._refuse(f"the constant {show(name)} stands for an object in memory")
        self._constant_bytes += count * _size_of(tensor.dtype)
        self._limits.check_growth(
            f"The SavedModel in {self._directory}, with the constant {show(name)},",
            self._size_bytes,
            self._constant_bytes,
        )

    # --- the saver: the only part that may touch files ---

    def _find_savers(self) -> set[str]:
        """Returns the functions that the saver of the graph calls, with the path that it is given."""
        saver = self._graph.saver_def
        nodes = {node.name: node for node in self._graph.graph_def.node}
        path = saver.filename_tensor_name.partition(":")[0]
        found = set()
        for name in filter(None, (saver.save_tensor_name, saver.restore_op_name)):
            node = nodes.get(name.partition(":")[0])
            called = node.attr["f"].func.name if node is not None and node.op in _CALLS else ""
            if called in self._functions and node is not None and node.input and node.input[0] == path:
                found.add(called)
        if found and (path not in nodes or nodes[path].op != "Placeholder"):
            raise self._refuse("its saver is not given the path of the variables, but has one of its own")
        return found

    def _check_calls_to(self, savers: set[str]) -> None:
        """Checks that nobody but the saver calls the functions that may touch files, or gives them a path."""
        saver = self._graph.saver_def
        names = (saver.save_tensor_name, saver.restore_op_name, saver.filename_tensor_name)
        own = {name.partition(":")[0] for name in names if name}
        for where, nodes in self._bodies():
            for node in nodes:
                if (where or node.name not in own) and savers.intersection(_called(node)):
                    raise self._refuse(f"the node {show(node.name)} calls the function that reads or writes variables")
        for name, signature in self._graph.signature_def.items():
            given = {
                tensor.name.partition(":")[0] for tensor in (*signature.inputs.values(), *signature.outputs.values())
            }
            if own & given:
                raise self._refuse(f"whoever asks its signature {show(name)} says where variables are read or written")
        if savers.intersection(self._graph.object_graph_def.concrete_functions):
            raise self._refuse("it offers the function that reads or writes variables to everybody")

    def _check_saver(self, function: Any) -> None:
        """Checks that the paths of files in a function of the saver are its first argument, and what it appends."""
        given = _Paths(function, self._limits.depth)
        for node in function.node_def:
            for place in _PATHS.get(node.op, ()):
                if place >= len(node.input) or not given.is_given(node.input[place]):
                    raise self._refuse(f"the node {show(node.name)} touches a file at a path of its own")

    def _check_circles(self) -> None:
        """Checks that no function calls itself by way of others: TensorFlow would follow it without end."""
        left = {name: {called for node in nodes for called in _called(node)} for name, nodes in self._bodies() if name}
        while left:
            ended = {name for name, called in left.items() if not called & left.keys()}
            if not ended:
                raise self._refuse(f"functions call each other in a circle, {show(next(iter(left)))} first")
            left = {name: called for name, called in left.items() if name not in ended}


_PATHS = {"RestoreV2": (0,), "SaveV2": (0,), "MergeV2Checkpoints": (0, 1)}
"""Which inputs of operations are paths."""


class _Paths:
    """Where a function of the saver has its paths from.

    Args:
        function: Whose first argument is the path of the variables.
        depth: How many steps are followed.
    """

    def __init__(self, function: Any, depth: int) -> None:
        self._argument = function.signature.input_arg[0].name if function.signature.input_arg else ""
        self._nodes = {node.name: node for node in function.node_def}
        self._depth = depth

    def is_given(self, source: str, steps: int = 0) -> bool:
        """Whether a text is the path of the variables, or begins with it."""
        node = self._find(source)
        if node is None or steps > self._depth:
            return source == self._argument
        inputs = [name for name in node.input if not name.startswith("^")]
        if node.op == "StringJoin":
            return self.is_given(inputs[0], steps + 1) and all(map(self._is_ending, inputs[1:]))
        if node.op in ("Identity", "ShardedFilename"):
            return self.is_given(inputs[0], steps + 1)
        return node.op == "Pack" and all(self.is_given(name, steps + 1) for name in inputs)

    def _is_ending(self, source: str) -> bool:
        """Whether a text that is appended to a path stays below it."""
        node = self._find(source)
        if node is not None and node.op == "Select":
            return all(self._find(name) is not None and self._is_ending(name) for name in node.input[1:3])
        return node is not None and node.op == "Const" and not any(map(_climbs, node.attr["value"].tensor.string_val))

    def _find(self, source: str) -> Any:
        return self._nodes.get(source.partition(":")[0])


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _climbs(text: bytes) -> bool:
    return b".." in text.split(b"/")


def _reach(operation: str) -> str:
    for what, words in REACHES.items():
        if any(word in operation for word in words):
            return f", which reaches {what}"
    return ", which is not among those that only compute"


def _size_of(dtype: int) -> int:
    import tensorflow as tf

    try:
        return int(tf.as_dtype(dtype).size) or 1
    except (TypeError, ValueError):  # texts and handles have no size
        return 1


def show(text: str) -> str:
    """Returns a name out of a file as it may stand in a message."""
    clean = "".join(character if character.isprintable() else "?" for character in text)
    return f"'{clean}'" if len(clean) <= 100 else f"'{clean[:97]}...'"
