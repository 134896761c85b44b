"""`.h5` and `.keras` of Keras 2, SavedModels and `.tflite` files."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from bmp.artifact.formats import FORMATS
from bmp.artifact.litert import LiteRTRunner
from bmp.errors import ArtifactError
from bmp.imports.data import make_examples
from bmp.imports.original import Options
from bmp.imports.sources.h5 import read_h5_source
from bmp.imports.sources.keras import read_keras_source
from bmp.imports.sources.litert import read_litert_source
from bmp.imports.sources.saved_model import read_saved_model_source
from bmp.signature import TensorSpec

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def build(outputs=("kind",)):
    keras.utils.set_random_seed(0)
    x, tokens = keras.Input((4,), name="x"), keras.Input((3,), name="tokens", dtype="int32")
    y = keras.layers.Concatenate()([x, keras.layers.Flatten()(keras.layers.Embedding(9, 2)(tokens))])
    return keras.Model([x, tokens], [keras.layers.Dense(2, name=name)(y) for name in outputs])


def check(original, tmp_path, forms):
    """Every format that is written says what the file's own engine says."""
    inputs = make_examples(original.signature).inputs
    wanted = original.run(inputs)
    assert tuple(original.writers) == forms
    for form in forms:
        path = tmp_path / "written" / FORMATS[form].path
        path.parent.mkdir(exist_ok=True)
        original.writers[form](original.signature, path)
        found = FORMATS[form].load(path, original.signature).run(inputs)
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, atol=1e-5)
    return wanted


@pytest.mark.parametrize(("name", "read"), [("net.h5", read_h5_source), ("net.keras", read_keras_source)])
def test_keras_2(name, read, tmp_path):
    model = build(outputs=("kind", "size"))
    model.save(tmp_path / name)
    original = read(tmp_path / name, Options())
    assert original.engine.startswith("tf_keras 2.")
    assert original.signature.inputs == (TensorSpec("x", "float32", (4,)), TensorSpec("tokens", "int32", (3,), 9))
    assert [spec.name for spec in original.signature.outputs] == ["kind", "size"]
    check(original, tmp_path, ("saved_model", "h5", "litert"))


class Doubler(tf.Module):
    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)

    @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, "x")])
    def double(self, x):
        return {"y": x * self.factor}

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def shout(self, text):
        return {"text": tf.strings.upper(text)}


def save_module(tmp_path, **names):
    module = Doubler()
    signatures = {key: getattr(module, name).get_concrete_function() for key, name in names.items()}
    tf.saved_model.save(module, str(tmp_path / "sm"), signatures=signatures)
    return tmp_path / "sm"


@pytest.mark.parametrize("names", [{"anything": "double"}, {"serving_default": "double", "other": "shout"}])
def test_a_saved_model_is_written_with_one_signature_and_nothing_else(names, tmp_path):
    original = read_saved_model_source(save_module(tmp_path, **names), Options())
    wanted = check(original, tmp_path, ("saved_model", "litert"))
    np.testing.assert_allclose(wanted["y"], 2 * make_examples(original.signature).inputs["x"])
    again = tf.saved_model.load(str(tmp_path / "written"))
    assert list(again.signatures) == ["serving_default"]
    assert "without layers" in original.left_out["h5"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"a": "double", "b": "double"}, "has no signature 'serving_default', and a, b in its place"),
        ({"serving_default": "shout"}, "is of string; bmp serves tensors of numbers"),
    ],
)
def test_a_saved_model_that_cannot_be_served_is_refused(names, said, tmp_path):
    with pytest.raises(ArtifactError, match=said):
        read_saved_model_source(save_module(tmp_path, **names), Options())


@pytest.fixture(scope="module")
def tflite():
    """What TensorFlow's converter makes of a Keras model by itself, without a signature of ours."""
    model = build()
    return model, tf.lite.TFLiteConverter.from_keras_model(model).convert()


def test_a_tflite_file_is_served_as_it_is(tflite, tmp_path):
    model, content = tflite
    (tmp_path / "net.tflite").write_bytes(content)
    original = read_litert_source(tmp_path / "net.tflite", Options())
    wanted = check(original, tmp_path, ("litert",))
    inputs = make_examples(original.signature).inputs
    np.testing.assert_allclose(wanted["kind"], model([inputs["x"], inputs["tokens"]]), atol=1e-5)
    assert (tmp_path / "written" / "model.tflite").read_bytes() == content


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("key", [None, "mine"])
def test_a_signature_is_written_into_a_file_that_has_none_or_another(tflite, key, tmp_path):
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite[1]))
    for tensor in model.subgraphs[0].tensors:
        tensor.shapeSignature = None  # of one example, for good
    if key is None:
        model.signatureDefs = None
    else:
        model.signatureDefs[0].signatureKey = key
    flatbuffer_utils.write_model(model, str(tmp_path / "net.tflite"))
    original = read_litert_source(tmp_path / "net.tflite", Options())
    check(original, tmp_path, ("litert",))
    served = LiteRTRunner(tmp_path / "written" / "model.tflite", original.signature)
    inputs = make_examples(original.signature).inputs
    assert len(next(iter(served.run(inputs).values()))) == 32
    if key is not None:
        assert {spec.name for spec in original.signature.inputs} == {"x", "tokens"}


def test_a_tflite_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "net.tflite").write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 40)
    with pytest.raises(ArtifactError, match="is no LiteRT model that can be run"):
        read_litert_source(tmp_path / "net.tflite", Options())
