"""The contract of every model."""

import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from model_cases import CASES, build, make_batch, measure_loss

from bmp.artifact.formats import FORMATS
from bmp.artifact.guard import check_h5, check_keras, check_litert, check_saved_model
from bmp.artifact.h5 import KerasRunner
from bmp.artifact.litert import LiteRTRunner, Storage, write_litert
from bmp.errors import ExportError
from bmp.models import MODELS
from bmp.objectives import OBJECTIVES

EACH = pytest.mark.parametrize("case", CASES, ids=str)
LEARNERS = pytest.mark.parametrize("case", [case for case in CASES if case.learns], ids=str)
FITTED = pytest.mark.parametrize("case", [case for case in CASES if not case.learns], ids=str)
UNROLLED = pytest.mark.parametrize("case", [case for case in CASES if not case.no_litert], ids=str)
LOOPS = pytest.mark.parametrize("case", [case for case in CASES if case.no_litert], ids=str)


@functools.cache
def built(number):
    """A model that no test may change, built once."""
    return build(CASES[number])


def model_of(case):
    return built(CASES.index(case))


def test_every_model_and_every_objective_is_tried():
    assert {case.name for case in CASES} == set(MODELS)
    assert {case.signature.objective for case in CASES} == set(OBJECTIVES)


@EACH
def test_is_named_and_shaped_as_its_signature(case):
    model, (output,) = model_of(case), case.signature.outputs
    assert model.input_names == [spec.name for spec in case.signature.inputs]
    assert [tuple(x.shape) for x in model.inputs] == [(None, *spec.shape) for spec in case.signature.inputs]
    assert [x.dtype.name for x in model.inputs] == [spec.dtype for spec in case.signature.inputs]
    assert (model.output_names, model.output_shape) == ([output.name], (None, *output.shape))
    assert model.output.dtype.name == output.dtype


@EACH
def test_is_one_flat_graph_of_layers(case):
    # Pruning, quantization and clustering copy and replace single layers.
    assert not any(isinstance(layer, keras.Model) for layer in model_of(case).layers)


@EACH
def test_the_output_is_what_the_objective_says(case):
    activation = OBJECTIVES[case.signature.objective].activation
    inputs = {
        name: array * 10 if array.dtype == np.float32 else array
        for name, array in make_batch(case.signature).inputs.items()
    }
    outputs = model_of(case)(inputs).numpy()
    assert np.isfinite(outputs).all() and np.ptp(outputs) > 0
    if activation != "linear":
        assert outputs.min() >= 0 and outputs.max() <= 1
    if activation == "softmax":
        np.testing.assert_allclose(outputs.sum(axis=-1), 1, atol=1e-5)
    else:
        assert np.abs(outputs.sum(axis=-1) - 1).max() > 1e-3


@functools.cache
def trained(number):
    """A second build: its initial weights, its loss before and after one step, and the gradients of that step."""
    case = CASES[number]
    model, batch = build(case), make_batch(case.signature)
    weights = model.get_weights()
    if not case.learns:
        return SimpleNamespace(weights=weights)
    with tf.GradientTape() as tape:
        before = measure_loss(case, model, batch)
    gradients = tape.gradient(before, model.trainable_weights)
    keras.optimizers.SGD(1e-3).apply_gradients(zip(gradients, model.trainable_weights, strict=True))
    after = measure_loss(case, model, batch)
    names = [weight.name for weight in model.trainable_weights]
    return SimpleNamespace(
        weights=weights, before=before, after=after, gradients=dict(zip(names, gradients, strict=True))
    )


@LEARNERS
def test_one_step_of_training_lowers_the_loss(case):
    step = trained(CASES.index(case))
    assert float(step.after) < float(step.before)


@LEARNERS
def test_every_weight_gets_a_gradient(case):
    gradients = trained(CASES.index(case)).gradients
    assert len(gradients) == len(model_of(case).trainable_weights) >= 2
    for name, gradient in gradients.items():
        assert gradient is not None and np.any(tf.convert_to_tensor(gradient)), name


@FITTED
def test_what_is_fitted_elsewhere_has_nothing_left_to_train(case):
    assert model_of(case).trainable_weights == []
    assert len(model_of(case).weights) >= 2


@EACH
def test_a_signature_and_a_seed_give_one_model(case):
    for one, other in zip(model_of(case).get_weights(), trained(CASES.index(case)).weights, strict=True):
        np.testing.assert_array_equal(one, other)


@EACH
def test_a_copy_made_layer_by_layer_says_the_same(case):
    model, batch = model_of(case), make_batch(case.signature)
    copy = keras.models.clone_model(model, clone_function=lambda layer: type(layer).from_config(layer.get_config()))
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(batch.inputs), model(batch.inputs))


CHECKS = {"h5": check_h5, "keras": check_keras, "saved_model": check_saved_model, "litert": check_litert}


def save_and_load(form, case, model, directory):
    """Returns the runner of a format, whose file bmp would take from a stranger as well."""
    path = directory / FORMATS[form].path
    FORMATS[form].write(model, case.signature, path)
    if form in CHECKS:  # nobody brings ONNX in
        CHECKS[form](path)
    return FORMATS[form].load(path, case.signature)


@functools.cache
def expected(number, size):
    """What the model itself says of a batch."""
    case = CASES[number]
    return KerasRunner(built(number), case.signature).run(make_batch(case.signature, size).inputs)


def assert_same_outputs(case, runner):
    for size in (1, 5):
        ours, theirs = runner.run(make_batch(case.signature, size).inputs), expected(CASES.index(case), size)
        assert list(ours) == list(theirs)
        for name, array in theirs.items():
            assert ours[name].dtype == array.dtype and ours[name].shape == array.shape
            np.testing.assert_allclose(ours[name], array, atol=5e-6)


@pytest.mark.parametrize("form", ["h5", "saved_model"])
@EACH
def test_saved_and_loaded_it_says_the_same(case, form, tmp_path):
    assert_same_outputs(case, save_and_load(form, case, model_of(case), tmp_path))


ON_REQUEST = [case for case in CASES if re.match("resnet|rnn-series|transformer-tokens", str(case))]


@pytest.mark.parametrize("form", ["keras", "onnx"])
@pytest.mark.parametrize("case", ON_REQUEST, ids=str)
def test_what_is_only_written_on_request_says_the_same(case, form, tmp_path):
    assert_same_outputs(case, save_and_load(form, case, model_of(case), tmp_path))


@UNROLLED
def test_litert_says_the_same_at_every_batch_size(case, tmp_path):
    assert_same_outputs(case, save_and_load("litert", case, model_of(case), tmp_path))


@LOOPS
def test_what_litert_cannot_convert_says_which_operation_forbids_it(case, tmp_path):
    with pytest.raises(ExportError, match=case.no_litert):
        save_and_load("litert", case, model_of(case), tmp_path)
    assert not list(tmp_path.iterdir())


QUANTIZED = [case for case in CASES if re.match("lenet5|gpt-.*token$|transformer-tokens", str(case))]


@pytest.mark.parametrize("case", QUANTIZED, ids=str)
def test_int8_stays_near_at_every_batch_size(case, tmp_path):
    model, path = model_of(case), tmp_path / "model.tflite"
    write_litert(model, case.signature, path, storage=Storage("int8"), calibration=make_batch(case.signature).inputs)
    runner, inputs = LiteRTRunner(path, case.signature), make_batch(case.signature).inputs
    (wanted,) = expected(CASES.index(case), 32).values()
    for size in (1, 32):
        (outputs,) = runner.run({name: array[:size] for name, array in inputs.items()}).values()
        np.testing.assert_allclose(outputs, wanted[:size], atol=0.03)
