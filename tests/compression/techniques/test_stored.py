from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras as keras
from conftest import make_split

from bmp.artifact.litert import LiteRTRunner, Storage, write_litert
from bmp.compression.technique import Form, Pattern, Stage, Workshop
from bmp.compression.techniques import TECHNIQUES
from bmp.errors import ConfigError, ExportError, UnknownNameError
from bmp.models.layers.attention import SelfAttention
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (20,)),), (TensorSpec("scores", "float32", (4,)),))
NAMES = ("float16", "dynamic", "int8", "int16x8")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20,), name="x")
    x = keras.layers.Dense(64, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, keras.layers.Dense(4, activation="softmax", name="scores")(x), name="net")


@pytest.fixture(scope="module")
def workshop():
    random = np.random.default_rng(0)
    train = make_split({"x": random.normal(size=(90, 20)).astype(np.float32)}, random.integers(4, size=90), ("abcd"))
    trainer = SimpleNamespace(data=SimpleNamespace(train=train, signature=SIGNATURE))  # what storing asks of it
    return Workshop(trainer, epochs=1, learning_rate=0.1, seed=0)


def build(name, **args):
    return TECHNIQUES.bind(name, args)()


@pytest.mark.parametrize("name", NAMES)
def test_the_model_stays_as_it_is_and_is_stored_as_named(model, workshop, tmp_path, name):
    technique, before = build(name), model.get_weights()
    form = technique.apply(Form(model, notes=("before.",)), workshop)
    assert form.model is model and form.storage == Storage(name) and form.notes == ("before.",) and not form.history
    calibration = workshop.calibration(512) if form.storage.is_calibrated else None
    write_litert(form.model, SIGNATURE, tmp_path / "model.tflite", storage=form.storage, calibration=calibration)
    x = workshop.calibration(90)
    outputs = LiteRTRunner(tmp_path / "model.tflite", SIGNATURE).run(x)["scores"]
    np.testing.assert_allclose(outputs, model(x["x"]).numpy(), atol=0.03)
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    assert (technique.stage, technique.is_last, technique.trains) == (Stage.STORED, True, False)
    assert technique.distinguishing() == [] and technique.at_epochs(3) == {}


def test_int8_takes_what_the_recipe_says(model, workshop):
    technique = build("int8", integer_io=True, calibration_examples=7, float_layers=["hidden"])
    assert technique.apply(Form(model), workshop).storage == Storage("int8", True, ("hidden",), False, 7)
    assert technique.distinguishing() == ["io", "float hidden"]
    assert technique.settings() == {"integer_io": True, "calibration_examples": 7, "float_layers": ["hidden"]}


def test_layers_to_leave_float_are_found_and_named(model, workshop):
    copy = keras.models.clone_model(model)
    kernel = model.get_layer("hidden").kernel.numpy()
    kernel[:, 0] *= 3000  # one unit leaves no step of int8 for the others
    copy.get_layer("hidden").set_weights([kernel, np.zeros(64, np.float32)])
    scores = model.get_layer("scores").kernel.numpy()
    scores[0] *= 1e-4
    copy.get_layer("scores").set_weights([scores, np.zeros(4, np.float32)])
    form = build("int8", float_layers="auto").apply(Form(copy), workshop)
    assert set(form.storage.float_layers) == {"hidden", "scores"}
    for name in ("hidden", "scores"):
        assert any(note.startswith(f"int8: layer '{name}' stays float32: ") for note in form.notes), form.notes
    calm = build("int8", float_layers="auto").apply(Form(model), workshop)
    assert calm.storage.float_layers == () and calm.notes == (
        "int8: no layer stays float32; none would gain much by it.",
    )


def test_training_with_rounding_goes_on_to_int8_alone(model, workshop):
    trained = Form(model, storage=Storage("int8", is_trained=True))
    assert build("int8", integer_io=True).apply(trained, workshop).storage == Storage("int8", True, is_trained=True)
    for name in ("float16", "dynamic", "int16x8"):
        with pytest.raises(ExportError, match=f"trained for the rounding of int8 and cannot be stored as {name}"):
            build(name).apply(trained, workshop)
    with pytest.raises(ExportError, match="float_layers is for int8 without training"):
        build("int8", float_layers="auto").apply(trained, workshop)


@pytest.mark.parametrize("name", ["dynamic", "int8", "int16x8"])
def test_values_that_a_whole_kernel_shares_get_one_scale(model, workshop, name):
    shared = Form(model, patterns=(Pattern("values", "hidden", 16),))
    assert build(name).apply(shared, workshop).storage == Storage(name, per_channel=False)
    by_channel = Form(
        model, patterns=(Pattern("values", "hidden", 16, per_channel=True), Pattern("zeros", "hidden", 0.5))
    )
    assert build(name).apply(by_channel, workshop).storage == Storage(name)


def built(layer, *shape, dtype="float32"):
    layer(keras.Input(shape, dtype=dtype))
    return layer


LAYERS = keras.layers


@pytest.mark.parametrize(
    ("layer", "verdicts"),
    [
        (lambda: built(LAYERS.Dense(64), 20), ("applies", "applies", "applies", "applies")),
        (lambda: built(LAYERS.Dense(4), 20), ("applies", "nothing", "applies", "applies")),
        (lambda: built(LAYERS.Flatten(), 4, 4), ("nothing",) * 4),
        (lambda: built(LAYERS.LSTM(20), 5, 20), ("no",) * 4),
        (lambda: built(LAYERS.LSTM(20, unroll=True), 5, 20), ("applies",) * 4),
        (lambda: built(LAYERS.Bidirectional(LAYERS.GRU(20)), 5, 20), ("no",) * 4),
        (lambda: built(LAYERS.LayerNormalization(), 20), ("applies", "nothing", "applies", "no")),
        (lambda: SelfAttention(2, causal=True), ("nothing", "nothing", "nothing", "no")),
    ],
    ids=["large", "small", "no-weights", "loop", "unrolled", "loops", "norm", "causal"],
)
def test_says_which_layers_it_works_on(layer, verdicts):
    supports = [build(name).support(layer()) for name in NAMES]
    assert tuple(support.verdict for support in supports) == verdicts
    assert all(support.reason for support in supports if support.verdict != "applies")
    assert all(support.fix for support in supports if support.verdict == "no")


@pytest.mark.parametrize(
    ("name", "args", "error", "message"),
    [
        ("int8", {"integer_io": 1}, ConfigError, "'integer_io' is 1"),
        ("int8", {"calibration_examples": 0}, ConfigError, "'calibration_examples' is 0"),
        ("int8", {"float_layers": "all"}, ConfigError, "'float_layers' is 'all'"),
        ("int8", {"float_layer": []}, ConfigError, "Did you mean 'float_layers'"),
        ("float16", {"integer_io": True}, ConfigError, "takes no argument 'integer_io'"),
        ("int18", {}, UnknownNameError, "Did you mean 'int8'"),
    ],
)
def test_a_wrong_argument_is_refused(name, args, error, message):
    with pytest.raises(error, match=message):
        build(name, **args)
