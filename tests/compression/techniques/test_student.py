import io
import json
from types import MappingProxyType

import numpy as np
import pytest
import tf_keras as keras
from rich.console import Console

from bmp.catalog import Catalog
from bmp.compression.technique import Form, Pattern, Stage, Workshop
from bmp.compression.techniques.student import Student
from bmp.config import DataConfig, TrainConfig
from bmp.data import SOURCES, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.errors import ConfigError, ExportError, UnknownNameError
from bmp.models import build_model, look_up_model
from bmp.training import OPTIMIZERS, Trainer

SMALL = {"hidden": [8], "scale": 0.0625}
CATALOG = Catalog("technique", {"student": Student})


@pytest.fixture(scope="module")
def workshop():
    data = load_data(SOURCES.bind("sklearn", {"name": "digits"}), DataConfig(source="sklearn"), 0)
    trainer = Trainer(
        data,
        STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS["adam"],
        batch_size=64,
        seed=0,
        console=Console(file=io.StringIO()),
        config=TrainConfig(jit=False, steps_per_execution=4),
    )
    return Workshop(trainer, epochs=3, learning_rate=1e-4, seed=5)


@pytest.fixture(scope="module")
def form(workshop):
    """A teacher that has learned, on its way through a chain."""
    trainer = workshop.trainer
    keras.utils.set_random_seed(0)
    with trainer.strategy.scope():
        model = build_model(look_up_model("mlp", SMALL | {"hidden": [48]}), trainer.data.signature, None)
    history = trainer.fit(model, epochs=6, learning_rate=5e-3)
    return Form(model, patterns=(Pattern("zeros", "dense_1", 0.1),), history=history, notes=("It was so.",))


@pytest.fixture(scope="module")
def taught(form, workshop):
    before = form.model.get_weights()
    student = Student(build="mlp", args=SMALL, epochs=8, learning_rate=0.01, features={"dense_1": "dense_1"})
    return before, student.apply(form, workshop)


def test_a_smaller_network_takes_the_place_of_the_model(taught, form, workshop):
    before, other = taught
    for old, now in zip(before, form.model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)
    assert other.model.count_params() == 64 * 8 + 8 + 8 * 10 + 10
    assert [weight.shape for weight in other.model.weights] == [(64, 8), (8,), (8, 10), (10,)]
    assert [epoch.stage for epoch in other.history] == ["train"] * 6 + ["compress"] * 8
    assert other.patterns == ()  # those were of the network that is gone
    held_out = workshop.trainer.data.validation.load()
    found = other.model(held_out.inputs["image"]).numpy().argmax(axis=-1)
    assert np.mean(found == held_out.targets) > 0.7


def test_it_says_how_small_it_is(taught):
    assert taught[1].notes == ("It was so.", "The student 'mlp' has 610 parameters, 16.9% of its teacher.")


def test_it_learns_from_the_model_and_not_from_the_targets_alone(form, workshop):
    def train(**args):
        return Student(build="mlp", args=SMALL, epochs=1, learning_rate=0.01, **args).apply(form, workshop).model

    plain = train(alpha=0.0).get_weights()
    assert all(np.array_equal(one, other) for one, other in zip(plain, train(alpha=0.0).get_weights(), strict=True))
    assert not np.allclose(plain[0], train(alpha=1.0).get_weights()[0], atol=1e-3)


def test_epochs_are_those_of_a_fine_tuning_where_it_names_none(form, workshop):
    other = Student(build="mlp", args=SMALL).apply(form, workshop)
    assert len(other.history.epochs) == 6 + workshop.epochs


def test_it_is_written_in_a_recipe_as_its_arguments(workshop):
    given = {"build": "mlp", "args": {"hidden": [32, 16], "scale": 0.0625}, "alpha": 0.9, "epochs": 4}
    student = CATALOG.bind("student", given)()
    assert student == Student(**given)
    assert student.distinguishing() == ["mlp", "hidden=32x16", "scale=0.0625"]
    assert json.loads(json.dumps(student.settings()))["args"] == given["args"]
    assert student.stage is Stage.NETWORK and student.at_epochs(2) == {"epochs": 2}


def test_a_name_of_ones_own_file_can_stand_in_a_file_name(tmp_path):
    file = tmp_path / "my net.py"
    file.write_text("def build_it(signature, /, *, kind: str = 'a'): ...\n")
    student = Student(build=f"{file}:build_it", args={"kind": "a/b, c"})
    assert student.distinguishing() == [f"{file.stem.replace(' ', '-')}.build_it", "kind=a-b-c"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"build": "mlp", "args": SMALL, "temperature": 0.0}, "'temperature' is 0.0, but .*greater than 0"),
        ({"build": "mlp", "args": SMALL, "alpha": 1.5}, "'alpha' is 1.5, but .*less than or equal to 1"),
        ({"build": "mlp", "args": SMALL, "epochs": 0}, "'epochs' is 0"),
        ({"build": "mlp", "args": SMALL, "temprature": 2.0}, "Did you mean 'temperature'"),
        ({"build": "mlp", "args": {"hiden": [8]}}, "Did you mean 'hidden'"),
        ({"build": "mlp", "args": {"hidden": [0]}}, "argument 'hidden' is"),
        ({"build": "mlp"}, "needs the argument 'hidden'"),
        ({}, "needs the argument 'build'"),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_trained(given, words):
    with pytest.raises(ConfigError, match=words):
        CATALOG.bind("student", given)()


def test_an_unknown_network_is_guessed():
    with pytest.raises(UnknownNameError, match="Did you mean 'mlp'"):
        Student(build="mpl")


def test_a_student_as_large_as_its_teacher_is_refused(form, workshop):
    with pytest.raises(ExportError, match=r"has 3,610 parameters, the model that it is to replace 3,610\. Make"):
        Student(build="mlp", args=SMALL | {"hidden": [48]}).apply(form, workshop)


def test_what_is_not_trained_by_steps_is_no_student(form, workshop):
    with pytest.raises(ExportError, match="no weights that can be trained"):
        Student(build="classical", args={"estimator": "decision_tree"}).apply(form, workshop)


def test_unknown_features_are_guessed(form, workshop):
    with pytest.raises(ConfigError, match=r"'dens_1', which the student 'mlp' does not have.*Did you mean 'dense_1'"):
        Student(build="mlp", args=SMALL, features={"dens_1": "dense_1"}).apply(form, workshop)


def test_it_replaces_whatever_has_weights(form):
    verdicts = {layer.name: Student(build="mlp", args=SMALL).support(layer).verdict for layer in form.model.layers}
    assert verdicts["dense_1"] == "applies" and verdicts["flatten"] == "nothing"


def test_arguments_need_not_be_a_dict():
    assert Student(build="mlp", args=MappingProxyType(SMALL)).distinguishing()[0] == "mlp"
