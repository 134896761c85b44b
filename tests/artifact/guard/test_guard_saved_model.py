import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from bmp.artifact.guard import Limits, check_saved_model
from bmp.artifact.guard.operations import OPERATIONS, SAVER_OPERATIONS
from bmp.errors import ArtifactError, UnsafeError


class Net(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(tf.ones((4, 3)))

    @tf.function(input_signature=[tf.TensorSpec((None, 4), name="x")])
    def serve(self, x):
        steps = tf.while_loop(lambda step: step < 3, lambda step: (step + 1,), (tf.constant(0),))
        return {"y": tf.nn.relu(x @ self.weight) + tf.cast(steps[0], tf.float32)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    net = Net()
    tf.saved_model.save(net, str(directory), signatures=net.serve)
    return directory


@pytest.fixture
def directory(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def edit(directory):
    """Changes the graph: `edit(change)` calls `change(meta_graph)` and returns the directory."""

    def edit(change):
        path = directory / "saved_model.pb"
        model = SavedModel.FromString(path.read_bytes())
        change(model.meta_graphs[0])
        path.write_bytes(model.SerializeToString())
        return directory

    return edit


def find_function(graph, part):
    return next(function for function in graph.graph_def.library.function if part in function.signature.name)


def test_a_plain_model_passes(saved):
    check_saved_model(saved)


def test_the_tables_name_what_tensorflow_has():
    from tensorflow.python.framework import op_def_registry

    made_by_optimizers = {"_Arg", "_Retval"}
    known = OPERATIONS | SAVER_OPERATIONS
    assert {name for name in known - made_by_optimizers if op_def_registry.get(name) is None} == set()


REACHING = """
ReadFile WriteFile MatchingFiles ImmutableConst WholeFileReaderV2 InitializeTableFromTextFileV2 LookupTableExportV2 Save
SaveSlices SaveV2 Restore RestoreV2 RestoreSlice MergeV2Checkpoints ShardedFilename Print PrintV2 DebugIdentityV3
DebugNumericSummary WriteSummary CreateSummaryFileWriter AudioSummary TextLineDataset TFRecordDataset
FixedLengthRecordDatasetV2 CSVDatasetV2 SqlDataset MatchingFilesDataset SaveDatasetV2 LoadDataset SnapshotDatasetV2
DistributedSave DataServiceDatasetV4 RegisterDatasetV2 LMDBReader GeneratorDataset IteratorV2 QueueEnqueueV2 PyFunc
EagerPyFunc PyFuncStateless RpcCall RpcClient RpcServer _Send _Recv CollectiveReduceV2 NcclAllReduce RemoteCall Abort
XlaLaunch XlaHostCompute XlaCustomCallV2 TPUExecute TPUPartitionedCall StringFormat HashTableV2 DecodeJpeg
StaticRegexReplace SymbolicGradient ConsumeMutexLock FileSystemSetConfiguration DecodeProtoV2 NoSuchThing
"""


@pytest.mark.parametrize("place", ["graph", "function", "saver"])
def test_operations_that_reach_out_are_refused_wherever_they_stand(edit, directory, place):
    whole = (directory / "saved_model.pb").read_bytes()
    for operation in REACHING.split():
        if place == "saver" and operation in SAVER_OPERATIONS:
            continue
        (directory / "saved_model.pb").write_bytes(whole)

        def add(graph, operation=operation):
            nodes = {
                "graph": lambda: graph.graph_def.node,
                "function": lambda: find_function(graph, "serve").node_def,
                "saver": lambda: find_function(graph, "traced_restore").node_def,
            }[place]()
            nodes.add(name="evil", op=operation)

        with pytest.raises(
            UnsafeError, match=f"the node 'evil' in .* is the operation '{operation}', which "
        ) as caught:
            check_saved_model(edit(add))
        assert "only compute" in caught.value.expected


def call_the_saver(graph):
    node = find_function(graph, "serve").node_def.add(name="evil", op="StatefulPartitionedCall")
    node.attr["f"].func.name = find_function(graph, "traced_save").signature.name


def name_the_saver_as_operation(graph):
    find_function(graph, "serve").node_def.add(name="evil", op=find_function(graph, "traced_restore").signature.name)


def read_elsewhere(graph):
    restore = find_function(graph, "traced_restore")
    path = restore.node_def.add(name="path", op="Const")
    path.attr["value"].tensor.string_val.append(b"/etc/passwd")
    next(node for node in restore.node_def if node.op == "RestoreV2").input[0] = "path:output:0"


def append_a_climb(graph):
    save = find_function(graph, "traced_save")
    constant = next(node for node in save.node_def if node.attr["value"].tensor.string_val[:1] == [b"_temp/part"])
    constant.attr["value"].tensor.string_val[0] = b"/../../../etc/cron.d/x"


def be_given_a_path_of_its_own(graph):
    next(node for node in graph.graph_def.node if node.name == "saver_filename").op = "PlaceholderWithDefault"


def offer_the_saver(graph):
    graph.object_graph_def.concrete_functions[find_function(graph, "traced_save").signature.name].SetInParent()


def sign_the_saver(graph):
    signature = graph.signature_def["evil"]
    signature.inputs["path"].name = "saver_filename:0"
    signature.outputs["done"].name = graph.saver_def.save_tensor_name


def run_elsewhere(graph):
    graph.graph_def.node[0].device = "/job:worker/replica:0/task:7/device:CPU:0"


def fill_the_memory(graph):
    node = graph.graph_def.node.add(name="evil", op="Const")
    node.attr["value"].tensor.dtype = 1
    node.attr["value"].tensor.float_val.append(1.0)
    for _ in range(4):
        node.attr["value"].tensor.tensor_shape.dim.add(size=2**10)


def forge_a_handle(graph):
    node = graph.graph_def.node.add(name="evil", op="Const")
    node.attr["value"].tensor.dtype = 20
    node.attr["value"].tensor.resource_handle_val.add(name="x")


def call_itself(graph):
    function = find_function(graph, "serve")
    node = function.node_def.add(name="evil", op="PartitionedCall")
    node.attr["f"].func.name = function.signature.name


def define_twice(graph):
    graph.graph_def.library.function.append(find_function(graph, "serve"))


def name_a_file_elsewhere(graph):
    graph.asset_file_def.add(filename="../../etc/passwd")


def name_a_file_that_is_missing(graph):
    graph.asset_file_def.add(filename="words.txt")


def save_by_code_of_its_own(graph):
    graph.object_graph_def.nodes[0].registered_saver = "people.Saver"


UNSAFE = {
    call_the_saver: "the node 'evil' calls the function that reads or writes variables",
    name_the_saver_as_operation: "the node 'evil' calls the function that reads or writes variables",
    read_elsewhere: "touches a file at a path of its own",
    append_a_climb: "touches a file at a path of its own",
    be_given_a_path_of_its_own: "its saver is not given the path of the variables",
    offer_the_saver: "offers the function that reads or writes variables",
    sign_the_saver: "whoever asks its signature 'evil' says where",
    run_elsewhere: "on another machine",
    fill_the_memory: "with the constant 'evil', takes .* would become 4,398,046,5",
    forge_a_handle: "the constant 'evil' stands for an object in memory",
    call_itself: "functions call each other in a circle, '__inference_",
    define_twice: "two functions of one name",
    name_a_file_elsewhere: "it names the file '../../etc/passwd'",
    name_a_file_that_is_missing: "it names the file 'words.txt', which is not in assets/",
    save_by_code_of_its_own: "saved by code of its own, 'people.Saver'",
}


@pytest.mark.parametrize("change", UNSAFE, ids=lambda change: change.__name__)
def test_what_could_do_harm_is_refused(edit, change):
    with pytest.raises(UnsafeError, match=UNSAFE[change]) as caught:
        check_saved_model(edit(change))
    assert str(caught.value).isprintable()


# --- files ---


@pytest.mark.parametrize(
    "name", ["variables/evil.txt", "variables/deep/variables.index", "assets.extra/evil.py", "assets/plugin.so"]
)
def test_files_that_tensorflow_does_not_write_are_refused(directory, name):
    (directory / name).parent.mkdir(exist_ok=True)
    (directory / name).touch()
    with pytest.raises(UnsafeError, match=f"a SavedModel has no file {name}"):
        check_saved_model(directory)


def test_its_own_files_and_what_lies_beside_them_pass(directory):
    (directory / "assets.extra").mkdir()
    (directory / "assets.extra/tf_serving_warmup_requests").touch()
    (directory / "model.h5").touch()
    (directory / "bmp").mkdir()
    check_saved_model(directory)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "variables"])
def test_links_are_refused(directory, tmp_path, name):
    (directory / name).rename(tmp_path / "elsewhere")
    (directory / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeError, match=f"{name} is a link to another place"):
        check_saved_model(directory)


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb"])
def test_a_second_graph_file_is_refused(directory, name):
    (directory / name).touch()
    with pytest.raises(UnsafeError, match=f"beside saved_model.pb there is {name}"):
        check_saved_model(directory)


def test_a_pipe_is_refused(directory):
    os.mkfifo(directory / "variables/variables.data-00001-of-00002")
    with pytest.raises(UnsafeError, match="is no plain file"):
        check_saved_model(directory)


def test_variables_that_are_cut_off_are_refused(directory):
    path = directory / "variables/variables.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(UnsafeError, match="and holds 10; it is damaged"):
        check_saved_model(directory)


def test_an_index_that_is_none_is_refused(directory):
    (directory / "variables/variables.index").write_bytes(b"nothing" * 30)
    with pytest.raises(ArtifactError, match="holds no whole variables"):
        check_saved_model(directory)


@pytest.mark.parametrize("content", [b"", b"\xff" * 50])
def test_other_files_are_refused(directory, content):
    (directory / "saved_model.pb").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"(holds no graph|is no whole SavedModel)"):
        check_saved_model(directory)


def test_a_folder_without_graphs_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="should be the graphs of a SavedModel, but is not there"):
        check_saved_model(tmp_path)
    with pytest.raises(ArtifactError, match="it is no folder"):
        check_saved_model(tmp_path / "no")


def test_a_large_graph_is_refused(directory):
    with pytest.raises(UnsafeError, match="up to 1,000 are read"):
        check_saved_model(directory, Limits(graph_bytes=1000))


def test_damage_anywhere_is_found_or_does_no_harm(directory):
    path = directory / "saved_model.pb"
    content, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(content))] if random.integers(2) else damaged)
        try:
            check_saved_model(directory)
        except ArtifactError as error:
            assert "\n" not in str(error)
