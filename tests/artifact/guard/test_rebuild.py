"""What is rebuilt from a file is the model that was saved: the same layers, the same numbers, bit for bit."""

import warnings

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from model_cases import CASES, build, make_batch
from tf_keras import layers

from bmp.artifact.guard import Limits, check_h5, check_keras, read_keras_version, rebuild_model
from bmp.errors import ArtifactError, UnsafeError

OWN = [case for case in CASES if case.name in ("lenet5", "gpt") or case.args.get("estimator") == "rbf_svm"][:3]
"""Networks of the shelf with layers of bmp's own; all of the shelf goes through the contract of every model."""


def save(model, path):
    """As people save a model, not as bmp does."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        model.save(path)
    return path


def run(model, inputs):
    return [np.asarray(output) for output in tf.nest.flatten(model(inputs, training=False))]


def check_same(model, path, inputs):
    (check_h5 if path.suffix == ".h5" else check_keras)(path)
    again = rebuild_model(path)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert len(again.weights) == len(model.weights)
    for mine, other in zip(run(model, inputs), run(again, inputs), strict=True):
        np.testing.assert_array_equal(mine, other)
    return again


@pytest.fixture(autouse=True)
def seed():
    keras.utils.set_random_seed(3)


@pytest.fixture(params=["h5", "keras"])
def path(request, tmp_path):
    return tmp_path / f"model.{request.param}"


@pytest.mark.parametrize("case", OWN, ids=str)
def test_networks_of_the_shelf_are_the_same_again(case, tmp_path):
    model, inputs = build(case), make_batch(case.signature, 3).inputs
    given = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    for suffix in ("h5", "keras"):
        check_same(model, save(model, tmp_path / f"model.{suffix}"), given)


def shuffle(model):
    """Gives every weight a number of its own, so that none can stand for another."""
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=weight.shape).astype(weight.dtype) for weight in model.get_weights()])
    return model


def make_nested():
    inner = keras.Sequential([layers.Dense(3, activation="relu"), layers.BatchNormalization()], name="inner")
    side = keras.Input((4,), name="side")
    middle = keras.Model(side, layers.Dropout(0.5)(inner(side)), name="middle")
    middle.trainable = False
    x = keras.Input((4,), name="x")
    y = keras.Input((4,), name="y")
    both = layers.Concatenate()([middle(x), middle(y), layers.Dense(2, name="own")(x)])
    return keras.Model([x, y], {"one": layers.Dense(1, name="one")(both), "two": layers.Softmax(name="two")(both)})


def make_shared():
    shared = layers.Dense(4, name="shared", kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2))
    x = keras.Input((4,), name="x")
    y = shared(layers.Activation("tanh", name="between")(shared(x)))
    return keras.Model(x, shared(y))


def make_recurrent():
    x = keras.Input((2, 3), name="x")
    y = layers.Bidirectional(layers.GRU(2, return_sequences=True, unroll=True), name="both")(x)
    y = layers.Bidirectional(
        layers.LSTM(2, return_sequences=True), backward_layer=layers.LSTM(3, return_sequences=True, go_backwards=True)
    )(y)
    y = layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)], return_sequences=True, unroll=True, name="stack")(y)
    y = layers.TimeDistributed(layers.Dense(2, activation=keras.layers.LeakyReLU(0.1)), name="each")(y)
    return keras.Model(x, layers.SimpleRNN(2, unroll=True)(y))


def make_attention():
    x = keras.Input((5, 4), name="x")
    y = layers.MultiHeadAttention(2, 3, name="heads")(x, x, use_causal_mask=True)
    y = layers.Attention(use_scale=True)([y, x])
    return keras.Model(x, layers.LayerNormalization()(layers.Add()([x, y])))


def make_operations():
    x = keras.Input((5, 4), name="x")
    y = tf.concat([x[:, ::2, 1:], -x[:, :3, :3] * 2.0], axis=-1) + 1.0
    y = tf.nn.relu(tf.reshape(y, (-1, 18))) / tf.constant([[2.0]])
    return keras.Model(x, tf.reduce_mean(tf.stack([y, tf.math.exp(-y)], axis=1), axis=1))


def make_images():
    x = keras.Input((8, 8, 3), name="x")
    y = layers.Rescaling(1 / 255, offset=-0.5)(layers.ZeroPadding2D(((0, 1), (1, 0)))(x))
    y = layers.SeparableConv2D(4, 3, name="block/conv")(layers.Conv2DTranspose(2, 3, kernel_constraint="max_norm")(y))
    y = layers.PReLU(shared_axes=[1, 2])(layers.GroupNormalization(2)(y))
    return keras.Model(x, layers.GlobalMaxPooling2D()(layers.RandomFlip()(y)))


def make_normalized():
    normalization = layers.Normalization(name="scaled")
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (50, 4)))
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2)(normalization(x)))


def make_half():
    x = keras.Input((4,), name="x")
    y = layers.Dense(3, dtype="mixed_float16", name="half")(x)
    return keras.Model(x, layers.Dense(2, dtype=keras.mixed_precision.Policy("float32"))(y))


MAKERS = [
    make_nested,
    make_shared,
    make_recurrent,
    make_attention,
    make_operations,
    make_images,
    make_normalized,
    make_half,
]


@pytest.mark.parametrize("make", MAKERS)
def test_networks_of_people_are_the_same_again(make, path):
    model = make()
    if make is not make_normalized:
        shuffle(model)
    random = np.random.default_rng(1)
    inputs = {spec.name: random.normal(size=(3, *spec.shape[1:])).astype(np.float32) for spec in model.inputs}
    check_same(model, save(model, path), inputs if len(inputs) > 1 else next(iter(inputs.values())))


def make_small():
    return keras.Sequential([keras.Input((4,), name="x"), layers.Dense(3, name="first"), layers.Dense(2, name="last")])


def test_a_trained_model_is_read_without_what_only_training_needs(path):
    model = make_small()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((8, 4)), np.ones((8, 2)), verbose=0)
    again = check_same(model, save(model, path), np.ones((2, 4), np.float32))
    assert again.optimizer is None


def test_a_sequence_that_was_built_by_its_first_input_is_the_same_again(path):
    model = keras.Sequential([layers.Dense(3), layers.BatchNormalization()])
    model.build((None, 4))
    check_same(shuffle(model), save(model, path), np.ones((2, 4), np.float32))


def test_the_version_of_keras_is_told(path):
    assert read_keras_version(save(make_small(), path)) == keras.__version__


# --- what does not fit ---


@pytest.fixture
def small(tmp_path):
    return save(make_small(), tmp_path / "small.h5")


def change(path, group, make):
    """Puts another array in place of one of an HDF5 file."""
    with h5py.File(path, "r+") as file:
        old = file[group][()]
        del file[group]
        file[group] = make(old)


def test_a_weight_of_another_shape_is_refused(small):
    change(small, "model_weights/first/first/kernel:0", lambda old: old[:3])
    with pytest.raises(
        ArtifactError, match=r"The layer 'first' has the weight .* \(4, 3\), and the file holds .* \(3, 3\)"
    ):
        rebuild_model(small)


def test_a_weight_too_few_is_refused(small):
    with h5py.File(small, "r+") as file:
        file["model_weights/last"].attrs["weight_names"] = [b"last/kernel:0"]
    with pytest.raises(ArtifactError, match="The layer 'last' has 2 weights, and the file holds 1 for it"):
        rebuild_model(small)


@pytest.mark.parametrize("names", [["last/bias:0"] * 9, ["/model_weights/first/first/kernel:0"]])
def test_a_list_that_repeats_an_array_is_refused(small, names):
    with h5py.File(small, "r+") as file:
        file["model_weights/last"].attrs["weight_names"] = names
    with pytest.raises(UnsafeError, match="names the same array again and again, or one elsewhere"):
        rebuild_model(small)


def test_weights_of_a_layer_that_there_is_not_are_refused(small):
    with h5py.File(small, "r+") as file:
        file["model_weights"].attrs["layer_names"] = [b"first", b"last", b"more"]
        file["model_weights"].copy("last", "more")
    with pytest.raises(ArtifactError, match="weights of the layer 'more', which the network does not have"):
        rebuild_model(small)


def test_a_network_that_asks_for_more_weights_than_there_are_takes_no_memory(small):
    with h5py.File(small, "r+") as file:
        config = file.attrs["model_config"].replace('"units": 3', '"units": 3000000000')
        file.attrs["model_config"] = config
    with pytest.raises(UnsafeError, match="asks for more weights than the file holds"):
        rebuild_model(small)


@pytest.mark.parametrize("version", ["3.15.1", "1.2.0"])
def test_files_of_another_keras_are_refused_and_told_apart(small, version):
    with h5py.File(small, "r+") as file:
        file["model_weights"].attrs["keras_version"] = version
    with pytest.raises(ArtifactError, match=rf"was written by Keras {version}; here models of Keras 2"):
        rebuild_model(small)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('[["first", 0, 0', '[["nobody", 0, 0', "from the layer 'nobody', which it does not have"),
        ('[["first", 0, 0', '[["last", 0, 0', "turns in a circle: the layer 'last'"),
        ('[["first", 0, 0', '[["first", 7, 0', "turns in a circle: the layer 'last'"),
        ('[["first", 0, 0', '[["first", 0, 9', "cannot be rebuilt"),
        ('"units": 3', '"units": -3', "cannot be rebuilt"),
        ('"units": 3', '"unit": 3', "cannot be rebuilt"),
    ],
)
def test_a_description_that_does_not_work_is_refused_in_one_sentence(tmp_path, old, new, message):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, layers.Dense(2, name="last")(layers.Dense(3, name="first")(x)))
    path = save(model, tmp_path / "small.h5")
    with h5py.File(path, "r+") as file:
        text = file.attrs["model_config"]
        assert old in text
        file.attrs["model_config"] = text.replace(old, new)
    with pytest.raises(ArtifactError, match=message) as caught:
        rebuild_model(path)
    assert "\n" not in str(caught.value)


def test_a_layer_of_the_users_own_is_built_only_where_it_is_allowed(tmp_path):
    @keras.saving.register_keras_serializable("people")
    class Twice(layers.Layer):
        def call(self, inputs):
            return inputs * 2.0

    try:
        x = keras.Input((4,), name="x")
        model = keras.Model(x, Twice(name="twice")(layers.Dense(2)(x)))
        for suffix in ("h5", "keras"):
            path = save(model, tmp_path / f"model.{suffix}")
            with pytest.raises(UnsafeError, match="The layer twice is a "):
                rebuild_model(path)
            again = rebuild_model(path, own=["people>Twice"])
            np.testing.assert_array_equal(*run(model, np.ones((2, 4))), *run(again, np.ones((2, 4))))
    finally:
        keras.saving.get_custom_objects().pop("people>Twice")


def test_a_file_over_the_limit_is_not_read(small):
    with pytest.raises(UnsafeError, match="files of up to 1,000 are read"):
        rebuild_model(small, Limits(size_bytes=1000))
