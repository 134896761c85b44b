import numpy as np
import pytest
import tf_keras as keras
from nets import build, make_workshop

from bmp.artifact.graph import read_graph
from bmp.artifact.litert import LiteRTRunner, Storage, write_litert
from bmp.compression.evidence.integrity import check_patterns, count_patterns
from bmp.compression.technique import Form, Pattern
from bmp.compression.techniques.cluster import Cluster
from bmp.compression.techniques.prune import Prune
from bmp.compression.techniques.qat import QuantizationAwareTraining
from bmp.compression.techniques.two_of_four import TwoOfFour
from bmp.errors import ExportError, UnknownNameError


@pytest.fixture(scope="module")
def workshop():
    return make_workshop(epochs=2)


@pytest.fixture(scope="module")
def form(workshop):
    return Form(build(workshop))


@pytest.fixture(scope="module")
def made_before():
    """Forms that several chains share, by what was done."""
    return {}


@pytest.fixture(scope="module")
def trained(form, workshop):
    """The form after the training, and the weights of the model that was given."""
    before = [weight.copy() for weight in form.model.get_weights()]
    return QuantizationAwareTraining(epochs=3).apply(form, workshop), before


def export(form, workshop, path):
    write_litert(form.model, workshop.trainer.data.signature, path, storage=form.storage)
    return path


def measure_file(path, workshop):
    held_out = workshop.trainer.data.validation.load()
    answers = LiteRTRunner(path, workshop.trainer.data.signature).run(held_out.inputs)["probabilities"]
    return np.mean(answers.argmax(axis=-1) == held_out.targets)


CHAINS = {
    "qat": [],
    "two_of_four": [TwoOfFour()],
    "cqat": [Cluster(clusters=8)],
    "cqat per channel": [Cluster(clusters=4, per_channel=True)],
    "two_of_four cqat": [TwoOfFour(), Cluster(clusters=8)],
}
"""Zeros alone, shared values alone, and both; test_contract.py goes from pruning to clusters and quantizers."""


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_the_exported_file_is_int8_right_and_shows_every_pattern(form, workshop, trained, made_before, tmp_path, chain):
    made = form
    for number, technique in enumerate(chain, 1):
        key = repr(chain[:number])
        made = made_before.get(key) or technique.apply(made, workshop)
        made_before[key] = made
    made = QuantizationAwareTraining(epochs=3).apply(made, workshop) if chain else trained[0]
    assert made.storage == Storage("int8", is_trained=True)
    assert len(made.history) == 2 * len(chain) + 3
    path = export(made, workshop, tmp_path / "model.tflite")
    assert [kernel.data.dtype for kernel in read_graph(path).kernels] == [np.int8] * 4
    check_patterns(path, made.patterns, made.model)
    if any(pattern.kind == "values" and not pattern.per_channel for pattern in made.patterns):
        assert max(count.values for count in count_patterns(path).values()) <= 8  # one scale for the whole kernel
    assert measure_file(path, workshop) > 0.8  # a guess: 0.1


def test_the_model_given_is_not_touched_and_no_two_forms_share_weights(form, trained):
    made, before = trained
    for weight, old in zip(form.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert not {id(weight) for weight in made.model.weights} & {id(weight) for weight in form.model.weights}


def test_kernels_before_a_relu_layer_are_rounded_in_training_too(trained):
    names = {weight.name for weight in trained[0].model.weights}
    for layer in ("first", "second", "hidden", "probabilities"):
        assert f"quant_{layer}/kernel_min:0" in names


def test_ranges_begin_as_those_of_examples(form, workshop):
    """TF-MOT's begin at 6 to either side, and would need thousands of steps to get where the activations are."""
    made = QuantizationAwareTraining(epochs=1, learning_rate=1e-9).apply(form, workshop)
    ranges = {weight.name: float(weight.numpy()) for weight in made.model.weights if weight.shape == ()}
    examples = workshop.trainer.data.train.load().inputs["image"]
    inner = keras.Model(form.model.inputs, form.model.get_layer("hidden_relu").output)
    largest = float(inner(examples).numpy().max())
    assert ranges["quant_hidden_relu/output_max:0"] == pytest.approx(largest, rel=0.35)
    assert [value for name, value in ranges.items() if name.startswith("quantize_layer")][1:2] == [16]


def test_layers_that_tfmot_does_not_know_stay_float_and_keep_their_patterns(workshop, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8), name="image")
    x = keras.layers.Reshape((2, 32))(keras.layers.Rescaling(0.0625)(inputs))
    x = keras.layers.LSTM(12, unroll=True, name="lstm")(x)
    x = keras.layers.LayerNormalization(name="norm")(x)
    outputs = keras.layers.Dense(10, "softmax", name="probabilities")(x)
    form = Prune(sparsity=0.5, epochs=1).apply(Form(keras.Model(inputs, outputs)), workshop)
    made = QuantizationAwareTraining(epochs=1).apply(form, workshop)
    kernel = made.model.get_layer("lstm").cell.kernel.numpy()
    np.testing.assert_array_equal(kernel == 0, form.model.get_layer("lstm").cell.kernel.numpy() == 0)
    assert np.abs(kernel - form.model.get_layer("lstm").cell.kernel.numpy()).max() > 0
    assert "Trained as float, without rounding: lstm (LSTM)." in made.notes
    check_patterns(export(made, workshop, tmp_path / "model.tflite"), made.patterns, made.model)


def test_frozen_layers_stay_as_they_are(workshop):
    model = build(workshop, epochs=0)
    model.get_layer("hidden").trainable = False
    made = QuantizationAwareTraining(epochs=1).apply(Form(model), workshop)
    after = {weight.name: weight.numpy() for weight in made.model.weights}
    np.testing.assert_array_equal(after["hidden/kernel:0"], model.get_layer("hidden").kernel.numpy())
    assert np.abs(after["second/kernel:0"] - model.get_layer("second").kernel.numpy()).max() > 0


def test_skipped_layers_stay_float(form, workshop, tmp_path):
    made = QuantizationAwareTraining(skip=["probabilities"], epochs=1).apply(form, workshop)
    kernels = read_graph(export(made, workshop, tmp_path / "model.tflite")).kernels
    assert sorted(kernel.data.dtype.name for kernel in kernels) == ["float32", "int8", "int8", "int8"]
    assert "Trained as float, without rounding: probabilities (Dense)." in made.notes


def test_a_pattern_that_is_gone_is_told(form, workshop):
    lost = Form(form.model, patterns=(Pattern("values", "hidden", 4),))
    with pytest.raises(ExportError, match=r"qat: layer 'hidden' should have 4 different values and has \d+"):
        QuantizationAwareTraining().apply(lost, workshop)
    lost = Form(form.model, patterns=(Pattern("zeros", "elsewhere", 0.5),))
    with pytest.raises(ExportError, match="qat: the layers elsewhere have patterns to keep"):
        QuantizationAwareTraining().apply(lost, workshop)


def test_what_cannot_be_done_is_told(form, workshop):
    with pytest.raises(UnknownNameError, match=r"qat: skip names the layer 'fist'.*Did you mean 'first'"):
        QuantizationAwareTraining(skip=["fist"]).apply(form, workshop)
    everything = ["first", "second", "hidden", "probabilities"]
    with pytest.raises(ExportError, match=r"qat: TF-MOT can quantize no layer with weights of the model 'small'"):
        QuantizationAwareTraining(skip=everything).apply(form, workshop)
    model = build(workshop, epochs=0)
    model.trainable = False
    with pytest.raises(ExportError, match=r"has nothing that could be trained\. Use int8"):
        QuantizationAwareTraining().apply(Form(model), workshop)


def test_support_of_layers():
    dense, norm, elu = keras.layers.Dense(2), keras.layers.LayerNormalization(), keras.layers.Dense(2, "elu")
    for layer in (dense, norm, elu):
        layer.build((1, 3))
    technique = QuantizationAwareTraining(skip=["left"])
    verdicts = [technique.support(layer).verdict for layer in (dense, norm, elu, keras.layers.Softmax())]
    assert verdicts == ["applies", "no", "no", "applies"]
    assert technique.support(keras.layers.Lambda(abs)).verdict == "nothing"
    assert technique.support(keras.layers.ReLU(name="left")).reason == "it is in skip"
