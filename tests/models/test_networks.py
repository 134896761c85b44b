"""What is special about one network: mlp, cnn, lenet5, resnet, mobilenet_v2, rnn."""

import re

import numpy as np
import pytest
import tf_keras as keras
from model_cases import COLOUR, IMAGES, PHOTOS, ROWS, SERIES, TEXT, make_batch, sign

from bmp.errors import ConfigError
from bmp.models import MODELS
from bmp.signature import TensorSpec

FIELD = TensorSpec("image", "float32", (32, 32))


def build(name, args, signature):
    keras.utils.set_random_seed(1)
    return MODELS.bind(name, args)(signature)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mlp", {"hidden": [8]}),
        ("cnn", {"filters": [4], "dense": [8]}),
        ("resnet", {"blocks": 1, "stages": 1, "filters": 4}),
        ("transformer", {"layers": 1, "heads": 1, "width": 4, "patch": 4}),
        ("rnn", {"units": [4]}),
    ],
)
def test_scale_is_in_the_graph(name, args):
    scaled, plain = build(name, {**args, "scale": 0.25}, sign(IMAGES)), build(name, args, sign(IMAGES))
    plain.set_weights(scaled.get_weights())
    inputs = make_batch(sign(IMAGES)).inputs["image"]
    np.testing.assert_allclose(scaled(inputs), plain(inputs * 0.25), atol=1e-6)
    assert np.abs(scaled(inputs) - plain(inputs)).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "args", "signature"),
    [
        ("mlp", {"hidden": [32], "dropout": 0.5}, sign(ROWS)),
        ("cnn", {"filters": [4], "dense": [32], "dropout": 0.5}, sign(IMAGES)),
        ("rnn", {"units": [16], "dropout": 0.5}, sign(SERIES)),
        ("transformer", {"layers": 1, "heads": 1, "width": 8, "dropout": 0.5}, sign(TEXT)),
        ("gpt", {"layers": 1, "heads": 1, "width": 8, "dropout": 0.5}, sign(TEXT, objective="next_token")),
    ],
)
def test_dropout_acts_in_training_only(name, args, signature):
    model, inputs = build(name, args, signature), make_batch(signature).inputs
    np.testing.assert_array_equal(model(inputs, training=False), model(inputs, training=False))
    assert np.abs(model(inputs, training=True) - model(inputs, training=False)).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": [4], "activation": "relux"}),
        ("cnn", {"filters": [4], "dense": [-1]}),
        ("cnn", {"filters": [4], "dense": [], "kernel_size": 0}),
        ("cnn", {"filters": [4], "dense": [], "dropout": 1.5}),
        ("lenet5", {"resize": [32]}),
        ("lenet5", {"resize": [28, 28], "pooling": "none"}),
        ("resnet", {"blocks": 0}),
        ("mobilenet_v2", {"alpha": 0.0}),
        ("rnn", {"units": []}),
        ("rnn", {"units": [4], "cell": "elman"}),
        ("transformer", {"heads": 0}),
    ],
)
def test_an_argument_that_makes_no_network_is_a_mistake_in_the_recipe(name, args):
    with pytest.raises(ConfigError):
        build(name, args, sign(IMAGES))


@pytest.mark.parametrize(
    ("name", "args", "signature", "message", "way_out"),
    [
        ("cnn", {"filters": [4], "dense": []}, sign(ROWS), "input 'features' is float32 (B, 6)", "model.build: mlp"),
        ("cnn", {"filters": [4], "dense": []}, sign(ROWS, IMAGES), "the data has 2: features, image", "build: mlp"),
        ("lenet5", {}, sign(IMAGES), "these images have 8x8", "model.args.resize: [28, 28]"),
        ("mobilenet_v2", {}, sign(PHOTOS), "these have 9x7", "model.args.resize: [32, 32]"),
        ("rnn", {"units": [4]}, sign(ROWS), "input 'features' is float32 (B, 6)", "model.build: mlp"),
        ("rnn", {"units": [4]}, sign(PHOTOS), "input 'photo' is uint8 (B, 9, 7, 3)", "cnn for images"),
        ("transformer", {}, sign(ROWS), "input 'features' is float32 (B, 6)", "model.build: mlp"),
        ("transformer", {}, sign(PHOTOS), "input 'photo' is uint8 (B, 9, 7, 3)", "model.args.patch"),
        ("transformer", {"patch": 3}, sign(IMAGES), "images of 8x8 into patches of 3x3", "divides both"),
        ("transformer", {"patch": 2}, sign(TEXT), "and patch is 2", "tokens"),
        ("transformer", {"heads": 3, "width": 8}, sign(TEXT), "width of 8 among 3 heads", "multiple of heads"),
        ("mlp", {"hidden": []}, sign(TensorSpec("wave", "float32", (None,))), "float32 (B, ?)", "data.transforms"),
        ("mlp", {"hidden": []}, sign(TEXT, objective="next_token"), "'next_token'", "model.build: gpt"),
        ("gpt", {}, sign(TEXT), "output 'probabilities' is float32 (B, 4)", "model.build: transformer"),
        ("gpt", {}, sign(IMAGES, objective="next_token"), "input 'image' is float32 (B, 8, 8)", "next_token"),
    ],
)
def test_data_a_model_is_not_for_is_refused_with_a_way_out(name, args, signature, message, way_out):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        build(name, args, signature)
    assert way_out in str(caught.value)


def test_mlp_joins_numbers_and_embeds_tokens():
    signature = sign(ROWS, PHOTOS, COLOUR, TEXT)
    model, inputs = build("mlp", {"hidden": [], "embedding": 5}, signature), make_batch(signature).inputs
    assert model.get_layer("probabilities").kernel.shape[0] == 6 + 9 * 7 * 3 + 5 + 7 * 5
    for name, array in inputs.items():  # every input counts
        changed = {**inputs, name: array[::-1]}
        assert np.abs(model(changed) - model(inputs)).max() > 1e-4, name


# === LeNet-5 ===
def test_lenet5_has_the_weights_of_the_paper():
    model = build("lenet5", {}, sign(FIELD))
    counts = {layer.name: layer.count_params() for layer in model.layers if layer.count_params()}
    published = {"c1": 156, "s2_coefficient": 12, "c3": 1516, "s4_coefficient": 32, "c5": 48120, "f6": 10164}
    assert counts == {**published, "probabilities": 4 * 85}
    shapes = {name: model.get_layer(name).output_shape[1:] for name in ("c1", "s2", "c3", "s4", "c5")}
    assert shapes == {"c1": (28, 28, 6), "s2": (14, 14, 6), "c3": (10, 10, 16), "s4": (5, 5, 16), "c5": (1, 1, 120)}


def test_the_maps_of_c3_look_at_those_of_s2_that_table_1_connects():
    model = build("lenet5", {}, sign(FIELD))
    layer = model.get_layer("c3")
    table = ["X...XXX..XXXX.XX", "XX...XXX..XXXX.X", "XXX...XXX..X.XXX", ".XXX..XXXX..X.XX", "..XXX..XXXX.XX.X"]
    table.append("...XXX..XXXX.XXX")
    quiet = np.zeros((1, 14, 14, 6), np.float32)
    for source in range(6):
        loud = quiet.copy()
        loud[..., source] = 1
        heard = np.abs(layer(loud) - layer(quiet)).max(axis=(0, 1, 2)) > 0
        assert "".join(".X"[int(h)] for h in heard) == table[source]


def test_lenet5_pads_mnist_with_background():
    small = TensorSpec("image", "float32", (28, 28))
    padding, plain = build("lenet5", {"offset": -0.1}, sign(small)), build("lenet5", {"offset": -0.1}, sign(FIELD))
    images = np.random.default_rng(0).uniform(0, 1, (3, 28, 28)).astype(np.float32)
    framed = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    np.testing.assert_allclose(padding(images), plain(framed), atol=1e-6)


@pytest.mark.parametrize(("args", "count"), [({"connections": "full"}, 900), ({"pooling": "max"}, -44)])
def test_lenet5_in_other_ways(args, count):
    plain, other = build("lenet5", {}, sign(FIELD)), build("lenet5", args, sign(FIELD))
    assert other.count_params() - plain.count_params() == count


# === Published sizes ===
@pytest.mark.parametrize("blocks", [1, 3])
def test_resnet_has_6n_plus_2_layers(blocks):
    model = build("resnet", {"blocks": blocks}, sign(TensorSpec("image", "float32", (32, 32, 3))))
    on_the_way = [
        layer
        for layer in model.layers
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)) and "shortcut" not in layer.name
    ]
    assert len(on_the_way) == 6 * blocks + 2
    assert model.get_layer("pool").input_shape == (None, 8, 8, 64)


def test_mobilenet_v2_has_the_published_number_of_weights():
    signature = sign(TensorSpec("image", "float32", (224, 224, 3)), width=1000)
    assert build("mobilenet_v2", {}, signature).count_params() == 3_538_984


# === Recurrent networks ===
def test_rnn_ignores_padding_unless_zero_is_a_token():
    short, long = TensorSpec("tokens", "int32", (4,), 11), TensorSpec("tokens", "int32", (7,), 11)
    tokens = np.array([[3, 1, 4, 1]], np.int32)
    padded = np.pad(tokens, ((0, 0), (0, 3)))
    for padding in (True, False):
        args = {"units": [5, 4], "padding": padding}
        one, other = build("rnn", args, sign(short)), build("rnn", args, sign(long))
        assert (np.abs(one(tokens) - other(padded)).max() < 1e-6) == padding


def test_rnn_lays_out_only_what_is_short_enough(monkeypatch):
    monkeypatch.setattr("bmp.models.rnn.MAX_UNROLLED_STEPS", 4)
    for steps, laid_out in ((4, True), (5, False)):
        model = build("rnn", {"units": [2]}, sign(TensorSpec("series", "float32", (steps, 1))))
        assert model.get_layer("lstm_1").unroll == laid_out


def test_rnn_says_the_same_laid_out_or_as_a_loop():
    inputs = make_batch(sign(SERIES)).inputs
    for cell in ("lstm", "gru"):
        loop, flat = (
            build("rnn", {"units": [4], "cell": cell, "unroll": unroll}, sign(SERIES)) for unroll in (False, True)
        )
        np.testing.assert_allclose(loop(inputs), flat(inputs), atol=1e-6)
