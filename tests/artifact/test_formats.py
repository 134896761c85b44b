"""The contract of every format: what is read back does what the Keras model does, under the names of the signature.

tests/models/test_models.py holds the rest of the shelf to it.
"""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from ai_edge_litert.interpreter import Interpreter

from bmp.artifact.formats import FORMATS
from bmp.artifact.h5 import KerasRunner
from bmp.errors import ExportError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

IMAGE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (10,)),))
PAIR = Signature(
    (TensorSpec("left", "float32", (2,)), TensorSpec("right", "int32", (3,))),
    (TensorSpec("sum", "float32", (1,)), TensorSpec("wide", "float32", (4,))),
)


def make_pair() -> keras.Model:
    """Two inputs of two types, two outputs; the order of the names is not that of the layers."""
    right, left = keras.Input((3,), name="right", dtype="int32"), keras.Input((2,), name="left")
    joined = keras.layers.Concatenate()([keras.layers.Embedding(5, 2)(right)[:, 0], left])
    wide = keras.layers.Dense(4, name="wide")(joined)
    return keras.Model({"right": right, "left": left}, {"sum": keras.layers.Dense(1, name="sum")(joined), "wide": wide})


class Residual(keras.Model):
    """A subclass with a call of its own: its architecture is code."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = keras.layers.Dense(64, "relu"), keras.layers.Dense(10, "softmax")

    def call(self, image, training=False):
        flat = tf.reshape(image, (-1, 64))
        return self.narrow(flat + self.widen(flat))


def make_subclassed() -> keras.Model:
    model = Residual()
    model(np.zeros((1, 8, 8), np.float32))
    return model


NETWORKS = {
    "mlp": (IMAGE, lambda: MODELS.bind("mlp", {"hidden": [16], "scale": 0.0625})(IMAGE)),
    "cnn": (IMAGE, lambda: MODELS.bind("cnn", {"filters": [4, 8], "dense": [16], "scale": 0.0625})(IMAGE)),
    "pair": (PAIR, make_pair),
    "subclassed": (IMAGE, make_subclassed),
}
CODE_IS_LOST = ("h5", "keras")
"""Formats that hold an architecture as data, and so no subclass."""


@cache
def network(name: str) -> SimpleNamespace:
    keras.utils.set_random_seed(0)
    signature, build = NETWORKS[name]
    return SimpleNamespace(signature=signature, model=build())


def make_batch(signature: Signature, size: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(size)
    return {spec.name: random.uniform(0, 5, (size, *spec.shape)).astype(spec.dtype) for spec in signature.inputs}


EACH = [(name, form) for name in NETWORKS for form in FORMATS if name != "subclassed" or form not in CODE_IS_LOST]


@pytest.fixture(scope="module", params=EACH, ids="-".join)
def written(request, tmp_path_factory):
    name, form = request.param
    path = tmp_path_factory.mktemp("format") / FORMATS[form].path
    FORMATS[form].write(network(name).model, network(name).signature, path)
    return SimpleNamespace(form=form, path=path, **vars(network(name)))


@pytest.fixture(scope="module")
def runner(written):
    return FORMATS[written.form].load(written.path, written.signature)


def test_answers_like_the_model_at_any_batch_size_in_turn(written, runner):
    original = KerasRunner(written.model, written.signature)
    for size in (1, 7, 32, 7, 1, 32, 1):
        inputs = make_batch(written.signature, size)
        outputs, expected = runner.run(inputs), original.run(inputs)
        assert set(outputs) == {spec.name for spec in written.signature.outputs}
        for spec in written.signature.outputs:
            assert (outputs[spec.name].shape, outputs[spec.name].dtype) == ((size, *spec.shape), np.dtype(spec.dtype))
            np.testing.assert_allclose(outputs[spec.name], expected[spec.name], atol=1e-5, rtol=0)


def test_answers_belong_to_the_caller(written, runner):
    inputs = make_batch(written.signature, 3)
    first = runner.run(inputs)
    kept = {name: array.copy() for name, array in first.items()}
    runner.run({name: array[::-1].copy() for name, array in inputs.items()})
    for name, array in kept.items():
        np.testing.assert_array_equal(first[name], array)


def test_writes_only_what_it_keeps(written):
    directory = written.path if FORMATS[written.form].path == "." else written.path.parent
    known = {FORMATS[written.form].path, "saved_model.pb", "variables", "assets", "fingerprint.pb"}
    assert {entry.name for entry in directory.iterdir()} <= known


def test_what_serving_reads_keeps_names_types_and_shapes(written):
    inputs, outputs = (
        {spec.name: spec for spec in specs} for specs in (written.signature.inputs, written.signature.outputs)
    )
    if written.form == "litert":
        interpreter = Interpreter(model_path=str(written.path))
        assert {
            key: {side: set(names) for side, names in sides.items()}
            for key, sides in interpreter.get_signature_list().items()
        } == {"serving_default": {"inputs": set(inputs), "outputs": set(outputs)}}
    elif written.form == "saved_model":
        serve = tf.saved_model.load(str(written.path)).signatures["serving_default"]
        for found, specs in ((serve.structured_input_signature[1], inputs), (serve.structured_outputs, outputs)):
            assert {name: (tuple(spec.shape), spec.dtype.name) for name, spec in found.items()} == {
                name: ((None, *spec.shape), spec.dtype) for name, spec in specs.items()
            }


@pytest.mark.parametrize("form", CODE_IS_LOST)
def test_a_subclass_is_refused_where_only_its_code_knows_the_architecture(form, tmp_path):
    with pytest.raises(ExportError, match=rf"subclass of keras\.Model.*cannot hold.*{FORMATS[form].path[5:]} as well"):
        FORMATS[form].write(network("subclassed").model, IMAGE, tmp_path / FORMATS[form].path)
    assert not list(tmp_path.iterdir())
