"""Learning from a teacher: what a step computes, what is refused, and that a stop changes nothing."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from fitting import assert_equal, build_net, is_equal, make_data, make_trainer, train
from test_checkpointing import _StopAt
from test_own_step import Careful

from bmp.errors import ConfigError, StoppedError
from bmp.training.callbacks import KeepBest
from bmp.training.checkpoint import CheckpointStore
from bmp.training.distillation import Distillation
from bmp.training.soft_losses import feature_losses, soft_losses
from bmp.training.stop import StopRequest
from bmp.training.teacher import Teacher
from bmp.training.trainer import Place

NET = {"dropout": 0.4, "norm": True}


@pytest.fixture(scope="module")
def data():
    return make_data()


def build_teacher(trainer, *, width=12, outputs=3, name="teacher"):
    keras.utils.set_random_seed(7)
    signature = trainer.data.signature
    with trainer.strategy.scope():
        inputs = keras.Input((6,), name=signature.inputs[0].name)
        x = keras.layers.Dense(width, "relu", name="wide")(inputs)
        x = keras.layers.Dropout(0.5)(x)
        x = keras.layers.Dense(8, name="narrow")(x)
        return keras.Model(inputs, keras.layers.Dense(outputs, "softmax")(x), name=name)


@pytest.fixture(scope="module")
def teacher(data):
    """Trained well enough to have something to say."""
    trainer = make_trainer(data, optimizer="adam")
    model = build_teacher(trainer)
    trainer.fit(model, epochs=6, learning_rate=0.02)
    return model


def distil(trainer, teacher, *, epochs=2, **options):
    """Trains the network of fitting.py from a teacher, one of its layers like one of the teacher's."""
    model = build_net(trainer, **NET)
    how = Distillation(temperature=3.0, alpha=0.7, features={model.layers[1].name: "wide"}, feature_weight=0.3)
    history = trainer.fit(model, epochs=epochs, learning_rate=0.05, teacher=teacher, distillation=how, **options)
    return model.get_weights(), history


def test_a_step_mixes_hard_soft_and_features(data, teacher):
    trainer = make_trainer(data, class_weights={"red": 1.0, "green": 2.0, "blue": 0.5})
    model = build_net(trainer, penalty=0.01)
    first = model.layers[1].name
    trainer.compile(model, 0.1)
    how = Distillation(temperature=3.0, alpha=0.7, features={first: "wide"}, feature_weight=0.3)
    lessons = Teacher(teacher, model, trainer.strategy, how, data.signature, 5)
    (projection,) = lessons.variables
    assert projection.shape == (8, 12)
    batch = data.train.read(np.arange(10))
    inputs, targets = batch.inputs["row"], batch.targets
    hidden = keras.Model(model.inputs, model.layers[1].output)
    wide = keras.Model(teacher.inputs, teacher.get_layer("wide").output)
    variables = [*model.trainable_variables, projection]
    with tf.GradientTape() as tape:
        outputs = model(inputs)
        hard = keras.losses.sparse_categorical_crossentropy(targets, outputs)
        hard *= np.array([1.0, 2.0, 0.5], np.float32)[targets]
        soft = soft_losses("softmax", teacher(inputs), outputs, 3.0)
        alike = feature_losses(hidden(inputs), wide(inputs), projection)
        loss = tf.reduce_mean(0.3 * hard + 0.7 * soft + 0.3 * alike) + tf.add_n(model.losses)
    expected = tape.gradient(loss, variables)
    step = trainer.make_step(model, teacher=lessons)
    found = step._compute(inputs, tf.constant(targets), None, tf.constant(0))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    assert float(model.metrics[0].result()) == pytest.approx(float(loss), rel=1e-5)


def test_a_teacher_is_not_taught(data, teacher):
    before = teacher.get_weights()
    distil(make_trainer(data), teacher)
    assert_equal(before, teacher.get_weights())


def test_validation_measures_the_targets_alone(data, teacher):
    trainer = make_trainer(data)
    model = build_net(trainer)
    history = trainer.fit(model, epochs=1, learning_rate=0.05, teacher=teacher, distillation=Distillation(alpha=1.0))
    held_out = data.validation.load()
    losses = keras.losses.sparse_categorical_crossentropy(held_out.targets, model(held_out.inputs["row"]))
    assert history.epochs[0].metrics["val_loss"] == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-5)


def test_with_alpha_one_the_targets_are_of_no_account(data, teacher):
    """A student of nothing but answers comes to give the teacher's."""
    trainer = make_trainer(data, optimizer="adam")
    model = build_net(trainer)
    rows = data.train.load().inputs["row"]
    before = float(tf.reduce_mean(soft_losses("softmax", teacher(rows), model(rows), 1.0)))
    trainer.fit(model, epochs=15, learning_rate=0.02, teacher=teacher, distillation=Distillation(alpha=1.0))
    assert float(tf.reduce_mean(soft_losses("softmax", teacher(rows), model(rows), 1.0))) < before / 4


def test_with_nothing_of_the_teacher_all_is_as_without(data, teacher):
    plain, _ = train(make_trainer(data), net=NET)
    trainer = make_trainer(data)
    model = build_net(trainer, **NET)
    trainer.fit(model, epochs=3, learning_rate=0.05, teacher=teacher, distillation=Distillation(alpha=0.0))
    for mine, theirs in zip(plain, model.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_pieces_xla_and_several_steps_a_call_compute_the_same(data, teacher):
    net = {"penalty": 0.01}  # batch normalisation is of a piece, and XLA draws other random numbers

    def run(**config):
        trainer = make_trainer(data, **config)
        model = build_net(trainer, **net)
        how = Distillation(features={model.layers[1].name: "wide"})
        trainer.fit(model, epochs=2, learning_rate=0.05, teacher=teacher, distillation=how)
        return model.get_weights()

    plain = run()
    for config in ({"accumulate": 3}, {"jit": True, "steps_per_execution": 3}):
        for mine, theirs in zip(plain, run(**config), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5, err_msg=str(config))


def test_a_stop_changes_nothing(data, teacher, tmp_path):
    """The weights of the projection are part of a checkpoint; those of the teacher are not."""

    def run(directory, *others):
        trainer = make_trainer(data, optimizer="adam", place=Place(directory, stop=request))
        return distil(trainer, teacher, epochs=3, callbacks=[*others, KeepBest("accuracy", 1)], average=0.9)

    request = StopRequest()
    whole, history = run(None)
    with pytest.raises(StoppedError):
        run(tmp_path, _StopAt(5, request))
    newest, _ = CheckpointStore(tmp_path / "checkpoints" / "train").read_newest()
    assert [array.shape for name, array in newest.arrays.items() if name.startswith("other/")] == [(8, 12)]
    request = StopRequest()
    parts, again = run(tmp_path)
    assert_equal(whole, parts)
    assert [epoch.metrics for epoch in history] == [epoch.metrics for epoch in again]
    assert_equal(whole, run(tmp_path)[0])  # a stage that was finished before


def test_a_projection_is_trained_and_leaves_no_trace_in_the_model(data, teacher):
    trainer = make_trainer(data)
    model = build_net(trainer)
    names = [weight.name for weight in model.weights]
    trainer.fit(
        model,
        epochs=1,
        learning_rate=0.05,
        teacher=teacher,
        distillation=Distillation(features={model.layers[1].name: "wide"}),
    )
    assert [weight.name for weight in model.weights] == names
    one, _ = distil(make_trainer(data), teacher)
    other, _ = distil(make_trainer(data, seed=4), teacher)
    assert not is_equal(one, other)


def test_features_of_one_width_need_no_projection(data, teacher):
    trainer = make_trainer(data)
    model = build_net(trainer)
    trainer.compile(model, 0.1)
    how = Distillation(features={model.layers[1].name: "narrow"})
    assert Teacher(teacher, model, trainer.strategy, how, data.signature, 0).variables == []


def test_a_wrapped_model_learns_from_a_teacher_and_its_layers_keep_their_names(data, teacher):
    import tensorflow_model_optimization as tfmot

    trainer = make_trainer(data)
    plain = build_net(trainer)
    name = plain.layers[1].name
    with trainer.strategy.scope():
        model = tfmot.quantization.keras.quantize_model(plain)
    assert name not in [layer.name for layer in model.layers]
    before = model.get_weights()
    how = Distillation(features={name: "wide"})
    history = trainer.fit(model, epochs=2, learning_rate=0.05, teacher=teacher, distillation=how)
    assert len(history.epochs) == 2 and not is_equal(before, model.get_weights())


def refuse(data, teacher, *words, student=None, trainer=None, **how):
    trainer = trainer or make_trainer(data)
    model = student or build_net(trainer)
    with pytest.raises(ConfigError) as caught:
        trainer.fit(model, epochs=1, learning_rate=0.1, teacher=teacher, distillation=Distillation(**how))
    for word in words:
        assert re.search(word, caught.value.message), caught.value.message


def test_a_teacher_of_another_signature_is_refused(data):
    trainer = make_trainer(data)
    refuse(data, build_teacher(trainer, outputs=4), r"'teacher' returns \(4,\) for an example, but its student \(3,\)")
    inputs = keras.Input((9,))
    other = keras.Model(inputs, keras.layers.Dense(3, "softmax")(inputs), name="other")
    refuse(data, other, "'other' cannot be called on what its student takes", r"row float32 \(B, 6\)")


def test_a_teacher_that_is_its_own_student_is_refused(data):
    trainer = make_trainer(data)
    model = build_net(trainer)
    refuse(data, model, "shares weights", trainer=trainer, student=model)


def test_unknown_features_are_guessed(data, teacher):
    refuse(data, teacher, "'relu_77', which the student", "it has ", features={"relu_77": "wide"})
    trainer = make_trainer(data)
    student = build_net(trainer)
    pair = {student.layers[1].name: "wiide"}
    words = "'wiide', which the teacher", "Did you mean 'wide'"
    refuse(data, teacher, *words, student=student, trainer=trainer, features=pair)


def test_features_of_other_shapes_are_refused(data):
    trainer = make_trainer(data)
    inputs = keras.Input((6,), name="row")
    x = keras.layers.Reshape((2, 3), name="folded")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(3, "softmax")(keras.layers.Flatten()(x)))
    student = build_net(trainer)
    refuse(
        data,
        teacher,
        r"gives \(8,\), 'folded' of the teacher \(2, 3\)",
        student=student,
        trainer=trainer,
        features={student.layers[1].name: "folded"},
    )


def test_a_layer_of_several_outputs_is_refused(data):
    trainer = make_trainer(data)
    shared = keras.layers.Dense(6, name="shared")
    inputs = keras.Input((6,), name="row")
    teacher = keras.Model(inputs, keras.layers.Dense(3, "softmax")(shared(shared(inputs))))
    student = build_net(trainer)
    refuse(
        data,
        teacher,
        "'shared' of the teacher .* more than one output",
        student=student,
        trainer=trainer,
        features={student.layers[1].name: "shared"},
    )


def test_a_model_with_a_step_of_its_own_cannot_be_taught(data, teacher):
    trainer = make_trainer(data)
    with trainer.strategy.scope():
        inputs = keras.Input((6,), name="row")
        student = Careful(inputs, keras.layers.Dense(3, "softmax")(inputs))
    refuse(data, teacher, "train_step of its own", "cannot learn from a teacher", student=student, trainer=trainer)


def test_a_subclassed_model_can_teach_and_learn_but_has_no_features(data):
    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, "softmax", name="only")

        def call(self, inputs):
            return self.dense(inputs)

    trainer = make_trainer(data)
    rows = data.train.load().inputs["row"]
    with trainer.strategy.scope():
        teacher, student = Plain(), Plain()
        teacher(rows), student(rows)
    trainer.fit(student, epochs=1, learning_rate=0.1, teacher=teacher)
    refuse(data, teacher, "the teacher '.*' is subclassed", features={"only": "only"}, student=student, trainer=trainer)


def test_a_distillation_without_a_teacher_is_refused(data):
    trainer = make_trainer(data)
    with pytest.raises(ConfigError, match="needs a teacher"):
        trainer.fit(build_net(trainer), epochs=1, learning_rate=0.1, distillation=Distillation())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"temperature": 0.0}, "temperature of a distillation is 0; expected a number over 0"),
        ({"temperature": -1.0}, "is -1"),
        ({"temperature": float("nan")}, "is nan"),
        ({"alpha": 1.5}, "alpha of a distillation is 1.5; expected a share from 0 to 1"),
        ({"alpha": -0.1}, "is -0.1"),
        ({"feature_weight": -2.0}, "feature_weight of a distillation is -2"),
        ({"feature_weight": float("inf")}, "is inf"),
    ],
)
def test_numbers_out_of_range_are_refused(how, words):
    with pytest.raises(ConfigError, match=words):
        Distillation(**how)


def test_a_distillation_is_a_value():
    assert dataclasses.replace(Distillation(), alpha=0.2) == Distillation(alpha=0.2)
