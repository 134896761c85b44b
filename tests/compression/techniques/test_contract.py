"""The contract of every technique: what each entry of TECHNIQUES does with any model that is given to it."""

import functools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import tf_keras as keras

from bmp.artifact.artifact import export_variant
from bmp.compression.chain import Chain, Step, read_chain
from bmp.compression.evidence.integrity import check_patterns
from bmp.compression.search.workbench import open_workbench
from bmp.compression.technique import Form, Pattern, Stage, Workshop
from bmp.compression.techniques import TECHNIQUES
from bmp.config import load_recipe
from bmp.errors import ConfigError
from bmp.models import MODELS

ARGS = {"student": {"build": "mlp", "args": {"hidden": [8], "scale": 0.0625}}, "prune": {"sparsity": 0.5}}
"""Of those that need some, or whose defaults are no match for a small network."""
EACH = pytest.mark.parametrize("name", TECHNIQUES)
LEARNERS = pytest.mark.parametrize("name", [name for name in TECHNIQUES if TECHNIQUES[name].trains])
EPOCHS = 2
"""Of each fine-tuning here, named by the technique; the workshop has one."""


def build(name, **args):
    return TECHNIQUES.bind(name, ARGS.get(name, {}) | args)()


@pytest.fixture(scope="module")
def workshop(tiny_trainer):
    return Workshop(tiny_trainer, epochs=1, learning_rate=3e-3, seed=5)


@pytest.fixture(scope="module")
def model(workshop):
    """A trained model of the shelf, of convolutional and dense layers; nobody may change it."""
    trainer = workshop.trainer
    keras.utils.set_random_seed(0)
    with trainer.strategy.scope():
        model = MODELS["cnn"](trainer.data.signature, filters=[8], dense=[16], scale=0.0625)
    trainer.fit(model, epochs=4, learning_rate=5e-3)
    return model


@pytest.fixture(scope="module")
def applied(workshop, model):
    """`applied(name)` is what a technique made of the model, and the weights that the model had before."""

    @functools.cache
    def apply(name):
        before = [weight.copy() for weight in model.get_weights()]
        technique = build(name, **build(name).at_epochs(EPOCHS))
        return before, technique.apply(Form(model, notes=("It was so.",)), workshop)

    return apply


def assert_same(weights, others):
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(one, other)


def export(form, workshop, directory):
    """The runner of the exported form, whose file shows its patterns."""
    storage, signature = form.storage, workshop.trainer.data.signature
    calibration = workshop.calibration(storage.calibration_examples) if storage.is_calibrated else None
    exported = export_variant("form", form.model, signature, directory, storage, calibration)
    check_patterns(exported.path, form.patterns, form.model)
    return exported.load()


def run_on_validation(form, workshop, directory):
    """Share that the exported file gets right."""
    held_out = workshop.trainer.data.validation.load()
    (outputs,) = export(form, workshop, directory).run(held_out.inputs).values()
    assert outputs.shape == (len(held_out.targets), 10) and np.isfinite(outputs).all()
    return float(np.mean(outputs.argmax(axis=-1) == held_out.targets))


# === apply ===


@EACH
def test_the_model_given_is_not_touched(applied, model, name):
    before, form = applied(name)
    assert_same(model.get_weights(), before)
    if TECHNIQUES[name].trains:
        mine = {weight.ref() for weight in form.model.weights}
        assert not mine & {weight.ref() for weight in model.weights}


@EACH
def test_the_file_runs_and_shows_what_was_reached(applied, workshop, name, tmp_path):
    _, form = applied(name)
    share = run_on_validation(form, workshop, tmp_path)
    assert name == "student" or share > 0.3, "a guess gets 0.1; a student has learned next to nothing in two epochs"


@EACH
def test_the_fine_tuning_has_the_epochs_that_are_named_and_is_told(applied, name):
    _, form = applied(name)
    assert [epoch.stage for epoch in form.history] == ["compress"] * EPOCHS * TECHNIQUES[name].trains
    assert form.notes[0] == "It was so." and all(note.endswith(".") for note in form.notes)


@pytest.mark.parametrize("name", [name for name in TECHNIQUES if TECHNIQUES[name].stage > Stage.NETWORK])
def test_what_was_reached_before_stays_told(workshop, model, name):
    sparse = keras.models.clone_model(model)
    sparse.set_weights([prune(weight) for weight in model.get_weights()])
    layer = next(layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense))
    before = Pattern("zeros", layer, 0.5)
    form = build(name).apply(Form(sparse, patterns=(before,)), workshop)
    assert before in form.patterns


def prune(weight):
    return weight * (np.abs(weight) > np.quantile(np.abs(weight), 0.5)) if weight.ndim > 1 else weight


@LEARNERS
def test_the_same_seed_gives_the_same_bits_whoever_says_how_many_epochs(applied, workshop, model, name):
    _, form = applied(name)
    again = build(name).apply(Form(model), replace(workshop, epochs=EPOCHS))
    assert len(again.history) == EPOCHS
    assert_same(again.model.get_weights(), form.model.get_weights())
    assert again.patterns == form.patterns


@pytest.mark.parametrize(
    "spec",
    [
        [{"channels": {"remove": 0.25}}, {"prune": {"sparsity": 0.5}}, {"cluster": {"clusters": 16}}, "qat", "int8"],
        [{"student": ARGS["student"]}, "two_of_four", {"cluster": {"clusters": 8}}, "float16"],
    ],
    ids=lambda spec: read_chain(spec).name,
)
def test_a_chain_of_all_stages_holds_its_patterns_to_the_end(workshop, model, spec, tmp_path):
    form = Form(model)
    for step in read_chain(spec).steps:
        form = step.build().apply(form, workshop)
    run_on_validation(form, workshop, tmp_path)
    kinds = {pattern.kind for pattern in form.patterns}
    assert "values" in kinds and kinds & {"zeros", "two_of_four"}
    assert len(form.history) == sum(step.build().trains for step in read_chain(spec).steps)


class Subclassed(keras.Model):
    """What Keras cannot lay open."""

    def __init__(self):
        super().__init__(name="subclassed")
        self.flatten = keras.layers.Flatten()
        self.hidden = keras.layers.Dense(24, "relu", name="hidden")
        self.probabilities = keras.layers.Dense(10, "softmax", name="probabilities")

    def call(self, inputs):
        return self.probabilities(self.hidden(self.flatten(inputs) / 16))


@pytest.fixture(scope="module")
def subclassed(tiny_run, workshop):
    """A workbench with a subclassed model."""
    model = Subclassed()
    model.output_names = [spec.name for spec in tiny_run.data.signature.outputs]
    model(tiny_run.data.train.take(slice(0, 2)).load().inputs["image"])
    return open_workbench(model, load_recipe(str(tiny_run.directory / "recipe.yaml")), workshop.trainer)


@pytest.mark.parametrize("name", [name for name in TECHNIQUES if TECHNIQUES[name].trains or name == "int8"])
def test_a_subclassed_model_is_worked_on_or_refused_in_one_sentence(subclassed, workshop, name, tmp_path):
    before = [weight.copy() for weight in subclassed.original.get_weights()]
    made = subclassed.make(Chain((Step(name, ARGS.get(name, {})),)), 0.5)
    assert_same(subclassed.original.get_weights(), before)
    if made.form is not None:
        run_on_validation(made.form, workshop, tmp_path)
    else:
        assert re.fullmatch(r"[^\n]+\.", made.failure) and "subclassed" in made.failure


# === What is said of it ===


@EACH
def test_support_answers_for_each_layer(model, name):
    answers = [build(name).support(layer) for layer in model.layers]
    assert {answer.verdict for answer in answers} <= {"applies", "rewrite", "nothing", "no"}
    assert all(answer.reason for answer in answers if answer.verdict in ("no", "rewrite"))
    assert "applies" in {answer.verdict for answer in answers}


@EACH
def test_settings_are_json_and_make_the_technique_again(name):
    settings = json.loads(json.dumps(build(name).settings(), allow_nan=False))
    assert TECHNIQUES.bind(name, settings)() == build(name)


@EACH
def test_names_are_fit_for_files(name):
    args = ARGS.get(name, {}) | ({"skip": ["a/b c"]} if "skip" in build(name).settings() else {})
    assert re.fullmatch(r"[\w.+=-]+", str(Step(name, args)))
    assert re.fullmatch(r"[\w.+=-]+", Chain((Step(name, args), Step("int8", {"float_layers": "auto"}))).name)


@EACH
def test_unknown_arguments_are_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' takes no argument 'colour'") as caught:
        build(name, colour="red")
    assert "\n" not in str(caught.value)


OUT_OF_RANGE = {"epochs": (0, -1, 1.5, "2"), "learning_rate": (0.0, -1e-3), "skip": ("dense", [3])}
OUT_OF_RANGE |= {"calibration_examples": (0, 2.5), "float_layers": ("all", 3), "integer_io": (1, "no")}


@EACH
def test_arguments_out_of_range_are_refused(name):
    takes = set(build(name).settings())
    assert not TECHNIQUES[name].trains or {"epochs", "learning_rate"} <= takes
    for argument in takes & set(OUT_OF_RANGE):
        for value in OUT_OF_RANGE[argument]:
            with pytest.raises(ConfigError, match=f"argument '{argument}' is") as caught:
                build(name, **{argument: value})
            assert "\n" not in str(caught.value)
