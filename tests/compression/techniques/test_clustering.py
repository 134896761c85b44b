import numpy as np
import pytest
import tf_keras as keras
from nets import build, list_of, make_workshop, measure

from bmp.compression.chain import Step
from bmp.compression.technique import Form, Pattern
from bmp.compression.techniques.cluster import Cluster
from bmp.compression.techniques.prune import Prune
from bmp.errors import ConfigError, ExportError, UnknownNameError

KERNELS = ("first", "second", "hidden", "probabilities")


@pytest.fixture(scope="module")
def workshop():
    return make_workshop()


@pytest.fixture(scope="module")
def form(workshop):
    return Form(build(workshop))


def kernel_of(form, name):
    return form.model.get_layer(name).kernel.numpy()


@pytest.fixture(scope="module")
def still(form, workshop):
    """Clustered, and trained so slowly that the values are those that the clusters began with."""
    return Cluster(clusters=8, learning_rate=1e-12).apply(form, workshop)


@pytest.mark.parametrize("jit", [False, True])
def test_kernels_share_values_and_these_are_trained(form, still, jit):
    workshop = make_workshop(jit=jit)
    made = Cluster(clusters=8, learning_rate=0.003).apply(form, workshop)
    assert list_of(made.patterns, "values") == dict.fromkeys(KERNELS, 8)
    for name in KERNELS:
        values, first = (np.unique(kernel_of(one, name)) for one in (made, still))
        assert len(values) == len(first) == 8
        assert np.abs(values - first).max() > 1e-3
    assert measure(made.model, workshop) > measure(form.model, workshop) - 0.1
    assert len(made.history) == 2


def test_the_model_given_is_not_touched(form, workshop):
    before = form.model.get_weights()
    Cluster(clusters=4, epochs=1).apply(form, workshop)
    for weight, old in zip(form.model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_each_channel_can_have_values_of_its_own(form, workshop):
    made = Cluster(clusters=4, per_channel=True, skip=["first"]).apply(form, workshop)
    assert set(made.patterns) == {Pattern("values", name, 4, True) for name in KERNELS[1:]}
    kernel = kernel_of(made, "second")
    assert len(np.unique(kernel)) > 16
    assert max(len(np.unique(channel)) for channel in np.moveaxis(kernel, -1, 0)) == 4
    assert len(np.unique(kernel_of(made, "first"))) > 4


def test_zeros_of_an_earlier_technique_stay_and_count_as_a_value(form, workshop):
    sparse = Prune(sparsity=0.6, epochs=1).apply(form, workshop)
    made = Cluster(clusters=4).apply(sparse, workshop)
    for name in KERNELS:
        np.testing.assert_array_equal(kernel_of(made, name) == 0, kernel_of(sparse, name) == 0)
        assert len(np.unique(kernel_of(made, name))) == 4
    assert list_of(made.patterns, "zeros") == list_of(sparse.patterns, "zeros")
    assert list_of(made.patterns, "values") == dict.fromkeys(KERNELS, 4)


def test_kernels_of_fewer_weights_and_frozen_ones_are_clustered_too(workshop):
    model = build(workshop, epochs=0)
    model.get_layer("second").trainable = False
    made = Cluster(clusters={"first": 256, "second": 8}, epochs=1).apply(Form(model), workshop)
    assert list_of(made.patterns, "values") == {"first": 72, "second": 8}
    assert len(np.unique(kernel_of(made, "second"))) == 8


def test_wrong_names_and_models_are_refused(form, workshop):
    with pytest.raises(UnknownNameError, match=r"cluster: clusters names the layer 'secnd'.*Did you mean 'second'"):
        Cluster(clusters={"secnd": 4}).apply(form, workshop)
    inputs = keras.Input((8, 8), name="image")
    model = keras.Model(inputs, keras.layers.Softmax(name="probabilities")(keras.layers.Flatten()(inputs)))
    with pytest.raises(ExportError, match=r"no layer with a kernel to cluster\. Leave cluster out"):
        Cluster().apply(Form(model), workshop)


@pytest.mark.parametrize("args", [{"clusters": 1}, {"clusters": 257}, {"clusters": 2.5}, {"per_channel": 1}])
def test_wrong_arguments_are_refused(args):
    with pytest.raises(ConfigError, match=r"The technique 'cluster'"):
        Step("cluster", args).build()


def test_names_tell_two_uses_apart():
    assert Cluster(clusters=32).distinguishing() == ["32"]
    assert Cluster(clusters={"a": 4}, per_channel=True).distinguishing() == ["by layer", "per channel"]
