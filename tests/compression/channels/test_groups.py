import numpy as np
import pytest
import tf_keras as keras

from bmp.compression.channels.groups import find_groups
from bmp.errors import ExportError, UnknownNameError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

layers = keras.layers
IMAGES = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("out", "float32", (3,)),), "multiclass")


def draw(inputs, outputs, skip=()):
    channels = find_groups(keras.Model(inputs, outputs), skip)
    return channels, {group.name: group for group in channels.groups}


def test_what_is_added_goes_together():
    channels = find_groups(MODELS["resnet"](IMAGES, filters=4, blocks=2, stages=2))
    assert {group.name: group.layers for group in channels.free} == {
        "stem_conv": ("stem_conv", "block_1_1_2_conv", "block_1_2_2_conv"),
        "block_1_1_1_conv": ("block_1_1_1_conv",),
        "block_1_2_1_conv": ("block_1_2_1_conv",),
        "block_2_1_1_conv": ("block_2_1_1_conv",),
        "block_2_1_2_conv": ("block_2_1_2_conv", "block_2_1_shortcut_conv", "block_2_2_2_conv"),
        "block_2_2_1_conv": ("block_2_2_1_conv",),
    }
    assert [len(group.units) for group in channels.free] == [4, 4, 4, 8, 8, 8]
    assert channels.groups[-1].obstacle == "they are the output"


def test_what_is_concatenated_stays_apart_until_it_is_added():
    x = keras.Input((4, 4, 2))
    joined = layers.Concatenate()([layers.Conv2D(2, 1, name="a")(x), layers.Conv2D(4, 1, name="b")(x)])
    y = layers.Add()([joined, layers.Conv2D(6, 1, name="c")(x)])
    channels, groups = draw(x, layers.Dense(2, name="out")(layers.Flatten()(y)))
    assert groups["a"].layers == ("a", "c")
    assert groups["b"].layers == ("b", "c")
    units = np.concatenate([groups["a"].units, groups["b"].units])
    np.testing.assert_array_equal(channels.leaving["c"], units)
    np.testing.assert_array_equal(channels.entering["out"], np.tile(units, 16))


def test_a_gate_belongs_to_what_it_multiplies():
    x = keras.Input((4, 4, 2))
    y = layers.Conv2D(4, 1, name="a")(x)
    gate = layers.Dense(4, "sigmoid", name="gate")(layers.GlobalAveragePooling2D()(y))
    y = layers.Multiply()([y, layers.Reshape((1, 1, 4))(gate)])
    _, groups = draw(x, layers.Dense(2)(layers.GlobalMaxPooling2D()(y)))
    assert groups["a"].layers == ("a", "gate")
    assert not groups["a"].obstacle


def test_a_depthwise_convolution_makes_several_channels_of_one():
    x = keras.Input((4, 4, 2))
    y = layers.DepthwiseConv2D(3, depth_multiplier=2, name="wide")(layers.Conv2D(3, 1, name="a")(x))
    channels, groups = draw(x, layers.Conv2D(2, 1, name="out")(y))
    np.testing.assert_array_equal(channels.entering["out"], np.repeat(groups["a"].units, 2))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (layers.LayerNormalization(name="norm"), "they reach 'norm' (LayerNormalization), which may mix channels"),
        (layers.Softmax(name="norm"), "they reach 'norm' (Softmax), which may mix channels"),
        (layers.Activation("softmax", name="norm"), "they reach 'norm' (Activation), which may mix channels"),
        (layers.Reshape((2, 6), name="norm"), "they reach 'norm' (Reshape), which may mix channels"),
        (layers.Permute((2, 1), name="norm"), "they reach 'norm' (Permute), which may mix channels"),
        (
            layers.BatchNormalization(axis=1, name="norm"),
            "they reach 'norm' (BatchNormalization), which may mix channels",
        ),
    ],
)
def test_channels_stay_that_reach_what_may_mix_them(layer, reason):
    x = keras.Input((3, 5))
    y = layer(layers.Dense(4, name="a")(x))
    _, groups = draw(x, layers.Dense(2)(y))
    assert groups["a"].obstacle == reason


def test_a_softmax_on_the_way_keeps_its_own_channels_and_no_others():
    x = keras.Input((5,))
    y = layers.Dense(4, "softmax", name="b")(layers.Dense(4, name="a")(x))
    _, groups = draw(x, layers.Dense(2)(y))
    assert not groups["a"].obstacle
    assert groups["b"].obstacle == "the activation of 'b' may mix them"


def test_channels_stay_that_are_added_to_an_input_or_an_output():
    x = keras.Input((5,))
    y = layers.Add()([x, layers.Dense(5, name="a")(x)])
    b = layers.Dense(4, name="b")(y)
    _, groups = draw(x, [layers.Dense(2)(b), layers.ReLU()(b)])
    assert groups["a"].obstacle == "they are an input"
    assert groups["b"].obstacle == "they are the output"


def test_a_layer_that_is_called_twice_couples_what_enters_it():
    x = keras.Input((5,))
    shared = layers.Dense(4, name="shared")
    first, second = shared(layers.Dense(3, name="a")(x)), shared(layers.Dense(3, name="b")(x))
    _, groups = draw(x, layers.Dense(2)(layers.Subtract()([first, second])))
    assert groups["a"].layers == ("a", "b")
    assert len(groups["shared"].units) == 4


def test_an_activation_that_is_called_on_several_widths_is_left_alone():
    x = keras.Input((5,))
    relu = layers.ReLU(name="relu")
    y = relu(layers.Dense(4, name="b")(relu(layers.Dense(3, name="a")(x))))
    _, groups = draw(x, layers.Dense(2)(y))
    assert groups["a"].obstacle == groups["b"].obstacle == "they reach 'relu', which is called on several widths"


def test_channels_stay_of_layers_to_be_skipped():
    model = MODELS["resnet"](IMAGES, filters=4, blocks=1, stages=2)
    channels = find_groups(model, ["block_1_1_2_conv"])
    assert {group.name for group in channels.free} == {"block_1_1_1_conv", "block_2_1_1_conv", "block_2_1_2_conv"}
    with pytest.raises(UnknownNameError, match="Did you mean 'stem_conv'"):
        find_groups(model, ["stemconv"])


def test_groups_are_found_by_every_layer_in_them():
    channels = find_groups(MODELS["resnet"](IMAGES, filters=4, blocks=1, stages=2))
    assert channels.find("block_1_1_2_conv") == channels.find("stem_conv") == [channels.groups[0]]
    with pytest.raises(UnknownNameError, match="No layer that makes channels is named 'stem_norm'"):
        channels.find("stem_norm")


def test_a_subclassed_model_is_refused():
    class Own(keras.Model):
        pass

    with pytest.raises(ExportError, match="is subclassed"):
        find_groups(Own())
