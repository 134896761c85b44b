import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmp.artifact.guard import Limits, check_litert
from bmp.artifact.guard.litert import LAYOUTS, UNIONS
from bmp.artifact.litert import LiteRTRunner
from bmp.errors import ArtifactError, UnsafeError
from tests.artifact.guard.litert_by_hand import SIGNATURE, make_code, make_model, make_operator, pack


@pytest.fixture
def check(tmp_path):
    def check(model, limits=Limits()):  # noqa: B008 - immutable
        path = tmp_path / "model.tflite"
        path.write_bytes(model if isinstance(model, bytes) else pack(model))
        check_litert(path, limits)

    return check


def test_a_whole_model_passes_and_runs(check, tmp_path):
    check(make_model())
    outputs = LiteRTRunner(tmp_path / "model.tflite", SIGNATURE).run({"x": np.ones((2, 4), np.float32)})
    np.testing.assert_array_equal(outputs["y"], [[7, 23, 39]] * 2)


def test_what_litert_does_not_know_is_told_in_a_sentence(tmp_path):
    model = make_model()
    use_custom(model)
    (tmp_path / "model.tflite").write_bytes(pack(model))
    runner = LiteRTRunner(tmp_path / "model.tflite", SIGNATURE)
    with pytest.raises(ArtifactError, match=r"cannot be run: .*unresolved custom op: Evil") as caught:
        runner.run({"x": np.ones((2, 4), np.float32)})
    assert "\n" not in str(caught.value)


# --- what is refused ---


def use_custom(model):
    model.operatorCodes = [make_code(schema.BuiltinOperator.CUSTOM, b"Evil")]


def use_flex(model):
    model.operatorCodes = [make_code(schema.BuiltinOperator.CUSTOM, b"FlexReadFile")]


def use_delegate(model):
    model.operatorCodes = [make_code(schema.BuiltinOperator.DELEGATE)]


def use_stablehlo(model):
    model.operatorCodes = [make_code(schema.BuiltinOperator.STABLEHLO_CUSTOM_CALL)]


def use_unknown(model):
    model.operatorCodes = [make_code(4000)]


def use_text(model):
    model.subgraphs[0].tensors[0].type = schema.TensorType.STRING


def use_sparse(model):
    model.subgraphs[0].tensors[1].sparsity = schema.SparsityParametersT()


def use_other_file(model):
    group = schema.ExternalBufferGroupT()
    group.name = b"../secrets"
    model.externalBufferGroups = [group]


def use_other_file_for_a_tensor(model):
    model.subgraphs[0].tensors[1].externalBuffer = 1


def fill_the_memory(model):
    model.subgraphs[0].tensors[3].shape = [2**20, 2**20]


def call_itself(model):
    model.operatorCodes.append(make_code(schema.BuiltinOperator.CALL_ONCE))
    model.subgraphs[0].operators.append(
        make_operator(1, [], [], schema.CallOnceOptionsT(), schema.BuiltinOptions.CallOnceOptions)
    )


def hide_options(model):
    model.subgraphs[0].operators[0].largeCustomOptionsOffset = 64


UNSAFE = {
    use_custom: "The operator 'Evil' is none of LiteRT's own",
    use_flex: "'FlexReadFile' of TensorFlow",
    use_delegate: "operator 51",
    use_stablehlo: "operator 173",
    use_unknown: "operator 4000",
    use_text: "is of type 5, which is no array of numbers",
    use_sparse: "stored sparsely",
    use_other_file: "numbers in other files",
    use_other_file_for_a_tensor: "numbers in another file",
    fill_the_memory: "Its tensors take more than",
    call_itself: "Graph 0 calls itself",
    hide_options: "options beside the model",
}


@pytest.mark.parametrize("spoil", UNSAFE, ids=lambda spoil: spoil.__name__)
def test_what_could_do_harm_is_refused(check, spoil):
    model = make_model()
    spoil(model)
    with pytest.raises(UnsafeError, match=f"^model.tflite is refused: .*{UNSAFE[spoil]}"):
        check(model)


def set_inputs(indices):
    def spoil(model):
        model.subgraphs[0].operators[0].inputs = indices

    return spoil


def point_to_no_buffer(model):
    model.subgraphs[0].tensors[1].buffer = 9


def hold_too_little(model):
    model.buffers[1].data = model.buffers[1].data[:-4]


def count_below_zero(model):
    model.subgraphs[0].tensors[0].shape = [1, -4]


def scale_too_often(model):
    model.subgraphs[0].tensors[1].quantization = quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.quantizedDimension = [1.0, 1.0, 1.0], 1


def write_over_a_constant(model):
    model.subgraphs[0].operators[0].outputs = [1]


def describe_no_buffer(model):
    model.metadata[0].buffer = 99


def never_end_the_version(model):
    model.buffers[3].data = list(b"1.5.0")


def sign_no_tensor(model):
    model.signatureDefs[0].outputs[0].tensorIndex = 99


def sign_no_graph(model):
    model.signatureDefs[0].subgraphIndex = 1


def give_what_there_is_not(model):
    model.subgraphs[0].outputs = [4]


def give_what_nobody_computed(model):
    model.subgraphs[0].operators = []


def use_no_code(model):
    model.subgraphs[0].operators[0].opcodeIndex = 1


def lie_beyond_the_file(model):
    model.buffers[1].offset, model.buffers[1].size = 40, 2**62


def be_of_another_version(model):
    model.version = 2


def hold_no_graph(model):
    model.subgraphs = []


BROKEN = {
    set_inputs([0, 7, 2]): "A tensor of a node is number 7 of 4",
    set_inputs([0, -2, 2]): "A tensor of a node is number -2 of 4",
    set_inputs([3, 1, 2]): "takes a tensor that nothing has computed before",
    point_to_no_buffer: "The buffer of a tensor is number 9 of 4",
    hold_too_little: "takes 48 bytes, and the file holds 44",
    count_below_zero: "has the shape",
    scale_too_often: "has 3 scales along axis 1",
    write_over_a_constant: "writes over a constant",
    describe_no_buffer: "A buffer of metadata is number 99 of 4",
    never_end_the_version: "a text without an end",
    sign_no_tensor: "A tensor of a signature is number 99 of 4",
    sign_no_graph: "The graph of a signature is number 1 of 1",
    give_what_there_is_not: "An input or output of a graph is number 4 of 4",
    give_what_nobody_computed: "An output of graph 0 is computed nowhere",
    use_no_code: "The operator of a node is number 1 of 1",
    lie_beyond_the_file: "lies outside of the file",
    be_of_another_version: "of version 2",
    hold_no_graph: "with 0 graphs",
}


@pytest.mark.parametrize("spoil", BROKEN, ids=BROKEN.get)
def test_what_does_not_fit_itself_is_refused(check, spoil):
    model = make_model()
    spoil(model)
    with pytest.raises(ArtifactError, match=f"^model.tflite is no whole LiteRT model: .*{BROKEN[spoil]}") as caught:
        check(model)
    assert not isinstance(caught.value, UnsafeError)


@pytest.mark.parametrize("content", [b"", b"TFL3", bytes(100), b"\xff\xff\xff\xffTFL3" + bytes(64), b"PK\x03\x04" * 9])
def test_other_files_are_refused(check, content):
    with pytest.raises(ArtifactError, match="is no whole LiteRT model"):
        check(content)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"should be a \.tflite file, but is a folder"):
        check_litert(tmp_path)


def test_a_file_of_many_tables_is_refused(check):
    with pytest.raises(UnsafeError, match="more than 5 tables"):
        check(make_model(), Limits(objects=5))


WHOLE = pack(make_model())
_FIXTURE = HealthCheck.function_scoped_fixture


@settings(max_examples=300, deadline=None, suppress_health_check=[_FIXTURE])
@given(data=st.data())
def test_a_damaged_file_passes_or_is_refused_and_what_passes_lies_inside_the_file(tmp_path, data):
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.sampled_from([0, 1, 4, 127, 128, 255, content[place] ^ 1]))
    content = bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    path = Path(tmp_path) / "model.tflite"
    path.write_bytes(content)
    try:
        check_litert(path)
    except ArtifactError as error:
        assert "\n" not in str(error)
    else:
        schema.ModelT.InitFromPackedBuf(content, 0)  # reads every field of every table


# --- the layouts are LiteRT's ---

_SIZES = {"Int8": 1, "Uint8": 1, "Bool": 1, "Int16": 2, "Uint16": 2, "Int32": 4, "Uint32": 4, "Float32": 4}
_SIZES |= {"Int64": 8, "Uint64": 8, "Float64": 8}


def read_layout(name):
    """Returns the layout of a table as its generated reader tells it."""
    source = Path(schema.__file__).read_text()
    reader = re.search(rf"^class {name}\(object\):\n    __slots__(.*?)^(?:def|class) ", source, re.S | re.M)[1]
    slots = {}
    for method in re.split(rf"    # {name}\n", reader)[1:]:
        title = re.match(r"    def (\w+)\(self", method)[1]
        offset = re.search(r"self\._tab\.Offset\((\d+)\)", method)
        if offset and not re.fullmatch(r"\w+(AsNumpy|Length|IsNone)", title):
            slots[(int(offset[1]) - 4) // 2] = _read_slot(method)
    return [slots.get(slot, "0") for slot in range(max(slots, default=-1) + 1)]


def _read_slot(method):
    table = re.search(r"obj = (\w+)\(", method)
    number = re.search(r"number_types\.(\w+)Flags, [ao]", method)
    if "_tab.Union" in method:
        return "<>"
    kind = table[1] if table else "s" if "_tab.String(" in method else str(_SIZES[number[1]])
    return f"[{kind}]" if "self._tab.Vector(o)" in method else kind


def _split(layout):
    return re.findall(r"\[\w+\]|<\w+>|[A-Z]\w*|[01248s]", layout)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_layout_of_a_table_is_that_of_the_schema(name):
    assert [re.sub(r"<\w+>", "<>", slot) for slot in _split(LAYOUTS[name])] == read_layout(name)


@pytest.mark.parametrize("union", UNIONS)
def test_the_members_of_a_union_are_those_of_the_schema(union):
    names = {number: name for name, number in vars(getattr(schema, union)).items() if not name.startswith("_")}
    assert [_split(layout) for layout in UNIONS[union]] == [
        read_layout(names[number]) if number else [] for number in range(len(names))
    ]
