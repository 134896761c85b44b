import numpy as np
import pytest
import tf_keras as keras

from bmp.compression.channels.groups import find_groups
from bmp.compression.channels.shrink import check_removal, count_removed, shrink
from bmp.errors import ExportError
from bmp.models import MODELS
from bmp.models.layers import ScaledTanh
from bmp.signature import Signature, TensorSpec

layers = keras.layers


def build_residual():
    x = keras.Input((8, 8, 2), name="x")
    y = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(x)
    short = y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.BatchNormalization(scale=False)(layers.Conv2D(8, 3, padding="same", activation="relu")(y))
    y = layers.MaxPooling2D()(layers.Add()([y, short]))
    y = layers.Dense(16, "sigmoid")(layers.Flatten()(y))
    return keras.Model(x, layers.Dense(3)(layers.Dropout(0.5)(y)))


def build_branches():
    x = keras.Input((8, 8, 2), name="x")
    a, b = layers.Conv2D(4, 3, activation="tanh")(x), layers.Conv2D(4, 3, activation="swish")(x)
    y = layers.Concatenate()([a, b, layers.Cropping2D(1)(x)])
    y = layers.PReLU()(layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")(y))
    gate = layers.Dense(20, "sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(y))
    y = layers.Conv2DTranspose(8, 3, strides=2)(layers.Multiply()([y, gate]))
    y = ScaledTanh()(layers.Conv1D(8, 3)(layers.Reshape((-1, 8))(y)))
    return keras.Model(x, layers.Dense(3)(layers.GlobalMaxPooling1D()(y)))


def build_shared():
    x = keras.Input((6,), name="x")
    shared = layers.Dense(8, "gelu")
    y = layers.Maximum()([shared(layers.Dense(4, "relu")(x)), shared(layers.Dense(4, "elu")(x))])
    return keras.Model(x, layers.Dense(3)(y))


def build_sequential():
    return keras.Sequential([keras.Input((6,), name="x"), layers.Dense(8, "relu"), layers.Dense(4), layers.Dense(3)])


@pytest.fixture(params=[build_residual, build_branches, build_shared, build_sequential], ids=lambda b: b.__name__)
def case(request):
    """A model with drawn weights, its channels, which units are kept, inputs and the smaller model."""
    model, random = request.param(), np.random.default_rng(0)
    model.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in model.get_weights()])
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.moving_variance.assign(random.uniform(0.5, 2.0, layer.moving_variance.shape))
    channels = find_groups(model)
    kept = np.ones(channels.size, bool)
    for group in channels.free:
        kept[random.permutation(group.units)[: len(group.units) // 2]] = False
    inputs = {"x": random.normal(size=(5, *model.input_shape[1:])).astype(np.float32)}
    return model, channels, kept, inputs, shrink(model, channels, kept)


def test_the_smaller_network_does_what_the_larger_one_does_without_the_channels(case):
    model, channels, kept, inputs, small = case
    before = model.get_weights()
    assert check_removal(model, small, channels, kept, inputs) <= 1e-5
    assert small.count_params() < 0.75 * model.count_params()
    assert np.abs(model.predict(inputs["x"], verbose=0) - small.predict(inputs["x"], verbose=0)).max() > 1e-3
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_a_difference_is_found(case):
    model, channels, kept, inputs, small = case
    small.layers[-1].bias.assign_add([0.1, 0.0, 0.0])
    with pytest.raises(ExportError, match="at most 1e-05 is rounding"):
        check_removal(model, small, channels, kept, inputs)


def test_a_model_keeps_its_layers_and_their_names(case):
    model, *_, small = case
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    assert small.input_names == model.input_names
    assert small.output_shape == model.output_shape


def test_neurons_are_taken_out_of_both_kernels():
    model = build_sequential()
    first, second, _ = model.layers
    channels = find_groups(model)
    kept = np.ones(channels.size, bool)
    kept[channels.leaving[first.name][[1, 5]]] = False
    small = shrink(model, channels, kept)
    stay = [0, 2, 3, 4, 6, 7]
    np.testing.assert_array_equal(small.layers[0].kernel, first.kernel.numpy()[:, stay])
    np.testing.assert_array_equal(small.layers[0].bias, first.bias.numpy()[stay])
    np.testing.assert_array_equal(small.layers[1].kernel, second.kernel.numpy()[stay])


def test_weights_that_go_are_counted_over_all_kernels():
    model = build_sequential()
    channels = find_groups(model)
    group = channels.groups[0]
    assert count_removed(model, channels, group.units[:2]) == (2 * 6 + 2 * 4, 2 * 6 + 2 * 4)
    assert count_removed(model, channels, group.units) == (8 * 6 + 8 * 4, 8 * 6 + 8 * 4)


def test_a_convolution_multiplies_at_every_pixel_it_returns():
    x = keras.Input((9, 9, 2))
    y = layers.DepthwiseConv2D(2, name="each")(layers.Conv2D(4, 3, 2, name="a")(x))  # 4x4, then 3x3
    model = keras.Model(x, layers.Dense(5)(layers.GlobalAveragePooling2D()(y)))
    channels = find_groups(model)
    unit = channels.groups[0].units[:1]
    assert count_removed(model, channels, unit) == (9 * 2 + 4 + 5, 9 * 2 * 16 + 4 * 9 + 5)


IMAGES = TensorSpec("image", "float32", (32, 32))
TOKENS = TensorSpec("tokens", "int32", (8,), vocabulary=20)


@pytest.mark.parametrize(
    ("name", "args", "source", "fixed"),
    [
        ("mlp", {"hidden": [16, 16], "dropout": 0.5}, IMAGES, 0),
        ("cnn", {"filters": [8, 8], "dense": [16]}, IMAGES, 0),
        ("lenet5", {}, IMAGES, 1),  # the table of c3 names maps of c1
        ("mobilenet_v2", {"alpha": 0.25}, IMAGES, 0),
        ("transformer", {"layers": 1, "heads": 2, "width": 16, "patch": 8}, IMAGES, 3),  # but not the dense block
        ("gpt", {"layers": 1, "heads": 2, "width": 16}, TOKENS, 2),
    ],
)
def test_networks_of_the_shelf(name, args, source, fixed):
    shape = (8, 20) if source is TOKENS else (5,)
    signature = Signature((source,), (TensorSpec("out", "float32", shape),), "multiclass")
    model = MODELS[name](signature, **args)
    channels = find_groups(model)
    assert sum(bool(group.obstacle) for group in channels.groups if "out" not in group.layers) == fixed
    kept = np.ones(channels.size, bool)
    for group in channels.free:
        kept[group.units[::2]] = False
    inputs = {source.name: np.random.default_rng(0).integers(0, 20, (2, *source.shape)).astype(source.dtype)}
    small = shrink(model, channels, kept)
    assert check_removal(model, small, channels, kept, inputs) <= 1e-5
    assert small.count_params() < model.count_params()
