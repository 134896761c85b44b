"""A published version as TensorFlow Serving meets it: the directory, the graph, the requests it warms up with."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from bmp.artifact.litert import LiteRTRunner
from bmp.artifact.samples import read_samples


@pytest.fixture(scope="module")
def version(quick_run):
    return quick_run.version.path


@pytest.fixture(scope="module")
def served(version):
    """What TensorFlow Serving loads: the graph and its variables, and nothing of Keras."""
    return tf.saved_model.load(str(version), tags=["serve"])


def ask(served, inputs):
    return {name: tensor.numpy() for name, tensor in served.signatures["serving_default"](**inputs).items()}


def test_the_directory_is_a_number_with_the_files_it_looks_for(version):
    assert version.name == "1" and version.parent.name == "digits"
    for name in ("saved_model.pb", "variables/variables.index", "assets.extra/tf_serving_warmup_requests"):
        assert (version / name).is_file()
    numbered = [entry.name for entry in version.parent.iterdir() if entry.name.isdigit()]
    assert numbered == ["1"]  # everything else beside the versions it passes over


def test_the_warm_up_requests_run_and_say_what_the_samples_say(quick_run, version, served):
    path = str(version / "assets.extra" / "tf_serving_warmup_requests")
    logs = [PredictionLog.FromString(record) for record in tf.data.TFRecordDataset(path).as_numpy_iterator()]
    samples = read_samples(version)
    assert 0 < len(logs) == len(samples.targets) <= 1000
    for row, log in enumerate(logs):
        request = log.predict_log.request
        assert (request.model_spec.name, request.model_spec.signature_name) == ("digits", "serving_default")
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        quick_run.data.signature.check_inputs(inputs)
        np.testing.assert_array_equal(inputs["image"], samples.inputs["image"][row : row + 1])
        assert ask(served, {"image": tf.constant(inputs["image"])})["probabilities"].shape == (1, 10)


def test_answers_are_those_of_litert_in_float32(quick_run, version, served):
    runner = LiteRTRunner(version / quick_run.manifest.variant("float32").file, quick_run.data.signature)
    inputs = quick_run.data.test.load().inputs
    theirs, ours = ask(served, {"image": tf.constant(inputs["image"])}), runner.run(inputs)
    np.testing.assert_allclose(theirs["probabilities"], ours["probabilities"], atol=1e-4, rtol=0)
