import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.artifact.guard import Limits, check_config
from bmp.artifact.guard.allowed import FUNCTIONS, LAYERS, OWN_LAYERS, PARTS
from bmp.artifact.guard.config import read_json, to_plain
from bmp.errors import ArtifactError, UnsafeError


def make_network(layer):
    """A sequence of an input and one layer, as `.h5` files describe it."""
    first = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 4], "dtype": "float32", "name": "x"}}
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [first, layer]}}


def make_dense(**arguments):
    return {"class_name": "Dense", "config": {"name": "dense", "units": 3, "activation": "relu", **arguments}}


def test_both_styles_become_the_same_plain_description():
    old = make_dense(kernel_initializer={"class_name": "GlorotUniform", "config": {"seed": None}}, dtype="float32")
    new = make_dense(
        activation={"module": "builtins", "class_name": "function", "config": "relu", "registered_name": "function"},
        kernel_initializer={
            "module": "keras.initializers",
            "class_name": "GlorotUniform",
            "config": {"seed": None},
            "registered_name": None,
        },
        dtype={"module": "keras.mixed_precision", "class_name": "Policy", "config": {"name": "float32"}},
    )
    new |= {"module": "keras.layers", "registered_name": None, "build_config": {"input_shape": [None, 4]}}
    plain = to_plain(make_network(new) | {"module": "keras", "compile_config": {"loss": {"class_name": "Lambda"}}})
    assert plain == to_plain(make_network(old)) == make_network(old)


def test_data_that_json_has_no_form_for_is_read_as_data():
    shape = {"class_name": "__tuple__", "items": [3, {"class_name": "TensorShape", "items": [None, 1]}]}
    array = {"class_name": "__numpy__", "config": {"value": [1.0, 2.0], "dtype": "float32"}}
    plain = to_plain(make_network(make_dense(kernel_size=shape, scale=array)))
    assert plain["config"]["layers"][1]["config"]["kernel_size"] == (3, [None, 1])
    assert plain["config"]["layers"][1]["config"]["scale"] == [1.0, 2.0]


def test_layers_of_bmp_pass_by_their_registered_name():
    check_config(make_network({"class_name": "bmp>Attention", "config": {"heads": 2}}))
    layer = {"class_name": "Attention", "config": {"heads": 2}, "registered_name": "bmp>Attention"}
    plain = to_plain(make_network(layer | {"module": "bmp.models.layers.multi_head"}))
    assert plain["config"]["layers"][1]["class_name"] == "bmp>Attention"


def test_functions_of_keras_3_pass_from_their_modules():
    check_config(make_network({"class_name": "Subtract", "config": {}, "module": "keras.src.ops.numpy"}))
    check_config(make_network({"class_name": "GetItem", "config": {}, "module": "keras.src.ops.numpy"}))
    with pytest.raises(UnsafeError, match="is a GetItem"):
        check_config(make_network({"class_name": "GetItem", "config": {}, "module": "operator"}))


def layer(kind, **arguments):
    return {"class_name": kind, "config": {"name": "bad", **arguments}}


UNSAFE = [
    (
        layer("Lambda", function=["4wEA", None, None], function_type="lambda"),
        "The layer bad is a Lambda, which runs code",
    ),
    (layer("Dense2", units=3), "is a Dense2, .* Did you mean 'Dense'"),
    (layer("StringLookup", vocabulary="/etc/passwd"), "is a StringLookup, which keeps a vocabulary"),
    (layer("TextVectorization", vocabulary=["a"]), "keeps a vocabulary"),
    (layer("TFSMLayer", filepath="gs://x"), "loads another model from a path"),
    (layer("TorchModuleWrapper", module="UEsD"), "unpickles"),
    (layer("PruneLowMagnitude"), "take it off with tfmot.sparsity.keras.strip_pruning"),
    (layer("QuantizeWrapperV2"), "convert the network to .tflite"),
    (layer("ClassMethod", cls_symbol="io.gfile.GFile", method_name="write"), "calls a method by its name"),
    (layer("TFOpLambda", function="io.read_file"), "calls tf.io.read_file"),
    (layer("TFOpLambda", function="py_function"), "calls tf.py_function"),
    (layer("TFOpLambda", function=None), "calls tf.None"),
    (layer("SlicingOpLambda", function="numpy_function"), "calls tf.numpy_function"),
    (layer("bmp>Evil"), "is a bmp>Evil"),
    (layer("people>Twice"), "is a people>Twice"),
    (layer("Dense", units=3) | {"module": "os"}, "takes Dense from the module os"),
    (layer("Dense", units=3) | {"module": "keras.src.utils.file_utils"}, "takes Dense from the module keras.src.utils"),
    (layer("Dense", units=3) | {"module": "keras.layers;os"}, "takes Dense from the module"),
    (layer("Dense", units=3) | {"registered_name": "people>Dense"}, "takes Dense by the name people>Dense"),
    (layer("Attention") | {"module": "os", "registered_name": "bmp>Attention"}, "takes Attention from the module os"),
    (layer("Dense", activation="deserialize"), "names the activation deserialize"),
    (layer("Dense", activation="geru"), "names the activation geru.*Did you mean 'gelu'"),
    (layer("Dense", activation=layer("Dense")), "names the activation Dense"),
    (layer("Dense", kernel_initializer=layer("Lambda")), "names the initializer Lambda, which runs code"),
    (layer("Dense", kernel_regularizer="evil"), "names the regularizer evil"),
    (layer("Dense", bias_constraint=layer("NonNeg") | {"module": "os"}), "takes NonNeg from the module os"),
    (layer("Dense", anything=layer("Dense")), "names the class Dense in 'anything'"),
    (layer("Dense", units={"class_name": "function", "config": "system"}), "names the function system"),
    (layer("Dense", x={"class_name": "__lambda__", "config": {"value": "4wEA"}}), "names the class __lambda__"),
    (layer("Dense", x={"class_name": "__typespec__", "module": "os"}), "names the class __typespec__"),
    (layer("Dense", x={"class_name": "CompositeTensor", "spec": {}}), "names the class CompositeTensor"),
    (layer("Dense", x={"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "object"}}), "the dtype object"),
    (layer("Dense", x={"class_name": "__numpy__", "config": {"value": ["a"]}}), "holds an array of None"),
    (layer("Dense", x={"class_name": 3, "config": {}}), "a class that is no word"),
    (layer("Dense", dtype="object"), "names the dtype object"),
    (layer("Dense", dtype={"class_name": "Policy", "config": {"name": "evil"}}), "names the precision evil"),
    (layer("Dense", activation={"module": "os", "class_name": "function", "config": "relu"}), "from the module os"),
    (layer("TimeDistributed", layer=layer("Lambda")), "is a Lambda"),
    ("Dense", "has the word Dense in the place of a layer"),
    (layer("TimeDistributed", layer="Lambda"), "has the word Lambda in the place of a layer, which runs code"),
    (layer("RNN", cell=layer("StackedRNNCells", cells=["GRUCell"])), "has the word GRUCell in the place of a layer"),
    (layer("Bidirectional", layer=layer("LSTM"), backward_layer=layer("Lambda")), "is a Lambda"),
    (layer("RNN", cell=layer("StackedRNNCells", cells=[layer("GRUCell"), layer("Lambda")])), "is a Lambda"),
    (layer("bmp>PairwiseVotes", classes=10**9), "counts to 1,000,000,000"),
    ({"class_name": "Dense", "config": {"name": "../../x"}}, "a name that leads elsewhere"),
    ({"class_name": "Dense", "config": {"name": "/x"}}, "a name that leads elsewhere"),
    ({"class_name": "Dense", "config": {"name": "a\\b"}}, "a name that leads elsewhere"),
    ({"class_name": "Dense", "config": {"name": 3}}, "a name that leads elsewhere"),
]


@pytest.mark.parametrize(("bad", "reason"), UNSAFE)
def test_what_could_run_code_or_reach_a_file_is_refused(bad, reason):
    for config in (make_network(bad), make_network(make_network(bad))):  # also in a network in a network
        with pytest.raises(UnsafeError, match=reason) as caught:
            check_config(copy.deepcopy(config))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("config", [None, [], {}, {"class_name": None}, {"config": {}}, "Dense"])
def test_what_is_no_description_is_refused(config):
    with pytest.raises(ArtifactError, match="names no class"):
        check_config(config)


def test_only_whole_networks_are_described():
    with pytest.raises(UnsafeError, match="The network is a Dense"):
        check_config(make_dense())
    with pytest.raises(ArtifactError, match="no arguments by name"):
        check_config({"class_name": "Sequential", "config": [make_dense()]})


def test_a_layer_has_one_name():
    with pytest.raises(ArtifactError, match="has two names: other and dense"):
        check_config(make_network(make_dense() | {"name": "other"}))


def test_descriptions_are_bounded():
    with pytest.raises(UnsafeError, match="more than 10 values"):
        check_config(make_network(make_dense()), Limits(objects=10))
    deep = make_dense()
    for _ in range(40):
        deep = make_network(deep)
    with pytest.raises(UnsafeError, match="nests deeper than 64 levels"):
        check_config(deep)


@pytest.mark.parametrize(
    ("content", "error", "reason"),
    [
        (b"{", ArtifactError, "is no JSON"),
        (b"\xff\xff", ArtifactError, "is no JSON"),
        (b"1" * 5000, ArtifactError, "is no JSON"),
        (b"[" * 100_000, UnsafeError, "nests deeper"),
        (b'{"a": 1, "a": 2}', UnsafeError, "says the same thing twice"),
        (b" " * 3000 + b"1", UnsafeError, "has 3,001 bytes; up to 3,000 are read"),
    ],
)
def test_json_is_read_with_care(content, error, reason):
    limits = Limits(config_bytes=3000) if b" 1" in content[-2:] else Limits()
    with pytest.raises(error, match=reason):
        read_json(content, "The description", limits)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(sorted(LAYERS)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["class_name", "config", "name", "layers", "module", "dtype", "x"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(_VALUES)
def test_any_json_is_a_description_or_refused(value):
    for config in (value, make_network(value), make_network({"class_name": "Dense", "config": value})):
        try:
            check_config(config)
        except ArtifactError as error:
            assert "\n" not in str(error)


# --- the tables name what there is ---


def test_every_layer_is_one_of_keras_or_bmp():
    from bmp.artifact.guard.builder import find_layer

    for name in (*LAYERS - {"Functional", "Model", "Sequential"}, *(f"bmp>{own}" for own in OWN_LAYERS)):
        assert find_layer(name).__name__ == name.removeprefix("bmp>")


def test_every_layer_of_bmp_is_in_the_table():
    import bmp.models.layers

    assert set(bmp.models.layers.__all__) == OWN_LAYERS


def test_every_function_and_part_is_one_of_tensorflow():
    import tf_keras as keras
    from tensorflow.python.util.tf_export import get_symbol_from_name

    assert [name for name in FUNCTIONS if get_symbol_from_name(name) is None] == []
    kinds = (keras.initializers, keras.regularizers, keras.constraints, keras.activations)
    for (kind, names), module in zip(PARTS.items(), kinds, strict=True):
        assert [name for name in names if module.get(name) is None] == [], kind


def test_a_description_in_json_stays_what_it_is():
    config = make_network(make_dense())
    assert read_json(json.dumps(config), "It", Limits()) == config
