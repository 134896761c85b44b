"""Models of the user's own."""

import re
import textwrap

import keras as keras_3
import numpy as np
import pytest
import tf_keras as keras
from model_cases import ROWS, TEXT, make_batch, sign

from bmp.artifact.formats import FORMATS
from bmp.artifact.h5 import KerasRunner
from bmp.errors import ConfigError, UnknownNameError
from bmp.models import build_model, look_up_model

OWN = """
import tf_keras as keras


def build_functional(signature, /, *, units: int = 3):
    (spec,), (output,) = signature.inputs, signature.outputs
    inputs = keras.Input(spec.shape, name=spec.name)
    x = keras.layers.Dense(units, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(output.shape[0], activation="softmax", name=output.name)(x))


def build_sequential(signature):
    return keras.Sequential([keras.layers.Dense(signature.outputs[0].shape[0], activation="softmax")])


class Net(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.head = keras.layers.Dense(width, activation="softmax")

    def call(self, inputs):
        return self.head(inputs * 2)


def build_subclassed(signature, /):
    return Net(signature.outputs[0].shape[0])


def build_fitted(signature, train, /):
    model = build_functional(signature)
    model.fit(train.inputs, train.targets, verbose=0)
    return model


def fails(signature):
    return signature.nothing
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(textwrap.dedent(OWN))
    monkeypatch.chdir(tmp_path)
    return "my_models.py"


@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed"])
def test_a_users_model_is_built_exported_and_says_the_same(kind, own, tmp_path):
    model = build_model(look_up_model(f"{own}:build_{kind}", {}), sign(ROWS), None)
    assert len(model.trainable_weights) >= 2
    inputs = make_batch(sign(ROWS)).inputs
    (expected,) = KerasRunner(model, sign(ROWS)).run(inputs).values()
    for name in ("saved_model", "litert"):
        path = tmp_path / name
        FORMATS[name].write(model, sign(ROWS), path)
        (outputs,) = FORMATS[name].load(path, sign(ROWS)).run(inputs).values()
        np.testing.assert_allclose(outputs, expected, atol=1e-6)


def test_a_users_arguments_are_checked_like_the_houses(own):
    build = look_up_model(f"{own}:build_functional", {"units": 5})
    assert build_model(build, sign(ROWS), None).layers[1].units == 5
    for args, message in [({"unit": 5}, "Did you mean 'units'?"), ({"units": "5"}, "argument 'units' is '5'")]:
        with pytest.raises(ConfigError, match=re.escape(message)):
            look_up_model(f"{own}:build_functional", args)


def test_a_builder_that_fits_gets_the_training_split(own):
    batch = make_batch(sign(ROWS))
    batch.targets = np.eye(4)[batch.targets]

    def build(signature, train, /):
        model = look_up_model(f"{own}:build_functional", {})(signature)
        model.compile("sgd", "categorical_crossentropy")
        model.fit(train.inputs["features"], train.targets, verbose=0)
        return model

    assert build_model(build, sign(ROWS), batch).built


def test_an_entry_of_the_catalog_is_found_and_a_typo_is_not():
    assert look_up_model("mlp", {"hidden": [3]}).keywords == {"hidden": [3]}
    with pytest.raises(UnknownNameError, match="Did you mean 'transformer'"):
        look_up_model("transfomer", {})


def test_a_failure_of_the_users_code_names_its_line(own):
    with pytest.raises(ConfigError, match=r"my_models.py, line \d+: AttributeError: .*nothing"):
        build_model(look_up_model(f"{own}:fails", {}), sign(ROWS), None)


def returning(make):
    return lambda signature: make()


def dense(width, activation="softmax", **options):
    return keras.Sequential([keras.layers.Dense(width, activation=activation, **options)], name="net")


def two_outputs():
    inputs = keras.Input((6,), name="features")
    return keras.Model(inputs, [keras.layers.Dense(4)(inputs), keras.layers.Dense(4)(inputs)], name="net")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: None, "returned nothing; expected a Keras model"),
        (lambda: keras.Model, "builtins.type; expected a Keras model"),
        (lambda: keras_3.Sequential([keras_3.layers.Dense(4)]), "import tf_keras as keras"),
        (lambda: dense(3), "returns float32 (B, 3); expected 'probabilities' as float32 (B, 4)"),
        (lambda: dense(4, dtype="float16"), "let the last layer compute in float32"),
        (lambda: dense(4, None), 'Give the last layer activation="softmax"'),
        (lambda: dense(4, "sigmoid"), 'Give the last layer activation="softmax"'),
        (lambda: dense(4, input_shape=(5,)), "cannot be called on the data's inputs, features float32 (B, 6)"),
        (two_outputs, "returns 2 outputs; expected one, 'probabilities'"),
    ],
)
def test_what_does_not_fit_the_signature_is_refused(make, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        build_model(returning(make), sign(ROWS), None)
    assert "\n" not in str(caught.value) and caught.value.expected


def test_logits_are_no_probabilities_of_two_classes():
    with pytest.raises(ConfigError, match=re.escape('activation="sigmoid"')):
        build_model(returning(lambda: dense(1, None)), sign(ROWS, objective="binary"), None)
    build_model(returning(lambda: dense(2, None)), sign(ROWS, objective="regression"), None)


def test_several_inputs_go_by_their_names():
    def build(signature, names=("features", "tokens")):
        inputs = [keras.Input(spec.shape, name=name) for spec, name in zip(signature.inputs, names, strict=True)]
        joined = keras.layers.Concatenate()(inputs)
        return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="probabilities")(joined))

    assert build_model(build, sign(ROWS, TEXT), None).built
    with pytest.raises(ConfigError, match="has the inputs features, words, but the data has features, tokens"):
        build_model(lambda signature: build(signature, ("features", "words")), sign(ROWS, TEXT), None)


def test_a_builder_of_something_else_is_refused():
    with pytest.raises(ConfigError, match=re.escape("def build_net(signature, /, *, units: int)")):
        build_model(lambda: None, sign(ROWS), None)
