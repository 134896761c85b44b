import numpy as np
import pytest
import tf_keras as keras
from nets import make_workshop

from bmp.catalog import Catalog
from bmp.compression.technique import Form
from bmp.compression.techniques.channels import Channels
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import ConfigError, ExportError, UnknownNameError
from bmp.models import MODELS


@pytest.fixture(scope="module")
def workshop():
    return make_workshop(strategy=STRATEGIES["mirrored"](Cluster(), None).strategy, epochs=1)


@pytest.fixture(scope="module")
def model(workshop):
    """A trained network; what follows the normalisation cannot lose channels."""
    keras.utils.set_random_seed(0)
    with workshop.trainer.strategy.scope():
        inputs = keras.Input((8, 8), name="image")
        x = keras.layers.Rescaling(0.0625)(keras.layers.Reshape((64,))(inputs))
        for name, units in (("a", 64), ("b", 48), ("tiny", 4)):
            x = keras.layers.Dense(units, "relu", name=name)(x)
        x = keras.layers.LayerNormalization(name="norm")(keras.layers.Dense(32, name="c")(x))
        model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probabilities")(x))
    workshop.trainer.fit(model, epochs=8, learning_rate=3e-3)
    return model


@pytest.fixture(scope="module", params=["magnitude", "taylor"])
def smaller(request, model, workshop):
    before = model.get_weights()
    form = Channels(remove=0.5, score=request.param).apply(Form(model, notes=("before",)), workshop)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    return form


def test_the_network_is_smaller_and_nearly_as_good(smaller):
    widths = {layer.name: layer.units for layer in smaller.model.layers if isinstance(layer, keras.layers.Dense)}
    assert widths == {"a": 32, "b": 24, "tiny": 4, "c": 32, "probabilities": 10}
    assert smaller.history.epochs[-1].metrics["val_accuracy"] > 0.85
    assert {epoch.stage for epoch in smaller.history} == {"compress"}


def test_what_was_left_as_it_is_is_said(smaller):
    assert smaller.notes == (
        "before",
        "channels: all of c stay: they reach 'norm' (LayerNormalization), which may mix channels.",
        "channels: too few to lose any and stay a multiple of 4: tiny.",
    )


def test_layers_can_lose_different_shares_or_none(model, workshop):
    form = Channels(remove={"a": 0.8}, multiple=8).apply(Form(model), workshop)
    assert [form.model.get_layer(name).units for name in ("a", "b")] == [16, 48]
    form = Channels(remove=0.5, multiple=1, skip=["a"]).apply(Form(model), workshop)
    assert [form.model.get_layer(name).units for name in ("a", "b", "tiny")] == [64, 24, 2]
    assert "channels: all of a stay: 'a' is to be skipped." in form.notes


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ({"remove": {"aa": 0.5}}, UnknownNameError, "Did you mean 'a'?"),
        ({"remove": {"probabilities": 0.5}}, ConfigError, "'probabilities' cannot lose channels: they are the output"),
        ({"remove": 0.5, "multiple": 64}, ExportError, "No layer can lose channels at remove: 0.5 and multiple: 64"),
        ({"remove": 0.5, "skip": ["bb"]}, UnknownNameError, "The model has no layer 'bb'"),
    ],
)
def test_what_cannot_be_done_is_said(model, workshop, args, error, message):
    with pytest.raises(error) as caught:
        Channels(**args).apply(Form(model), workshop)
    assert message in caught.value.message


def test_channels_that_go_together_lose_the_same(workshop):
    network = MODELS["resnet"](workshop.trainer.data.signature, filters=4, blocks=1, stages=1)
    technique = Channels(remove={"stem_conv": 0.5, "block_1_1_2_conv": 0.75}, multiple=1)
    with pytest.raises(ConfigError, match=r"remove asks for 0\.5 and for 0\.75 of the same channels"):
        technique.apply(Form(network), workshop)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"remove": 1.0}, "less than 1"),
        ({"remove": "half"}, "argument 'remove' is 'half'"),
        ({"score": "taylr"}, "'magnitude' or 'taylor'"),
        ({"multiple": 0}, "greater than 0"),
        ({"keep": 0.5}, "takes no argument 'keep'"),
    ],
)
def test_wrong_arguments_are_refused(args, message):
    with pytest.raises(ConfigError) as caught:
        Catalog("technique", {"channels": Channels}).bind("channels", args)
    assert message in caught.value.message


def test_support_is_told_layer_by_layer(model):
    technique = Channels(skip=["b"])
    found = {layer.name: technique.support(layer).verdict for layer in model.layers}
    assert [found[name] for name in ("a", "b", "norm", "probabilities")] == ["applies", "no", "no", "nothing"]
    assert found["image"] == "nothing"


def test_names_tell_uses_apart():
    assert Channels(remove=0.25).distinguishing() == ["0.25"]
    assert Channels(remove={"a": 0.5}, score="taylor").distinguishing() == ["by layer", "taylor"]


def test_models_within_the_model_lose_channels_as_well(workshop):
    inner = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(16, "relu", name="a"), keras.layers.Dense(8, name="b")]
    )
    inputs = keras.Input((8, 8), name="image")
    outputs = keras.layers.Dense(10, "softmax", name="probabilities")(inner(keras.layers.Flatten()(inputs)))
    form = Channels(remove=0.5).apply(Form(keras.Model(inputs, outputs)), workshop)
    assert [form.model.get_layer(name).units for name in ("a", "b")] == [8, 4]


def test_a_model_without_weights_to_train_is_made_smaller_all_the_same(workshop):
    inputs = keras.Input((8, 8), name="image")
    x = keras.layers.Dense(16, "relu", name="a")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probabilities")(x))
    model.trainable = False
    form = Channels(remove=0.5).apply(Form(model), workshop)
    assert (form.model.get_layer("a").units, len(form.history)) == (8, 0)
