"""What one step computes, on one device; tests/training/test_replicas.py holds several to it."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from fitting import assert_equal, build_net, is_equal, make_data, make_trainer, say, shrink, train

SIZE = 16


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.mark.parametrize(("optimizer", "pieces"), [("sgd", 16), ("adam", 3)])
def test_pieces_of_a_batch_teach_what_the_batch_teaches(data, optimizer, pieces):
    """3 divides neither the batch of 16 nor the last one of 8; of 16 pieces some are empty then."""
    net = {"penalty": 0.01}
    whole, one = train(make_trainer(data, optimizer=optimizer), learning_rate=0.01, epochs=2, net=net)
    parts, two = train(
        make_trainer(data, optimizer=optimizer, accumulate=pieces), learning_rate=0.01, epochs=2, net=net
    )
    for mine, theirs in zip(whole, parts, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)
    assert two.epochs[-1].metrics["loss"] == pytest.approx(one.epochs[-1].metrics["loss"], rel=1e-5)
    assert two.epochs[-1].metrics["accuracy"] == one.epochs[-1].metrics["accuracy"]


def test_xla_computes_the_same(data):
    net = {"norm": True, "penalty": 0.01}  # random layers draw other numbers under XLA
    plain, _ = train(make_trainer(data), net=net, epochs=2)
    compiled, _ = train(make_trainer(data, jit=True), net=net, epochs=2)
    for mine, theirs in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def make_step(data, *, optimizer="sgd", learning_rate=0.1, net=None, **config):
    """A compiled network, its step, and the function that does it."""
    trainer = make_trainer(data, optimizer=optimizer, **config)
    model = build_net(trainer, **(net or {}))
    trainer.compile(model, learning_rate)
    step = trainer.make_step(model)
    return model, step, step.make_train_function(jit=False)


def feed(*batches):
    def yield_all():
        yield from batches

    spec = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in batches[0])
    return iter(tf.data.Dataset.from_generator(yield_all, output_signature=spec))


def batch_of(data, *positions):
    batch = data.train.read(np.array(positions))
    return batch.inputs["row"], batch.targets


def by_hand(model, inputs, targets, weights):
    """The gradient of the weighted mean loss, and that loss."""
    with tf.GradientTape() as tape:
        losses = keras.losses.sparse_categorical_crossentropy(targets, model(inputs, training=True))
        loss = tf.reduce_sum(losses * weights)
    return tape.gradient(loss, model.trainable_variables), losses


@pytest.mark.parametrize("size", [1, 5])
def test_a_step_goes_down_the_gradient_of_the_mean_loss(data, size):
    model, step, run = make_step(data, optimizer="sgd", learning_rate=0.1)
    model.optimizer.momentum = 0.0
    inputs, targets = batch_of(data, *range(size))
    before = [variable.numpy() for variable in model.trainable_variables]
    gradients, losses = by_hand(model, inputs, targets, 1 / size)
    results = run(feed((inputs, targets)))
    for old, new, gradient in zip(before, model.trainable_variables, gradients, strict=True):
        moved = (old - new.numpy()) / np.where(gradient == 0, 1, 1)
        ratio = moved[np.abs(gradient) > 1e-4] / gradient.numpy()[np.abs(gradient) > 1e-4]
        assert np.ptp(ratio) < 1e-3 * abs(ratio.mean())  # by one factor, that of Nesterov's first step
    assert float(results["loss"]) == pytest.approx(float(tf.reduce_mean(losses)), rel=1e-5)
    assert int(step.counter) == 1


def test_given_weights_are_what_an_example_counts(data):
    """As for uneven shares: weights add up to 1, and one that only fills up counts 0."""
    model, _, run = make_step(data)
    start = model.get_weights()
    inputs, targets = batch_of(data, 0, 1, 2, 3)
    weights = np.array([0.25, 0.25, 0.5, 0.0], np.float32)
    run(feed((inputs, targets, weights)))
    weighted = model.get_weights()
    other, _, run = make_step(data)
    assert_equal(other.get_weights(), start)
    inputs, targets = batch_of(data, 0, 1, 2, 2)
    run(feed((inputs, targets)))
    for mine, theirs in zip(weighted, other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_what_only_fills_up_is_not_measured(data):
    model, _, run = make_step(data, learning_rate=1e-9)
    inputs, targets = batch_of(data, 0, 1, 2)
    results = run(feed((inputs, targets, np.array([0.5, 0.5, 0.0], np.float32))))
    probabilities = model(inputs[:2]).numpy()
    assert float(results["accuracy"]) == np.mean(probabilities.argmax(axis=1) == targets[:2])
    assert float(results["loss"]) == pytest.approx(-np.log(probabilities[np.arange(2), targets[:2]]).mean(), rel=1e-4)


def test_a_class_counts_what_its_weight_says(data):
    """Twice the weight is the example given twice, in a sum."""
    model, _, run = make_step(data, class_weights={"red": 0.0, "green": 1.0, "blue": 2.0})
    targets = data.train.targets()
    red, green, blue = (int(np.flatnonzero(targets == label)[0]) for label in range(3))
    run(feed(batch_of(data, red, green, blue)))
    other, _, run = make_step(data)
    weights = np.full(3, 1 / 3, np.float32)
    run(feed((*batch_of(data, green, blue, blue), weights)))
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    plain, _, run = make_step(data)
    run(feed(batch_of(data, red, green, blue)))
    assert not is_equal(plain.get_weights(), model.get_weights())


def test_validation_counts_every_example_alike_whatever_training_does(data):
    model, step, _ = make_step(
        data, class_weights={"red": 0.0}, label_smoothing=0.3, net={"dropout": 0.5, "penalty": 0.1}
    )
    inputs, targets = batch_of(data, *range(6))
    results = step.make_test_function()(feed((inputs, targets)))
    probabilities = model(inputs).numpy()
    wanted = -np.log(probabilities[np.arange(6), targets]).mean() + float(model.losses[0])
    assert float(results["loss"]) == pytest.approx(wanted, rel=1e-5)
    assert int(step.counter) == 0


def test_smoothing_is_that_of_the_objective(data):
    model, _, run = make_step(data, label_smoothing=0.3, learning_rate=1e-9)
    inputs, targets = batch_of(data, *range(4))
    results = run(feed((inputs, targets)))
    smooth = np.eye(3)[targets] * 0.7 + 0.1
    wanted = -(smooth * np.log(model(inputs).numpy())).sum(axis=1).mean()
    assert float(results["loss"]) == pytest.approx(wanted, rel=1e-4)


BAD = 7
"""An example of the training split of `make_data`."""


@pytest.mark.parametrize(("optimizer", "times"), [("sgd", 4), ("adam", 1)])
def test_a_batch_left_out_leaves_no_trace(data, optimizer, times):
    """The same as a run without that batch, to the bit: weights, moments and what comes after."""
    clean, rows = batch_of(data, *range(8)), batch_of(data, *range(8, 16))
    bad = (clean[0].copy(), clean[1])
    bad[0][3] = np.nan
    ends = []
    for batches in ([clean, bad, rows, bad], [clean, rows]):
        model, step, run = make_step(data, optimizer=optimizer, on_nonfinite="skip", net={"norm": False})
        model.steps_per_execution = len(batches) if times > 1 else 1
        iterator = feed(*batches)
        for _ in range(1 if times > 1 else len(batches)):
            results = run(iterator)
        ends.append([*model.get_weights(), *(variable.numpy() for variable in model.optimizer.variables)])
        assert np.isfinite(float(results["loss"]))
    assert (step.skipped(), step.last_skipped()) == (0, -1)
    assert_equal(*ends)


def test_skipped_batches_are_counted_and_the_last_is_known(data):
    clean = batch_of(data, *range(8))
    bad = (np.full_like(clean[0], np.inf), clean[1])
    _, step, run = make_step(data, on_nonfinite="skip")
    iterator = feed(clean, bad, clean, bad, clean)
    seen = []
    for _ in range(5):
        run(iterator)
        seen.append((step.skipped(), step.last_skipped()))
    assert seen == [(0, -1), (1, 1), (1, 1), (2, 3), (2, 3)]
    assert int(step.counter) == 5


def test_the_first_bad_step_is_remembered(data):
    clean = batch_of(data, *range(8))
    bad = (np.full_like(clean[0], np.nan), clean[1])
    model, step, run = make_step(data)
    model.steps_per_execution = 4
    assert step.bad_step() is None
    run(feed(clean, clean, bad, clean))
    assert step.bad_step() == 2


def test_a_run_leaves_out_a_bad_batch_and_says_which(tmp_path):
    data = make_data(bad=[5])
    trainer = make_trainer(data, on_nonfinite="skip", max_skipped=9, batch_size=8)
    weights, history = train(trainer, epochs=2)
    assert all(np.isfinite(array).all() for array in weights)
    lines = [line for line in say(trainer).splitlines() if line.startswith("left out")]
    assert len(lines) == 2 and len(history) == 2
    for line in lines:
        assert "a batch without a finite gradient, step" in line
        assert ", 5," in line.replace("examples ", ", ") + ","
    without = shrink(data, lambda numbers: numbers[numbers != 5])
    assert len(without.train) == len(data.train) - 1


def test_an_odd_output_is_measured_by_its_objective(data):
    """Outputs by name, as a model of several outputs has them."""
    trainer = make_trainer(data)
    inner = build_net(trainer)
    named = keras.Model(inner.input, {"probabilities": inner.output})
    trainer.compile(named, 0.1)
    run = trainer.make_step(named).make_train_function(jit=False)
    plain, _, other = make_step(data)
    run(feed(batch_of(data, *range(SIZE))))
    other(feed(batch_of(data, *range(SIZE))))
    assert_equal(inner.get_weights(), plain.get_weights())
