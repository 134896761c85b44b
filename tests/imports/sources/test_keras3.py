"""Networks of Keras 3: what Keras 3 says of them, and the Keras 2 twins that are written."""

import keras
import numpy as np
import pytest

from bmp.artifact.formats import FORMATS
from bmp.errors import ArtifactError
from bmp.imports.data import make_examples
from bmp.imports.original import Options
from bmp.imports.sources.keras import read_keras_source
from bmp.signature import TensorSpec

layers = keras.layers
# Keras 3 itself, with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def build_image():
    x = keras.Input((8, 8, 2), name="image")
    y = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(x)
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(y))
    y = layers.Dropout(0.2)(layers.Flatten()(layers.MaxPooling2D()(y)))
    return keras.Model(x, layers.Dense(3, activation="softmax", name="kind")(y))


def build_text():
    x = keras.Input((6,), name="tokens", dtype="int32")
    e = layers.Embedding(20, 8)(x)
    y = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(e, e) + e)
    return keras.Model(x, layers.Dense(1, name="mood", activation="sigmoid")(layers.GlobalAveragePooling1D()(y)))


def build_sequence():
    x = keras.Input((5, 3), name="sequence")
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    return keras.Model(x, layers.Dense(2)(layers.GRU(3)(y)))


def build_two_in_two_out():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    shared = layers.Dense(5, activation="gelu", name="shared")
    inner = keras.Sequential([keras.Input((10,)), layers.Dense(6), layers.LeakyReLU()], name="inner")
    y = inner(layers.Concatenate()([shared(a), shared(b)]))
    return keras.Model([a, b], {"first": layers.Dense(2, name="first")(y), "second": layers.Dense(3, name="second")(y)})


def build_sequential():
    return keras.Sequential([keras.Input((7,), name="x"), layers.Dense(4, activation="tanh"), layers.Dense(2)])


def save(model, tmp_path):
    for weight in model.weights:  # batch normalization too has something to say then
        weight.assign(np.random.default_rng(len(weight.path)).uniform(0.1, 0.9, weight.shape))
    model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.mark.parametrize(
    "build", [build_image, build_text, build_sequence, build_two_in_two_out, build_sequential], ids=lambda f: f.__name__
)
def test_a_twin_says_what_keras_3_says(build, tmp_path):
    keras.utils.set_random_seed(0)
    model = build()
    original = read_keras_source(save(model, tmp_path), Options())
    assert original.engine == f"keras {keras.__version__}"
    assert original.left_out == {} and set(original.writers) == {"saved_model", "h5", "litert"}
    inputs = make_examples(original.signature).inputs
    wanted = original.run(inputs)
    own = model.predict(list(inputs.values()) if len(inputs) > 1 else next(iter(inputs.values())), verbose=0)
    for name, array in (own if isinstance(own, dict) else {original.signature.outputs[0].name: own}).items():
        np.testing.assert_allclose(wanted[name], array, atol=1e-5)
    original.writers["h5"](original.signature, tmp_path / "model.h5")
    found = FORMATS["h5"].load(tmp_path / "model.h5", original.signature).run(inputs)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5)


def test_tokens_have_a_vocabulary(tmp_path):
    signature = read_keras_source(save(build_text(), tmp_path), Options()).signature
    assert signature.inputs == (TensorSpec("tokens", "int32", (6,), 20),)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (keras.ops.square, "it has no function 'Square'"),
        (layers.RMSNormalization(), "it has no layer 'RMSNormalization'"),
    ],
    ids=["function", "layer"],
)
def test_what_keras_2_has_not_is_written_from_its_graph(make, reason, tmp_path):
    x = keras.Input((4,), name="x")
    original = read_keras_source(save(keras.Model(x, layers.Dense(2)(make(x))), tmp_path), Options())
    assert set(original.writers) == {"saved_model", "litert"} and reason in original.left_out["h5"]
    inputs = make_examples(original.signature).inputs
    (wanted,) = original.run(inputs).values()
    original.writers["litert"](original.signature, tmp_path / "model.tflite")
    (found,) = FORMATS["litert"].load(tmp_path / "model.tflite", original.signature).run(inputs).values()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_network_that_says_nothing_of_its_inputs_is_refused(tmp_path):
    keras.Sequential([layers.Dense(2)]).save(tmp_path / "model.keras")
    with pytest.raises(ArtifactError, match="does not say what it takes"):
        read_keras_source(tmp_path / "model.keras", Options())


def test_a_fixed_batch_is_refused(tmp_path):
    x = keras.Input(batch_shape=(4, 3), name="x")
    with pytest.raises(ArtifactError, match=r"input 'x' .* has the shape \(4, 3\); expected \(None, …\)"):
        read_keras_source(save(keras.Model(x, layers.Dense(2)(x)), tmp_path), Options())
