"""The contract of every optimizer."""

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.errors import ConfigError
from bmp.training import OPTIMIZERS
from bmp.training.optimizers import NOT_DECAYED

EACH = pytest.mark.parametrize("name", OPTIMIZERS)
CLIPS = ["global_clipnorm", "clipnorm", "clipvalue"]
RATES = {"adagrad": 0.1, "sgd": 0.05}
"""Where 0.02 is not the size that suits it."""


def build(name, learning_rate=None, ema_momentum=None, **args):
    return OPTIMIZERS.bind(name, args)(learning_rate or RATES.get(name, 0.02), ema_momentum)


def make_model(optimizer):
    """Tokens to three classes: a sparse gradient, kernels, biases, a gain and an offset."""
    keras.utils.set_random_seed(4)
    layers = [
        keras.layers.Embedding(9, 4, input_length=5),
        keras.layers.Flatten(),
        keras.layers.Dense(6, activation="tanh"),
        keras.layers.LayerNormalization(),
        keras.layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def fit(optimizer, epochs=4):
    random = np.random.default_rng(0)
    model = make_model(optimizer)
    tokens, classes = random.integers(9, size=(32, 5)).astype(np.int32), random.integers(3, size=32)
    history = model.fit(tokens, classes, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model, history.history["loss"]


def descend(optimizer, jit=False, steps=6):
    """Looks rows up and multiplies them with a kernel; returns the weights after some steps, and every loss."""
    random = np.random.default_rng(0)
    shapes = {"table/embeddings": (9, 4), "layer/kernel": (4, 3), "layer/bias": (3,)}
    weights = [tf.Variable(random.normal(size=shape), dtype=tf.float32, name=name) for name, shape in shapes.items()]
    rows, targets = tf.constant(random.integers(9, size=16)), tf.constant(random.normal(size=(16, 3)), tf.float32)
    optimizer.build(weights)

    @tf.function(jit_compile=jit)
    def step():
        table, kernel, bias = weights
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((tf.gather(table, rows) @ kernel + bias - targets) ** 2)
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return loss

    losses = [float(step()) for _ in range(steps)]
    return [weight.numpy() for weight in weights], losses


def move(optimizer, gradients, weights):
    """Returns how far each weight goes in one step."""
    variables = [tf.Variable(weight, name=f"layer_{number}/kernel") for number, weight in enumerate(weights)]
    optimizer.apply_gradients([(tf.constant(gradient), v) for gradient, v in zip(gradients, variables, strict=True)])
    return [np.asarray(v) - weight for v, weight in zip(variables, weights, strict=True)]


@EACH
def test_lowers_the_loss_and_xla_does_the_same(name):
    plain, losses = descend(build(name, ema_momentum=0.9))
    compiled, _ = descend(build(name, ema_momentum=0.9), jit=True)
    assert losses[-1] < losses[0] * 0.95
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@EACH
def test_survives_being_written_down(name):
    optimizer = build(name, 0.03, 0.9, global_clipnorm=0.7)
    twin = type(optimizer).from_config(optimizer.get_config())
    assert twin.get_config() == optimizer.get_config()
    assert (twin.use_ema, twin.ema_momentum, twin.global_clipnorm) == (True, 0.9, 0.7)


@EACH
def test_the_arguments_of_clipping_are_said_once_and_had_everywhere(name):
    parameters = inspect.signature(OPTIMIZERS[name]).parameters
    assert set(CLIPS) <= {key for key, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    assert list(parameters)[:2] == ["learning_rate", "ema_momentum"]
    assert OPTIMIZERS[name].__doc__
    with pytest.raises(ConfigError, match=r"argument 'clipnorm' is 0\.0, but input should be greater than 0"):
        OPTIMIZERS.bind(name, {"clipnorm": 0.0})
    with pytest.raises(ConfigError, match="Did you mean 'global_clipnorm'"):
        OPTIMIZERS.bind(name, {"global_clip_norm": 1.0})


@EACH
def test_two_ways_to_clip_are_one_too_many(name):
    with pytest.raises(ConfigError, match="is given global_clipnorm and clipvalue; it clips in one way"):
        build(name, global_clipnorm=1.0, clipvalue=0.5)


def clipped_step(clip):
    """Plain descent with rate 1: what it moves is what is left of the gradient."""
    optimizer = build("sgd", 1.0, momentum=0.0, nesterov=False, **clip)
    return move(optimizer, [np.float32([3, 4]), np.float32([0, 12])], [np.zeros(2, np.float32)] * 2)


def test_clipping_clips_all_together_each_or_each_number():
    one, other = clipped_step({"global_clipnorm": 6.5})
    np.testing.assert_allclose(np.concatenate([one, other]), [-1.5, -2, 0, -6], rtol=1e-6)
    one, other = clipped_step({"clipnorm": 5.0})
    np.testing.assert_allclose(np.concatenate([one, other]), [-3, -4, 0, -5], rtol=1e-6)
    one, other = clipped_step({"clipvalue": 3.5})
    np.testing.assert_allclose(np.concatenate([one, other]), [-3, -3.5, 0, -3.5], rtol=1e-6)
    one, other = clipped_step({"global_clipnorm": 13.1})  # the gradient is 13 long
    np.testing.assert_allclose(np.concatenate([one, other]), [-3, -4, 0, -12], rtol=1e-6)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("jit", [False, True])
def test_the_gradient_of_an_embedding_is_clipped_as_the_sum_it_is(clip, jit):
    def step(sparse):
        optimizer, table = build("sgd", 1.0, momentum=0.0, nesterov=False, **{clip: 0.5}), tf.Variable(tf.zeros((4, 2)))
        optimizer.build([table])

        @tf.function(jit_compile=jit)
        def descend():
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.gather(table, [1, 1, 1, 2]))
            gradient = tape.gradient(loss, table)
            assert isinstance(gradient, tf.IndexedSlices)
            optimizer.apply_gradients([(gradient if sparse else tf.convert_to_tensor(gradient), table)])

        descend()
        return table.numpy()

    np.testing.assert_allclose(step(sparse=True), step(sparse=False), rtol=1e-6)
    assert np.linalg.norm(step(sparse=True)) <= (0.5 + 1e-6 if clip != "clipvalue" else 1 + 1e-6)


@EACH
def test_the_weights_end_as_their_average_and_go_on_without_it(name):
    averaged, plain = build(name, ema_momentum=0.75), build(name)
    variables = [[tf.Variable([1.0, -2.0], name="kernel")] for _ in range(2)]
    average, random = np.float32([1, -2]), np.random.default_rng(1)
    for _ in range(5):
        gradient = tf.constant(random.normal(size=2), tf.float32)
        for optimizer, (variable,) in zip((averaged, plain), variables, strict=True):
            optimizer.apply_gradients([(gradient, variable)])
        np.testing.assert_array_equal(variables[0][0], variables[1][0])
        average = 0.75 * average + 0.25 * variables[1][0].numpy()
    averaged.finalize_variable_values(variables[0])
    np.testing.assert_allclose(variables[0][0], average, rtol=1e-5)
    assert not np.allclose(variables[0][0], variables[1][0])


def test_rmsprop_does_not_overwrite_the_weights_on_the_way():
    assert build("rmsprop", ema_momentum=0.9).ema_overwrite_frequency is None


def test_a_scaled_loss_has_an_average_as_well():
    optimizer = keras.mixed_precision.LossScaleOptimizer(build("sgd", 0.05, 0.5, global_clipnorm=1.0))
    model, losses = fit(optimizer)
    assert losses[-1] < losses[0]
    for average, weight in zip(
        optimizer.inner_optimizer._model_variables_moving_average, model.trainable_weights, strict=True
    ):
        np.testing.assert_array_equal(average, weight)


@pytest.mark.parametrize("name", ["adamw", "lamb", "lion", "sgd"])
def test_kernels_decay_and_biases_gains_and_offsets_do_not(name):
    def step(decay):
        model = make_model(build(name, 0.1, weight_decay=decay))
        model.set_weights([np.full(weight.shape, 0.5, np.float32) for weight in model.get_weights()])
        random = np.random.default_rng(0)
        gradients = [tf.constant(random.normal(size=v.shape), tf.float32) for v in model.trainable_weights]
        model.optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return [(variable.name.rpartition("/")[2], variable.numpy()) for variable in model.trainable_weights]

    changed = {kind for (kind, one), (_, other) in zip(step(0.3), step(0.0), strict=True) if np.any(one != other)}
    assert changed == {"kernel:0", "embeddings:0"}


@pytest.mark.parametrize(
    ("variable", "excluded"),
    [
        ("dense/bias:0", True),
        ("norm/gamma/replica_1:0", True),
        ("beta:0", True),
        ("lstm/lstm_cell/bias:0", True),
        ("beta_net/kernel:0", False),
        ("attention/bias_table:0", False),
        ("gamma/kernel:0", False),
    ],
)
def test_what_does_not_decay_is_known_by_its_whole_name(variable, excluded):
    optimizer = build("adamw")
    weight = tf.Variable(1.0, name=variable.removesuffix(":0"))
    assert optimizer._use_weight_decay(weight) != excluded
    assert weight.name == variable and NOT_DECAYED in optimizer._exclude_from_weight_decay_names


def lamb_by_hand(weights, gradients, rate, decay, beta_1=0.9, beta_2=0.999):
    """Algorithm 2 of the paper, in float64."""
    x, m, v = weights.astype(np.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients, start=1):
        m, v = beta_1 * m + (1 - beta_1) * gradient, beta_2 * v + (1 - beta_2) * gradient**2
        r = (m / (1 - beta_1**step)) / (np.sqrt(v / (1 - beta_2**step)) + 1e-6) + decay * x
        x = x - rate * np.linalg.norm(x) / np.linalg.norm(r) * r
    return x


def test_lamb_is_the_papers():
    random = np.random.default_rng(2)
    weights, gradients = random.normal(size=(3, 4)).astype(np.float32), random.normal(size=(6, 3, 4)).astype(np.float32)
    optimizer, variable = build("lamb", 0.05, weight_decay=0.1), tf.Variable(weights, name="dense/kernel")
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    np.testing.assert_allclose(variable, lamb_by_hand(weights, gradients, 0.05, 0.1), rtol=1e-5)


def test_lamb_leaves_zero_and_does_not_divide_by_it():
    (moved,) = move(build("lamb", 0.1), [np.float32([1, -1])], [np.zeros(2, np.float32)])
    np.testing.assert_allclose(moved, [-0.1, 0.1], rtol=1e-4)
    (still,) = move(build("lamb", 0.1, weight_decay=0.0), [np.zeros(2, np.float32)], [np.ones(2, np.float32)])
    np.testing.assert_array_equal(still, [0, 0])


def test_lamb_written_down_still_knows_what_does_not_decay():
    optimizer = build("lamb", 0.1, weight_decay=0.2)
    twin = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert (twin.exclude, twin.decay) == ([NOT_DECAYED], 0.2)
