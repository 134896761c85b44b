import numpy as np
import pytest
import tf_keras as keras
from nets import build, list_of, make_workshop, measure

from bmp.compression.technique import Form
from bmp.compression.techniques.two_of_four import TwoOfFour
from bmp.errors import ExportError, UnknownNameError


@pytest.fixture(scope="module")
def workshop():
    return make_workshop(epochs=3)


@pytest.fixture(scope="module")
def form(workshop):
    return Form(build(workshop))


def count_nonzeros(kernel):
    """Of each four inputs `(..., I, O)`."""
    groups = np.moveaxis(kernel, -2, -1)  # (..., O, I)
    return np.count_nonzero(groups.reshape(*groups.shape[:-1], -1, 4), axis=-1)


@pytest.mark.parametrize("options", [{}, {"jit": True, "steps_per_execution": 8}], ids=["steps", "xla"])
def test_of_four_inputs_two_stay(form, options):
    workshop = make_workshop(epochs=3, **options)
    made = TwoOfFour().apply(form, workshop)
    assert list_of(made.patterns, "two_of_four") == {"second": 0.5, "hidden": 0.5}
    for name in ("second", "hidden"):
        assert (count_nonzeros(made.model.get_layer(name).kernel.numpy()) == 2).all()
    assert measure(made.model, workshop) > measure(form.model, workshop) - 0.1
    assert made.notes == tuple(
        f"two_of_four: left as it is: {name}: it has {inputs} inputs to an output; a multiple of 4 fits."
        for name, inputs in (("first", 1), ("probabilities", 30))
    )


def test_what_goes_is_chosen_anew_on_the_way(form, workshop):
    made = TwoOfFour(epochs=3).apply(form, workshop)
    at_once = TwoOfFour(epochs=1, learning_rate=1e-12).apply(form, workshop)
    masks = [one.model.get_layer("hidden").kernel.numpy() != 0 for one in (made, at_once)]
    assert (masks[0] != masks[1]).any()


def test_a_model_that_fits_nowhere_is_refused(workshop):
    inputs = keras.Input((8, 8), name="image")
    x = keras.layers.Reshape((32, 2))(inputs)
    x = keras.layers.Flatten()(keras.layers.Conv1D(3, 1)(x))
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probabilities")(x), name="odd")
    skip = ["probabilities"]
    with pytest.raises(ExportError, match=r"the model 'odd' has no layer whose inputs are a multiple of 4"):
        TwoOfFour(skip=skip).apply(Form(model), workshop)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'probabilities'"):
        TwoOfFour(skip=["probabilites"]).apply(Form(model), workshop)


def test_support_of_layers():
    def support(layer, shape):
        layer.build(shape)
        return TwoOfFour().support(layer)

    assert support(keras.layers.Dense(2), (1, 8)).verdict == "applies"
    assert support(keras.layers.Dense(2), (1, 6)).reason == "it has 6 inputs to an output"
    assert support(keras.layers.Embedding(8, 8), (1, 4)).verdict == "no"
    assert support(keras.layers.Conv2D(2, 3), (1, 4, 4, 4)).verdict == "applies"
