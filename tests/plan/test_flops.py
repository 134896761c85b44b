import pytest
import tensorflow as tf
import tf_keras as keras
from networks import build, flops_of, flops_of_function, make_mlp

from bmp.signature import TensorSpec


def test_a_perceptron_is_two_for_each_weight_one_for_each_bias_and_each_activation():
    assert flops_of(make_mlp(100, 50, 10), 100).total == 2 * (100 * 50 + 50 * 10) + 2 * 50 + 2 * 10


def test_lenet_5_has_the_multiply_adds_that_are_published():
    model = build("lenet5", TensorSpec("image", "float32", (32, 32)), (10,), connections="full")
    # By layer: c1, c3, c5, f6, output; the literature says about 0.4 million.
    products = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 25 * 6 + 120 * 25 * 16 + 120 * 84 + 84 * 10
    assert products == 416_520
    found = flops_of(model, 32, 32)
    assert found.uncounted == frozenset()
    assert 2 * products < found.total < 1.1 * 2 * products  # the rest works on single elements


def test_mobilenet_v2_has_the_300_million_multiply_adds_that_are_published():
    model = build("mobilenet_v2", TensorSpec("image", "float32", (224, 224, 3)), (1000,))
    found = flops_of(model, 224, 224, 3)
    assert found.uncounted == frozenset()
    assert found.total / 2 == pytest.approx(300e6, rel=0.05)


@pytest.mark.parametrize("unroll", [False, True])
def test_an_lstm_counts_its_cell_once_a_step(unroll):
    model = keras.Sequential(
        [keras.Input((7, 3)), keras.layers.LSTM(5, unroll=unroll), keras.layers.Dense(4, activation="softmax")]
    )
    products = 2 * (3 + 5) * 20
    single = 20 + 20 + (3 + 2 + 3 + 1) * 5  # sum and bias of the gates; sigmoid, tanh, products, sum of the cell
    found = flops_of(model, 7, 3)
    assert found.uncounted == frozenset()
    assert found.total == 7 * (products + single) + 2 * 5 * 4 + 4 + 4


def test_a_gpt_counts_its_blocks_and_the_table_of_tokens():
    length, width, vocabulary, layers = 16, 32, 65, 3
    spec = TensorSpec("tokens", "int32", (length,), vocabulary)
    model = build("gpt", spec, (length, vocabulary), "next_token", layers=layers, heads=4, width=width)
    block = length * 12 * width**2 + 2 * length**2 * width  # attention in and out, perceptron; scores and values
    products = layers * block + length * width * vocabulary
    found = flops_of(model, length, dtype="int32")
    assert found.uncounted == frozenset()
    assert 2 * products < found.total < 1.25 * 2 * products


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], 2 * 2 * 3 * 4),
        ("abc,cde->abde", [(2, 3, 4), (4, 5, 6)], 2 * 2 * 3 * 4 * 5 * 6),
        ("...ij,...jk->...ik", [(7, 2, 3), (7, 3, 4)], 2 * 7 * 2 * 3 * 4),
        ("...ij,jk->...ik", [(5, 7, 2, 3), (3, 4)], 2 * 5 * 7 * 2 * 3 * 4),
        ("ij->i", [(2, 3)], 6),
    ],
)
def test_einsum_is_two_for_each_combination_of_its_indices(equation, shapes, expected):
    specs = [tf.TensorSpec(shape) for shape in shapes]
    assert flops_of_function(lambda *arrays: tf.einsum(equation, *arrays), *specs).total == expected


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (keras.layers.Conv1D(4, 3, use_bias=False), (10, 2), 2 * 8 * 4 * 3 * 2),
        (keras.layers.Conv2D(4, 3, groups=2, use_bias=False), (8, 8, 6), 2 * 36 * 4 * 9 * 3),
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False), (8, 8, 6), 2 * 36 * 12 * 9),
        (keras.layers.Conv3D(4, 2, use_bias=False), (3, 3, 3, 2), 2 * 8 * 4 * 8 * 2),
        (keras.layers.Conv2DTranspose(4, 3, use_bias=False), (8, 8, 6), 2 * 64 * 6 * 9 * 4),
        (keras.layers.MaxPool2D(2), (8, 8, 6), 16 * 6 * 4),
        (keras.layers.Embedding(9, 4), (5,), 0),
    ],
)
def test_layers_by_hand(layer, shape, expected):
    dtype = "int32" if isinstance(layer, keras.layers.Embedding) else "float32"
    model = keras.Sequential([keras.Input(shape, dtype=dtype), layer])
    assert flops_of(model, *shape, dtype=dtype).total == expected


def test_a_loop_counts_its_trips_and_one_that_cannot_be_counted_is_named():
    def counted(x):
        return tf.while_loop(lambda i, x: i < 6, lambda i, x: (i + 2, x * 2.0), (0, x))[1]

    def until(x):
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 100.0, lambda x: (x * 2.0,), (x,))[0]

    spec = tf.TensorSpec((10,))
    assert flops_of_function(counted, spec).total == 3 * 10
    found = flops_of_function(until, spec)
    assert found.total == 10
    assert [name.endswith("of unknown trips") for name in found.uncounted] == [True]


def test_a_choice_counts_its_dearer_branch():
    def choose(x):
        return tf.cond(x[0] > 0, lambda: x * 2.0, lambda: tf.exp(x * 2.0) + 1.0)

    assert flops_of_function(choose, tf.TensorSpec((10,))).total == 30


def test_an_operation_without_a_rule_is_named():
    assert flops_of_function(tf.linalg.inv, tf.TensorSpec((3, 3))).uncounted == frozenset(["MatrixInverse"])
