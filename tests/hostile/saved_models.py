"""Hostile SavedModels: graphs that reach out of themselves, and directories with more in them than a graph."""

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import Cases, Place

CASES = Cases("saved_model")


@functools.cache
def _save_plain() -> Path:
    """Saves a sound one, once; a copy of it is spoilt for each case."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = tf.Variable(tf.ones((4, 3)))

        @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
        def serve(self, x: Any) -> dict[str, Any]:
            return {"y": x @ self.weight}

    directory = Path(tempfile.mkdtemp(prefix="hostile-saved-"))
    net = Net()
    tf.saved_model.save(net, str(directory), signatures=net.serve)
    return directory


def save_writer(directory: Path, target: Path) -> Path:
    """Saves a model that writes a file whenever it is asked: sound TensorFlow, and a program."""
    import tensorflow as tf

    class Net(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
        def serve(self, x: Any) -> dict[str, Any]:
            tf.io.write_file(str(target), "written")
            return {"y": x}

    net = Net()
    tf.saved_model.save(net, str(directory), signatures=net.serve)
    return directory


def remove_plain() -> None:
    """Removes what the cases are made from."""
    if _save_plain.cache_info().currsize:
        shutil.rmtree(_save_plain(), ignore_errors=True)
        _save_plain.cache_clear()


def _copy(place: Place) -> Path:
    return shutil.copytree(_save_plain(), place.inside / "model")


def _make(place: Place, change: Callable[[Any], Any]) -> Path:
    """Makes one whose graph is changed."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = _copy(place) / "saved_model.pb"
    model = SavedModel.FromString(path.read_bytes())
    change(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())
    return path.parent


def _make_files(place: Place, change: Callable[[Path], Any]) -> Path:
    """Makes one whose files are changed."""
    directory = _copy(place)
    change(directory)
    return directory


def _find(graph: Any, part: str) -> Any:
    return next(function for function in graph.graph_def.library.function if part in function.signature.name)


def _add_text(nodes: Any, name: str, text: str) -> str:
    """Adds a constant, and returns its name as an input."""
    constant = nodes.add(name=name, op="Const")
    constant.attr["dtype"].type = constant.attr["value"].tensor.dtype = 7
    constant.attr["value"].tensor.string_val.append(text.encode())
    return f"{name}:output:0"


@CASES
def a_file_that_is_written(place: Place) -> Path:
    return save_writer(place.inside / "model", place.canary)


@CASES.spoil(_make)
def a_file_that_is_written_from_the_outer_graph(graph: Any, place: Place) -> None:
    path = _add_text(graph.graph_def.node, "path", str(place.canary)).partition(":")[0]
    graph.graph_def.node.add(name="evil", op="WriteFile", input=[path, path])


@CASES.spoil(_make)
def a_file_that_is_read(graph: Any, place: Place) -> None:
    nodes = _find(graph, "serve").node_def
    nodes.add(name="evil", op="ReadFile", input=[_add_text(nodes, "path", str(place.secret))])


@CASES.spoil(_make)
def files_that_are_looked_for(graph: Any, place: Place) -> None:
    nodes = _find(graph, "serve").node_def
    nodes.add(name="evil", op="MatchingFiles", input=[_add_text(nodes, "path", str(place.outside / "*"))])


@CASES.spoil(_make)
def a_message_to_a_file(graph: Any, place: Place) -> None:
    nodes = _find(graph, "serve").node_def
    node = nodes.add(name="evil", op="PrintV2", input=[_add_text(nodes, "text", "x")])
    node.attr["output_stream"].s = f"file://{place.canary}".encode()


@CASES.spoil(_make)
def a_call_of_Python(graph: Any, place: Place) -> None:
    node = _find(graph, "serve").node_def.add(name="evil", op="EagerPyFunc")
    node.attr["token"].s = b"pyfunc_0"


@CASES.spoil(_make)
def a_call_over_the_network(graph: Any, place: Place) -> None:
    _find(graph, "serve").node_def.add(name="evil", op="RpcCall")


@CASES.spoil(_make)
def a_dataset_of_lines_of_a_file(graph: Any, place: Place) -> None:
    nodes = _find(graph, "serve").node_def
    nodes.add(name="evil", op="TextLineDataset", input=[_add_text(nodes, "path", str(place.secret))])


@CASES.spoil(_make)
def a_library_behind_a_name_of_its_own(graph: Any, place: Place) -> None:
    _find(graph, "serve").node_def.add(name="evil", op="PeoplesOwnOperation")


@CASES.spoil(_make)
def variables_from_a_path_of_its_own(graph: Any, place: Place) -> None:
    restore = _find(graph, "traced_restore")
    path = _add_text(restore.node_def, "path", str(place.outside / "variables"))
    next(node for node in restore.node_def if node.op == "RestoreV2").input[0] = path


@CASES.spoil(_make)
def a_saver_that_is_called(graph: Any, place: Place) -> None:
    node = _find(graph, "serve").node_def.add(name="evil", op="StatefulPartitionedCall")
    node.attr["f"].func.name = _find(graph, "traced_save").signature.name


@CASES.spoil(_make)
def a_file_beside_the_graph_that_lies_elsewhere(graph: Any, place: Place) -> None:
    graph.asset_file_def.add(filename="../../outside/secret.txt")


@CASES.spoil(_make)
def a_constant_that_fills_the_memory(graph: Any, place: Place) -> None:
    node = graph.graph_def.node.add(name="evil", op="Const")
    node.attr["dtype"].type = node.attr["value"].tensor.dtype = 1
    node.attr["value"].tensor.float_val.append(1.0)
    for _ in range(4):
        node.attr["value"].tensor.tensor_shape.dim.add(size=2**10)


@CASES.spoil(_make)
def a_function_that_calls_itself(graph: Any, place: Place) -> None:
    function = _find(graph, "serve")
    function.node_def.add(name="evil", op="PartitionedCall").attr["f"].func.name = function.signature.name


@CASES.spoil(_make)
def an_object_that_restores_itself(graph: Any, place: Place) -> None:
    graph.object_graph_def.nodes[0].registered_saver = "people.Saver"


@CASES.spoil(_make_files)
def a_library_among_the_files(directory: Path, place: Place) -> None:
    (directory / "assets").mkdir(exist_ok=True)
    (directory / "assets" / "plugin.so").write_bytes(b"\x7fELF")


@CASES.spoil(_make_files)
def variables_that_are_a_link(directory: Path, place: Place) -> None:
    shutil.rmtree(directory / "variables")
    (directory / "variables").symlink_to(place.outside)


@CASES.spoil(_make_files)
def a_second_graph_in_text(directory: Path, place: Place) -> None:
    (directory / "saved_model.pbtxt").write_text("saved_model_schema_version: 1")


@CASES.spoil(_make_files)
def a_graph_that_is_none(directory: Path, place: Place) -> None:
    (directory / "saved_model.pb").write_bytes(b"\xff" * 5_000)


@CASES.spoil(_make_files)
def variables_that_were_cut(directory: Path, place: Place) -> None:
    (directory / "variables" / "variables.data-00000-of-00001").write_bytes(b"1234")
