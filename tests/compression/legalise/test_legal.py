"""Every rewrite leaves answers as they are, and layers that techniques know."""

import legal_networks as networks
import numpy as np
import pytest
import tf_keras as keras
from legal_networks import chain, shake, sign

from bmp.compression.legalise.equality import MAX_DIFFERENCE, answer, draw_inputs, measure_difference
from bmp.compression.legalise.legal import DEFAULT, REWRITES, legalise
from bmp.errors import ConfigError, ExportError

IMAGE, ROW = sign(6, 6, 2), sign(5)

CASES = {
    "conv_norm_relu": (IMAGE, ["fold_norms"], "BatchNormalization"),
    "conv_relu_norm": (IMAGE, ["fold_norms"], "BatchNormalization"),
    "norm_before_padding": (IMAGE, ["norms_to_convolutions"], "BatchNormalization"),
    "norm_before_pooling": (IMAGE, ["fold_norms"], "BatchNormalization"),
    "depthwise_norm": (IMAGE, ["fold_norms"], "BatchNormalization"),
    "transposed_norm": (sign(4, 4, 2), ["fold_norms"], "BatchNormalization"),
    "dense_norm": (ROW, ["fold_norms"], "BatchNormalization"),
    "dense_relu_norm_dropout": (ROW, ["fold_norms"], "BatchNormalization"),
    "norm_on_both_sides": (IMAGE, ["fold_norms", "fold_norms"], "BatchNormalization"),
    "two_users": (IMAGE, ["norms_to_convolutions"], "BatchNormalization"),
    "series": (sign(16, 4), ["widen_convolutions"], "Conv1D"),
    "attention": (sign(6, 8), ["split_attention"], "MultiHeadAttention"),
    "masked_attention": (sign(7, dtype="int32", vocabulary=5), ["split_attention"], "MultiHeadAttention"),
    "loops": (sign(5, 4), ["unroll_loops"], "none"),
    "nested": (ROW, ["flatten"], "Functional"),
    "subclassed": (ROW, ["trace", "fold_norms"], "BatchNormalization"),
}


def kinds(model):
    return {type(layer).__name__ for layer in model.layers}


@pytest.mark.parametrize("name", CASES)
def test_answers_stay_and_the_hard_layer_goes(name):
    signature, steps, gone = CASES[name]
    model = getattr(networks, name)()
    before, inputs = model.get_weights(), [draw_inputs(signature, count=9, seed=7)]
    legal = legalise(model, signature)
    assert [step.name for step in legal.steps] == steps and not legal.notes
    assert gone not in kinds(legal.model)
    assert all(step.difference <= MAX_DIFFERENCE and step.layers for step in legal.steps)
    wanted = answer(model, inputs)
    assert np.ptp(wanted[0]) > 0.01  # not a network that says the same to everything
    assert measure_difference(wanted, answer(legal.model, inputs)) <= MAX_DIFFERENCE
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not {id(layer) for layer in model.layers} & {id(layer) for layer in legal.model.layers}
    assert not {variable.ref() for variable in model.weights} & {variable.ref() for variable in legal.model.weights}
    assert legalise(legal.model, signature).model is legal.model  # nothing is left to do


def test_a_rewritten_model_can_be_saved_read_and_trained(tmp_path):
    import bmp.models.layers  # noqa: F401 - registers the layer of attention

    legal = legalise(networks.attention(), sign(6, 8)).model
    with pytest.warns(UserWarning, match="HDF5"):
        legal.save(tmp_path / "model.h5")
    inputs = [draw_inputs(sign(6, 8))]
    read = keras.models.load_model(tmp_path / "model.h5", compile=False)
    np.testing.assert_array_equal(answer(legal, inputs)[0], answer(read, inputs)[0])
    read.compile("sgd", "mse")
    x = inputs[0]["x"]
    assert np.isfinite(read.fit(x, np.ones((len(x), 3)), verbose=0).history["loss"]).all()


def test_loops_are_laid_out_where_they_are_short():
    legal = legalise(networks.loops(), sign(5, 4))
    recurrent = [layer for layer in legal.model.layers if hasattr(layer, "unroll") or hasattr(layer, "forward_layer")]
    assert [getattr(layer, "forward_layer", layer).unroll for layer in recurrent] == [True] * 3
    assert recurrent[2].backward_layer.unroll
    long = chain((300, 4), keras.layers.LSTM(3))
    assert legalise(long, sign(300, 4)).model is long


def test_what_became_of_a_layer_is_known():
    legal = legalise(networks.attention(), sign(6, 8))
    assert legal.find("self") == ("self_query", "self_key", "self_value", "self_output")
    assert legal.explain("self") == ("split_attention",)
    assert (legal.find("answer"), legal.explain("answer")) == (("answer",), ())
    folded = legalise(networks.conv_relu_norm(), IMAGE)
    assert folded.find("n") == ("answer",)  # forward, through the flattening
    assert folded.find("c") == ("c",)


def test_scales_are_folded_when_asked_for():
    model, signature = networks.scaled_bytes(), sign(6, 6, 2, dtype="uint8")
    assert legalise(model, signature).model is model
    legal = legalise(model, signature, rewrites=[*DEFAULT, "fold_scales"])
    assert [step.name for step in legal.steps] == ["fold_scales"]
    (scale,) = [layer for layer in legal.model.layers if isinstance(layer, keras.layers.Rescaling)]
    assert scale.scale == 1.0  # it only makes floats of bytes now
    statistics = keras.layers.Normalization(mean=[0.2, -0.3, 0.1, 0, 1], variance=[1.5, 2, 3, 1, 0.5])
    legal = legalise(chain((5,), statistics), ROW, rewrites=["fold_scales"])
    assert kinds(legal.model) == {"InputLayer", "Dense"}


def test_a_layer_in_two_places_stays_as_it_is():
    inputs = keras.Input((6, 6, 2), name="x")
    conv, norm = keras.layers.Conv2D(2, 3, padding="same"), keras.layers.BatchNormalization()
    x = conv(norm(conv(norm(inputs))))
    model = shake(keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x))))
    assert legalise(model, IMAGE).model is model


def test_what_is_not_equal_is_refused_with_the_figure(monkeypatch):
    fold = REWRITES["fold_norms"]

    def spoil(model, signature, allows):
        draft = fold(model, signature, allows)
        if draft and "n" in draft.layers:
            draft.model.set_weights([weight * 1.01 for weight in draft.model.get_weights()])
        return draft

    monkeypatch.setitem(REWRITES, "fold_norms", spoil)
    layers = keras.layers
    first = layers.Conv2D(4, 3), layers.BatchNormalization(name="n"), layers.ReLU()
    model = chain((6, 6, 2), *first, layers.Conv2D(4, 3), layers.BatchNormalization(name="good"), layers.Flatten())
    legal = legalise(model, IMAGE, rewrites=["fold_norms"])
    assert [list(step.layers) for step in legal.steps] == [["good"]]
    assert (
        len(legal.notes) == 1 and "Layer 'n' was not rewritten by fold_norms: answers would change by" in legal.notes[0]
    )


class Branching(keras.Model):
    """Decides by what it is given."""

    def __init__(self):
        super().__init__(name="branching")
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        if keras.backend.mean(inputs) > 0:
            return self.dense(inputs)
        return self.dense(-inputs)


class Loose(keras.Model):
    """Has a variable that belongs to no layer."""

    def __init__(self):
        super().__init__(name="loose")
        self.kernel = self.add_weight("kernel", (5, 3))

    def call(self, inputs):
        return keras.backend.dot(inputs, self.kernel)


@pytest.mark.parametrize("kind, match", [(Branching, "cannot be followed"), (Loose, "has weights of its own")])
def test_a_model_that_cannot_be_traced_is_named_with_what_to_do(kind, match):
    model = kind()
    model(np.ones((1, 5), np.float32))
    with pytest.raises(ExportError, match=match):
        legalise(model, ROW)


def test_an_unknown_rewrite_is_refused_with_a_guess():
    with pytest.raises(ConfigError, match="Did you mean 'fold_norms'"):
        legalise(networks.dense_norm(), ROW, rewrites=["fold_norm"])
