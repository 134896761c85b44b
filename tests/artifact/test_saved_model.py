import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from bmp.artifact.saved_model import SavedModelRunner, write_saved_model
from bmp.errors import ArtifactError
from bmp.models import MODELS
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (10,)),))


@pytest.fixture(scope="module")
def model():
    return MODELS["mlp"](SIGNATURE, hidden=[8])


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved_model")
    write_saved_model(model, SIGNATURE, directory)
    return directory


def test_has_one_signature_typed_and_named(directory):
    loaded = tf.saved_model.load(str(directory))
    assert list(loaded.signatures) == ["serving_default"]
    serve = loaded.signatures["serving_default"]
    args, kwargs = serve.structured_input_signature
    assert args == () and kwargs == {"image": tf.TensorSpec((None, 8, 8), tf.float32, "image")}
    assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in serve.structured_outputs.items()} == {
        "probabilities": ([None, 10], tf.float32)
    }


def test_tensorflow_runs_it_by_name(directory, model):
    loaded = tf.saved_model.load(str(directory))
    images = np.random.default_rng(0).uniform(size=(3, 8, 8)).astype(np.float32)
    outputs = loaded.signatures["serving_default"](image=tf.constant(images))
    np.testing.assert_allclose(outputs["probabilities"], model(images), atol=1e-6)


def test_carries_no_keras_object(directory):
    parsed = SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    kinds = {node.user_object.identifier for node in parsed.meta_graphs[0].object_graph_def.nodes}
    assert "_generic_user_object" in kinds
    assert not [kind for kind in kinds if "keras" in kind]


def test_stands_in_the_files_tensorflow_serving_looks_for(directory):
    assert {"saved_model.pb", "variables"} <= {entry.name for entry in directory.iterdir()}
    assert (directory / "variables" / "variables.index").is_file()


def test_inputs_and_outputs_of_any_number_keep_their_names(tmp_path):
    signature = Signature(
        (TensorSpec("left", "float32", (2,)), TensorSpec("right", "float32", (3,))),
        (TensorSpec("sum", "float32", (1,)), TensorSpec("wide", "float32", (4,))),
    )
    left, right = keras.Input((2,), name="left"), keras.Input((3,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model(
        {"left": left, "right": right},
        {"sum": keras.layers.Dense(1, name="sum")(joined), "wide": keras.layers.Dense(4, name="wide")(joined)},
    )
    write_saved_model(model, signature, tmp_path)
    arrays = {"right": np.ones((2, 3), np.float32), "left": np.zeros((2, 2), np.float32)}
    outputs = SavedModelRunner(tmp_path, signature).run(arrays)
    assert {name: array.shape for name, array in outputs.items()} == {"sum": (2, 1), "wide": (2, 4)}
    for name, expected in model(arrays).items():
        np.testing.assert_allclose(outputs[name], expected, atol=1e-6)


def test_a_saved_model_without_the_signature_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(ArtifactError, match="has no signature 'serving_default'"):
        SavedModelRunner(tmp_path, SIGNATURE)
