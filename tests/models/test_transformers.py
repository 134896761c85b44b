"""What is special about encoder and decoder."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from model_cases import TEXT, make_batch, sign

from bmp.models import MODELS
from bmp.models.layers import SelfAttention
from bmp.objectives import OBJECTIVES
from bmp.signature import TensorSpec

LANGUAGE = sign(TEXT, objective="next_token")


def build(name, signature, **args):
    keras.utils.set_random_seed(1)
    return MODELS.bind(name, {"layers": 2, "heads": 2, "width": 16} | args)(signature)


# === Attention ===
def test_attention_is_the_formula():
    random = np.random.default_rng(0)
    packed = random.normal(size=(2, 5, 3 * 6)).astype(np.float32)
    outputs = SelfAttention(heads=2, causal=True)(packed).numpy()
    for example in range(2):
        for head in range(2):
            query, key, value = (packed[example, :, part * 6 + head * 3 :][:, :3] for part in range(3))
            for position in range(5):
                scores = query[position] @ key[: position + 1].T / np.sqrt(3)
                shares = np.exp(scores) / np.exp(scores).sum()
                expected = shares @ value[: position + 1]
                np.testing.assert_allclose(
                    outputs[example, position, head * 3 : head * 3 + 3], expected, rtol=1e-4, atol=1e-5
                )


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_attention_does_not_see_what_is_masked_however_loud_it_is(size):
    random = np.random.default_rng(0)
    packed = random.normal(size=(1, 4, 12)).astype(np.float32) * size
    mask = np.array([[True, True, False, True]])
    loud = packed.copy()
    loud[:, 2] = 50 * size
    layer = SelfAttention(heads=2)
    shown = [0, 1, 3]
    quiet_outputs, loud_outputs = (layer([values, mask]).numpy()[:, shown] for values in (packed, loud))
    np.testing.assert_allclose(quiet_outputs, loud_outputs, atol=1e-5 * size)


# === Decoder ===
def test_gpt_does_not_look_ahead():
    model = build("gpt", LANGUAGE)
    tokens = make_batch(LANGUAGE, 4).inputs["tokens"]
    for position in range(1, 7):
        changed = tokens.copy()
        changed[:, position:] = (changed[:, position:] + 1) % 11
        before, after = model(tokens).numpy(), model(changed).numpy()
        np.testing.assert_allclose(after[:, :position], before[:, :position], atol=1e-6)
        assert np.abs(after[:, position] - before[:, position]).max() > 1e-5


def test_gpt_has_the_weights_of_the_published_structure():
    spec = TensorSpec("tokens", "int32", (64,), 65)
    signature = type(LANGUAGE)((spec,), (TensorSpec("probabilities", "float32", (64, 65)),), "next_token")
    model = build("gpt", signature, layers=4, heads=4, width=128)
    # Token table, positions, 4 blocks of 12 width² and two scales, one scale at the end; no table for the output.
    assert model.count_params() == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 2 * 128) + 128
    with_bias = build("gpt", signature, layers=4, heads=4, width=128, bias=True)
    assert with_bias.count_params() - model.count_params() == 4 * (3 + 1 + 4 + 1 + 2) * 128 + 128


def test_gpt_starts_as_published():
    model = build("gpt", LANGUAGE, width=64, layers=8)
    kernels = {layer.name: layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")}
    for name, kernel in kernels.items():
        wanted = 0.02 / 4 if name.endswith("_out") else 0.02  # 4: the root of twice the layers
        assert kernel.std() == pytest.approx(wanted, rel=0.1), name
    assert model.get_layer("embed").embeddings.numpy().std() == pytest.approx(0.02, rel=0.1)
    outputs = model(make_batch(LANGUAGE).inputs).numpy()
    np.testing.assert_allclose(-np.log(outputs).mean(), np.log(11), atol=0.05)


def test_the_table_of_gpt_is_one():
    model = build("gpt", LANGUAGE)
    batch = make_batch(LANGUAGE)
    before = model(batch.inputs).numpy()
    embedding = model.get_layer("embed")
    embedding.embeddings.assign(embedding.embeddings * 2)
    assert np.abs(model(batch.inputs) - before).max() > 1e-3
    assert sum("embed" in weight.name for weight in model.weights) == 1


@pytest.mark.parametrize("jit_compile", [False, True])
def test_the_loss_is_taken_from_logits(jit_compile):
    # A certain and wrong model: its probabilities are 0 in float32, and only the logits still know by how much.
    model, batch = build("gpt", LANGUAGE, layers=1), make_batch(LANGUAGE)
    scale = model.get_layer("norm").gamma
    scale.assign(scale * 1e4)
    features = keras.Model(model.inputs, model.get_layer("norm").output)(batch.inputs).numpy().astype(np.float64)
    logits = features @ model.get_layer("embed").embeddings.numpy().astype(np.float64).T
    peak = logits.max(axis=-1, keepdims=True)
    log_sum = peak[..., 0] + np.log(np.exp(logits - peak).sum(axis=-1))
    expected = log_sum - np.take_along_axis(logits, batch.targets[..., None].astype(int), axis=-1)[..., 0]
    assert expected.max() > 150  # nats: e^-150 is no float32
    model.compile(keras.optimizers.SGD(0.0), OBJECTIVES["next_token"].make_loss(), jit_compile=jit_compile)
    loss = model.train_on_batch(batch.inputs, batch.targets)
    assert loss == pytest.approx(expected.mean(), rel=1e-4)


def test_gpt_learns_a_sequence_by_heart():
    tokens = np.tile(np.arange(8) % 11, (4, 1)).astype(np.int32)
    model = build("gpt", LANGUAGE)
    model.compile(keras.optimizers.Adam(0.01), OBJECTIVES["next_token"].make_loss())
    inputs, targets = tokens[:, :7], tokens[:, 1:]
    model.fit(inputs, targets, epochs=40, verbose=0)
    np.testing.assert_array_equal(model(inputs).numpy().argmax(axis=-1), targets)


def test_the_dense_layers_of_a_transformer_can_be_pruned():
    model = build("gpt", LANGUAGE)

    def wrap(layer):
        copy = type(layer).from_config(layer.get_config())
        return tfmot.sparsity.keras.prune_low_magnitude(copy) if isinstance(layer, keras.layers.Dense) else copy

    wrapped = keras.models.clone_model(model, clone_function=wrap)
    dense = [layer for layer in wrapped.layers if type(layer).__name__ == "PruneLowMagnitude"]
    assert len(dense) == 2 * 4
    assert wrapped(make_batch(LANGUAGE).inputs).shape == (32, 7, 11)


# === Encoder ===
def test_the_encoder_ignores_padding_unless_zero_is_a_token():
    tokens = make_batch(sign(TEXT), 8).inputs["tokens"]
    tokens[:, :3] += tokens[:, :3] == 0
    tokens[:, 3:] = 0
    for padding in (True, False):
        model = build("transformer", sign(TEXT), padding=padding)
        table = model.get_layer("embed").embeddings
        before = model(tokens).numpy()
        table.assign(tf.tensor_scatter_nd_add(table, [[0]], tf.range(16.0)[None]))  # what padding looks like
        assert (np.abs(model(tokens) - before).max() < 1e-6) == padding


def test_a_text_of_padding_alone_has_an_answer():
    outputs = build("transformer", sign(TEXT))(np.zeros((2, 7), np.int32)).numpy()
    assert np.isfinite(outputs).all()


def test_patches_are_squares_of_the_image():
    spec = TensorSpec("image", "float32", (8, 12))
    model = build("transformer", sign(spec), patch=4)
    cut = keras.Model(model.inputs, model.get_layer("patches").output)
    image = np.zeros((1, 8, 12), np.float32)
    image[0, 4:, 8:] = 1  # the last of 2 by 3
    changed = np.abs(cut(image) - cut(np.zeros_like(image))).max(axis=-1)[0] > 0
    assert changed.tolist() == [False] * 5 + [True]
