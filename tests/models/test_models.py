"""The contract of every model, and what is special about one."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.errors import ConfigError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

IMAGES = Signature((TensorSpec("image", "float32", (9, 7)),), (TensorSpec("probabilities", "float32", (5,)),))
COLOURS = Signature((TensorSpec("photo", "float32", (8, 8, 3)),), (TensorSpec("scores", "float32", (2,)),))
ROWS = Signature((TensorSpec("features", "float32", (6,)),), (TensorSpec("probabilities", "float32", (3,)),))
CASES = [
    ("mlp", {"hidden": [16, 8]}, ROWS),
    ("mlp", {"hidden": [16]}, IMAGES),
    ("mlp", {"hidden": []}, COLOURS),
    ("cnn", {"filters": [4, 8], "dense": [16]}, IMAGES),
    ("cnn", {"filters": [4], "dense": [], "kernel_size": 5}, COLOURS),
    ("cnn", {"filters": [], "dense": [16], "dropout": 0.5}, COLOURS),
]
EACH = pytest.mark.parametrize(("name", "args", "signature"), CASES)


def build(name, args, signature):
    keras.utils.set_random_seed(1)
    return MODELS.bind(name, args)(signature)


def make_batch(signature, size=32):
    random = np.random.default_rng(0)
    (spec,), (output,) = signature.inputs, signature.outputs
    inputs = random.normal(size=(size, *spec.shape)).astype(spec.dtype)
    return inputs, random.integers(output.shape[0], size=size)


def test_every_model_is_tried():
    assert {name for name, _, _ in CASES} == set(MODELS)


@EACH
def test_is_named_and_shaped_as_its_signature(name, args, signature):
    model = build(name, args, signature)
    (spec,), (output,) = signature.inputs, signature.outputs
    assert (model.input_names, model.output_names) == ([spec.name], [output.name])
    assert (model.input_shape, model.output_shape) == ((None, *spec.shape), (None, *output.shape))
    assert (model.input.dtype, model.output.dtype) == (spec.dtype, output.dtype)


@EACH
def test_returns_probabilities(name, args, signature):
    inputs, _ = make_batch(signature)
    outputs = build(name, args, signature)(inputs * 10).numpy()
    assert outputs.min() >= 0
    np.testing.assert_allclose(outputs.sum(axis=-1), 1, atol=1e-5)


@EACH
def test_one_step_of_training_lowers_the_loss(name, args, signature):
    model = build(name, args, signature)
    inputs, targets = make_batch(signature)
    loss = keras.losses.SparseCategoricalCrossentropy()
    before = float(loss(targets, model(inputs)))
    model.compile(keras.optimizers.SGD(0.01), loss)
    model.train_on_batch(inputs, targets)
    assert float(loss(targets, model(inputs))) < before


@EACH
def test_every_weight_gets_a_gradient(name, args, signature):
    model = build(name, args, signature)
    inputs, targets = make_batch(signature)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(targets, model(inputs, training=True)))
    gradients = tape.gradient(loss, model.trainable_weights)
    assert len(gradients) >= 2
    for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
        assert gradient is not None and np.any(gradient), weight.name


@pytest.mark.parametrize(("name", "args"), [("mlp", {"hidden": [8]}), ("cnn", {"filters": [4], "dense": [8]})])
def test_scale_is_in_the_graph(name, args):
    scaled, plain = build(name, {**args, "scale": 0.25}, IMAGES), build(name, args, IMAGES)
    plain.set_weights(scaled.get_weights())
    inputs, _ = make_batch(IMAGES)
    np.testing.assert_allclose(scaled(inputs), plain(inputs * 0.25), atol=1e-6)
    assert np.abs(scaled(inputs) - plain(inputs)).max() > 1e-3


@EACH
def test_a_signature_and_a_seed_give_one_model(name, args, signature):
    for one, other in zip(*(build(name, args, signature).get_weights() for _ in range(2)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_cnn_refuses_rows_and_says_what_to_do():
    with pytest.raises(ConfigError, match=re.escape("input 'features' is float32 (B, 6)")) as caught:
        build("cnn", {"filters": [4], "dense": []}, ROWS)
    assert "model.build: mlp" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mlp", {"hidden": [0]}),
        ("mlp", {"hidden": [-1]}),
        ("mlp", {"hidden": [4], "activation": "relux"}),
        ("cnn", {"filters": [0], "dense": []}),
        ("cnn", {"filters": [4], "dense": [-1]}),
        ("cnn", {"filters": [4], "dense": [], "kernel_size": 0}),
        ("cnn", {"filters": [4], "dense": [], "dropout": 1.5}),
    ],
)
def test_an_argument_that_makes_no_network_is_a_mistake_in_the_recipe(name, args):
    with pytest.raises(ConfigError):
        build(name, args, IMAGES)


def test_dropout_acts_in_training_only():
    model = build("cnn", {"filters": [4], "dense": [32], "dropout": 0.5}, IMAGES)
    inputs, _ = make_batch(IMAGES)
    np.testing.assert_array_equal(model(inputs, training=False), model(inputs, training=False))
    assert np.abs(model(inputs, training=True) - model(inputs, training=False)).max() > 1e-3
