import numpy as np
import pytest
import tf_keras as keras
from nets import build, list_of, make_workshop, measure

from bmp.compression.chain import Step
from bmp.compression.technique import Form
from bmp.compression.techniques.prune import Prune
from bmp.errors import ConfigError, ExportError, UnknownNameError

KERNELS = ("first", "second", "hidden", "probabilities")


@pytest.fixture(scope="module")
def workshop():
    return make_workshop()


@pytest.fixture(scope="module")
def form(workshop):
    return Form(build(workshop), notes=("before",))


@pytest.fixture(scope="module")
def pruned(form, workshop):
    before = form.model.get_weights()
    made = Prune(sparsity=0.7, skip=["first"], epochs=3).apply(form, workshop)
    for weight, old in zip(form.model.get_weights(), before, strict=True):  # the model given is not touched
        np.testing.assert_array_equal(weight, old)
    return made


def zeros_of(model, name):
    return float(np.mean(model.get_layer(name).kernel.numpy() == 0))


def test_kernels_are_as_sparse_as_asked(pruned):
    zeros = {name: zeros_of(pruned.model, name) for name in KERNELS}
    assert zeros.pop("first") < 0.1
    assert zeros == pytest.approx(dict.fromkeys(KERNELS[1:], 0.7), abs=0.002)
    assert list_of(pruned.patterns, "zeros") == zeros


def test_still_knows_what_it_learned(pruned, form, workshop):
    assert measure(pruned.model, workshop) > measure(form.model, workshop) - 0.1
    assert len(pruned.history) == 3
    assert pruned.notes == ("before",)


def test_comes_back_plain_and_with_the_same_layers(pruned, form, workshop):
    assert [layer.get_config() for layer in pruned.model.layers] == [layer.get_config() for layer in form.model.layers]
    assert pruned.model.layers[3].call.__func__ is keras.layers.Conv2D.call
    assert not {id(weight) for weight in pruned.model.weights} & {id(weight) for weight in form.model.weights}
    assert (pruned.model.input_names, pruned.model.output_names) == (form.model.input_names, form.model.output_names)


def test_what_is_kept_was_trained_and_what_goes_was_small(form, workshop):
    for rate, moves in ((0.003, True), (1e-12, False)):
        made = Prune(sparsity=0.25, epochs=1, learning_rate=rate).apply(form, workshop)
        kernel, old = (model.get_layer("hidden").kernel.numpy() for model in (made.model, form.model))
        assert (np.abs(kernel - old)[kernel != 0].max() > 1e-4) == moves
        if not moves:
            assert np.abs(old[kernel == 0]).max() <= np.abs(old[kernel != 0]).min() + 1e-6


@pytest.mark.parametrize(("epochs", "batch_size"), [(1, 64), (3, 370), (2, 10_000)])
def test_the_share_is_reached_however_few_steps_there_are(form, epochs, batch_size):
    made = Prune(sparsity=0.8, epochs=epochs).apply(form, make_workshop(batch_size=batch_size))
    assert zeros_of(made.model, "hidden") == pytest.approx(0.8, abs=0.001)


def test_each_layer_can_have_a_share_of_its_own(form, workshop):
    made = Prune(sparsity={"hidden": 0.9, "second": 0.5}, epochs=1, schedule="constant").apply(form, workshop)
    assert list_of(made.patterns, "zeros") == pytest.approx({"hidden": 0.9, "second": 0.5}, abs=0.002)
    assert zeros_of(made.model, "probabilities") == 0


def test_blocks_of_four_inputs_go_together(form, workshop):
    made = Prune(sparsity=0.5, block="1x4", epochs=1).apply(form, workshop)
    assert list_of(made.patterns, "blocks") == pytest.approx(dict.fromkeys(KERNELS[1:], 0.5), abs=0.03)
    assert "prune: left as it is, with fewer than 4 inputs to an output: first." in made.notes
    kernel = made.model.get_layer("second").kernel.numpy()  # (3, 3, 8, 12)
    counts = (kernel.reshape(3, 3, 2, 4, 12) == 0).sum(axis=3)
    assert set(np.unique(counts)) == {0, 4}


def test_recurrent_embedded_and_wrapped_kernels_are_pruned_and_the_rest_is_said(workshop):
    inputs = keras.Input((8, 8), name="image")
    x = keras.layers.TimeDistributed(keras.layers.Dense(8), name="each")(inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(4), name="both")(x)
    x = keras.layers.Reshape((8, 1))(x)
    x = keras.layers.LocallyConnected1D(1, 2, name="local")(x)
    x = x * 2.0 + 1.0
    outputs = keras.layers.Dense(10, "softmax", name="probabilities")(keras.layers.Flatten()(x))
    made = Prune(sparsity=0.5, epochs=1).apply(Form(keras.Model(inputs, outputs)), workshop)
    assert list_of(made.patterns, "zeros") == pytest.approx({"each": 0.5, "both": 0.5, "probabilities": 0.5}, abs=0.02)
    both = made.model.get_layer("both")
    for cell in (both.forward_layer.cell, both.backward_layer.cell):
        for kernel in (cell.kernel, cell.recurrent_kernel):
            assert np.mean(kernel.numpy() == 0) == pytest.approx(0.5, abs=0.02)
    [note] = made.notes
    assert note.startswith("prune: left as it is: local (LocallyConnected1D): ")


def test_a_frozen_model_is_pruned_without_being_trained(workshop):
    model = build(workshop, epochs=0)
    model.trainable = False
    made = Prune(sparsity=0.5).apply(Form(model), workshop)
    assert len(made.history) == 0
    assert zeros_of(made.model, "hidden") == 0.5


def test_a_nested_model_is_laid_open(workshop):
    inputs = keras.Input((8, 8), name="image")
    flat = keras.layers.Flatten()(inputs)
    inner = keras.Sequential([keras.layers.Dense(8, input_shape=(64,), name="inside")], name="inner")
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probabilities")(inner(flat)))
    made = Prune(sparsity=0.5, epochs=1).apply(Form(model), workshop)
    assert set(list_of(made.patterns, "zeros")) == {"inside", "probabilities"}


def test_a_model_without_kernels_cannot_be_pruned(workshop):
    inputs = keras.Input((8, 8), name="image")
    model = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(keras.layers.Flatten()(inputs)))
    with pytest.raises(ExportError, match=r"has no layer with a kernel to prune\. Leave prune out\."):
        Prune().apply(Form(model), workshop)


def test_a_subclassed_model_is_refused(workshop):
    class Own(keras.Model):
        pass

    with pytest.raises(ExportError, match=r"The model 'own(_\d+)?' is subclassed"):
        Prune().apply(Form(Own()), workshop)


def test_wrong_names_are_guessed(form, workshop):
    with pytest.raises(UnknownNameError, match=r"prune: skip names the layer 'hiden'.*Did you mean 'hidden'"):
        Prune(skip=["hiden"]).apply(form, workshop)
    with pytest.raises(UnknownNameError, match=r"prune: sparsity names the layer 'frist'.*Did you mean 'first'"):
        Prune(sparsity={"frist": 0.5}).apply(form, workshop)
    with pytest.raises(ConfigError, match=r"names the layer 'relu', which has no kernel"):
        Prune(sparsity={"relu": 0.5}).apply(form, workshop)


@pytest.mark.parametrize(
    "args", [{"sparsity": 1.0}, {"sparsity": 0}, {"sparsity": {"a": 2.0}}, {"block": "4x4"}, {"epochs": 0}, {"x": 1}]
)
def test_wrong_arguments_are_refused(args):
    with pytest.raises(ConfigError, match=r"The technique 'prune'"):
        Step("prune", args).build()


def test_names_tell_two_uses_apart():
    assert Prune().distinguishing() == ["0.8"]
    assert Prune(sparsity=0.5, block="1x4", schedule="constant").distinguishing() == ["0.5", "1x4", "constant"]
    assert Prune(sparsity={"a": 0.5}).distinguishing() == ["by layer"]


def test_support_of_layers():
    dense, depthwise, norm = keras.layers.Dense(2), keras.layers.DepthwiseConv2D(3), keras.layers.LayerNormalization()
    for layer, shape in ((dense, (1, 3)), (depthwise, (1, 4, 4, 2)), (norm, (1, 3))):
        layer.build(shape)
    verdicts = [Prune().support(layer).verdict for layer in (dense, depthwise, norm, keras.layers.ReLU())]
    assert verdicts == ["applies", "no", "nothing", "nothing"]
    assert Prune(skip=[dense.name]).support(dense).reason == "it is in skip"
    assert Prune(block="1x4").support(dense).verdict == "no"
