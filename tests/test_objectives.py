"""The contract of every objective, and each metric against scikit-learn's."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from bmp.errors import ConfigError, UnknownNameError
from bmp.objectives import METRICS, OBJECTIVES, Target, list_metrics, pick_metric, pick_objective

CLASSES = tuple("abcdefg")
TARGETS = {
    "multiclass": Target("class", CLASSES),
    "binary": Target("class", ("no", "yes")),
    "multilabel": Target("multilabel", ("red", "green", "blue")),
    "regression": Target("number", (), 2),
    "next_token": Target("tokens", CLASSES, 5),
}


def make_targets(name, random, size):
    target = TARGETS[name]
    return {
        "class": lambda: random.integers(len(target.labels), size=size),
        "multilabel": lambda: random.integers(2, size=(size, len(target.labels))).astype(np.float32),
        "number": lambda: random.normal(3, 2, (size, target.width)).astype(np.float32),
        "tokens": lambda: random.integers(len(target.labels), size=(size, target.width)).astype(np.int32),
    }[target.kind]()


def make_outputs(name, random, size):
    objective = OBJECTIVES[name]
    raw = random.normal(size=(size, *objective.output(TARGETS[name]).shape)).astype(np.float32)
    return np.asarray(keras.activations.get(objective.activation)(tf.constant(raw)))


def make_perfect(name, targets):
    """Returns outputs that are as right as outputs can be."""
    kind, labels = TARGETS[name].kind, TARGETS[name].labels
    if kind in ("number", "multilabel"):
        return targets.astype(np.float32)
    return np.float32(targets)[:, None] if name == "binary" else np.eye(len(labels), dtype=np.float32)[targets]


def measure(name, batches):
    meter = OBJECTIVES[name].meter(TARGETS[name].labels)
    for outputs, targets in batches:
        meter.update(outputs, targets)
    return meter.result()


@pytest.fixture(params=sorted(OBJECTIVES))
def name(request):
    return request.param


def test_every_objective_is_tried():
    assert set(TARGETS) == set(OBJECTIVES)


def test_auto_finds_the_objective_of_its_target(name):
    assert pick_objective("auto", TARGETS[name]) == name


def test_right_outputs_score_one_and_others_less(name):
    random = np.random.default_rng(0)
    targets = make_targets(name, random, 50)
    score = OBJECTIVES[name].score
    assert measure(name, [(make_perfect(name, targets), targets)])[score] == pytest.approx(1)
    assert measure(name, [(make_outputs(name, random, 50), targets)])[score] < 0.9


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.integers(0, 100))
def test_batches_add_up(sizes, seed):
    for each in OBJECTIVES:
        random = np.random.default_rng(seed)
        outputs, targets = make_outputs(each, random, sum(sizes)), make_targets(each, random, sum(sizes))
        cuts = np.cumsum(sizes)[:-1]
        parts = zip(np.split(outputs, cuts), np.split(targets, cuts), strict=True)
        whole = measure(each, [(outputs, targets)])
        assert measure(each, parts) == pytest.approx(whole, rel=1e-6, abs=1e-9)
        assert all(np.isfinite(value) for value in whole.values())


def test_the_progress_line_shows_the_score_and_keras_agrees_with_the_meter(name):
    random = np.random.default_rng(1)
    objective = OBJECTIVES[name]
    outputs, targets = make_outputs(name, random, 64), make_targets(name, random, 64)
    model = keras.Sequential([keras.layers.Lambda(lambda x: x)])
    model.compile(loss=objective.make_loss(), metrics=objective.make_metrics())
    found = model.evaluate(outputs, targets, batch_size=64, verbose=0, return_dict=True)
    expected = measure(name, [(outputs, targets)])
    assert objective.score in found
    for metric in set(found) & set(expected) - {"loss"}:
        assert found[metric] == pytest.approx(expected[metric], abs=1e-4), metric
    if "log_loss" in expected or "perplexity" in expected:
        assert found["loss"] == pytest.approx(expected.get("log_loss", expected.get("loss")), rel=1e-3)


def test_metrics_of_classes_are_scikit_learns():
    random = np.random.default_rng(2)
    outputs, targets = make_outputs("multiclass", random, 200), make_targets("multiclass", random, 200)
    found, predicted = measure("multiclass", [(outputs, targets)]), outputs.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(targets, predicted))
    assert found["f1"] == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
    assert found["top_5"] == pytest.approx(metrics.top_k_accuracy_score(targets, outputs, k=5))
    sharp = outputs.astype(np.float64) / outputs.sum(axis=1, keepdims=True, dtype=np.float64)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(targets, sharp), rel=1e-5)
    meter = OBJECTIVES["multiclass"].meter(CLASSES)
    meter.update(outputs, targets)
    np.testing.assert_array_equal(meter.confusion(), metrics.confusion_matrix(targets, predicted))


def test_metrics_of_two_classes_are_scikit_learns():
    random = np.random.default_rng(3)
    targets = make_targets("binary", random, 200)
    scores = random.integers(0, 12, 200).astype(np.float32)[:, None] / 11  # with ties
    found, predicted = measure("binary", [(scores, targets)]), scores[:, 0] > 0.5
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(targets, scores[:, 0]))
    assert found["f1"] == pytest.approx(metrics.f1_score(targets, predicted))
    assert found["precision"] == pytest.approx(metrics.precision_score(targets, predicted))
    assert found["recall"] == pytest.approx(metrics.recall_score(targets, predicted))


def test_metrics_of_many_labels_are_scikit_learns():
    random = np.random.default_rng(4)
    outputs, targets = make_outputs("multilabel", random, 200), make_targets("multilabel", random, 200)
    found, predicted = measure("multilabel", [(outputs, targets)]), outputs > 0.5
    assert found["f1"] == pytest.approx(metrics.f1_score(targets, predicted, average="micro"))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(targets, predicted, average="macro"))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(targets, outputs))
    assert found["exact_match"] == pytest.approx(metrics.accuracy_score(targets, predicted))


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (30, 2), elements=st.floats(-1e3, 1e3, width=32)), st.sampled_from([0.0, 1e4]))
def test_metrics_of_numbers_are_scikit_learns(targets, offset):
    targets = targets + np.float32(offset) + np.linspace(0, 1, 60, dtype=np.float32).reshape(30, 2)
    outputs = targets[::-1].copy()
    found = measure("regression", [(outputs[:7], targets[:7]), (outputs[7:], targets[7:])])
    truth = targets.astype(np.float64)
    assert found["r2"] == pytest.approx(metrics.r2_score(truth, outputs), rel=1e-4, abs=1e-5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, outputs), rel=1e-6)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, outputs), rel=1e-6)


def test_perplexity_of_a_uniform_guess_is_the_vocabulary():
    targets = np.zeros((3, 5), np.int32)
    assert measure("next_token", [(np.full((3, 5, 7), 1 / 7, np.float32), targets)])["perplexity"] == pytest.approx(7)


def test_extremes_stay_finite():
    assert np.isfinite(measure("multiclass", [(np.eye(7, dtype=np.float32)[[1]], np.array([0]))])["log_loss"])
    assert measure("binary", [(np.array([[0.7]], np.float32), np.array([1]))])["auc"] == 0.5
    assert measure("regression", [(np.ones((4, 2), np.float32), np.ones((4, 2), np.float32))])["r2"] == 0


@pytest.mark.parametrize(
    ("wanted", "target", "natural"),
    [
        ("binary", TARGETS["multiclass"], "multiclass"),
        ("regression", TARGETS["binary"], "binary"),
        ("multiclass", TARGETS["regression"], "regression"),
        ("binary", TARGETS["multilabel"], "multilabel"),
    ],
)
def test_an_objective_that_does_not_fit_says_what_would(wanted, target, natural):
    with pytest.raises(ConfigError, match=f"data.objective is {wanted}.*learned as {natural}"):
        pick_objective(wanted, target)


def test_two_classes_may_be_learned_as_many():
    assert pick_objective("multiclass", TARGETS["binary"]) == "multiclass"


def test_an_unknown_objective_is_guessed():
    with pytest.raises(UnknownNameError, match="Did you mean 'regression'"):
        OBJECTIVES["regresion"]


def test_mixed_examples_cost_what_their_shares_say():
    objective = OBJECTIVES["multiclass"]
    outputs = tf.constant([[0.7, 0.2, 0.1]])
    loss = objective.make_loss()
    mixed = float(loss(tf.constant([[0.25, 0.75, 0.0]]), outputs)[0])
    pure = [float(loss(tf.constant([index]), outputs)[0]) for index in (0, 1)]
    assert mixed == pytest.approx(0.25 * pure[0] + 0.75 * pure[1], rel=1e-5)


def keras_loss(name, smoothing):
    """What Keras has for an objective; it takes no smoothing of class indices, only of one-hot rows."""
    if name in ("multiclass", "next_token"):
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
        return lambda targets, outputs: loss(tf.one_hot(targets, outputs.shape[-1]), outputs)
    if name == "regression":
        return keras.losses.MeanSquaredError()
    loss = keras.losses.BinaryCrossentropy(label_smoothing=smoothing)
    return lambda targets, outputs: loss(tf.reshape(tf.cast(targets, tf.float32), outputs.shape), outputs)


def smoothings(name):
    return [0.0] if name == "regression" else [0.0, 0.1, 0.5]


@pytest.mark.parametrize("jit", [False, True])
def test_the_loss_is_keras_own(name, jit):
    random = np.random.default_rng(5)
    targets, outputs = tf.constant(make_targets(name, random, 16)), tf.constant(make_outputs(name, random, 16))
    for smoothing in smoothings(name):
        losses = tf.function(OBJECTIVES[name].make_loss(smoothing), jit_compile=jit)(targets, outputs)
        assert losses.shape == (16,) and losses.dtype == tf.float32
        assert float(tf.reduce_mean(losses)) == pytest.approx(
            float(keras_loss(name, smoothing)(targets, outputs)), 1e-6
        )


def test_the_loss_of_an_example_is_its_own(name):
    random = np.random.default_rng(6)
    targets, outputs = make_targets(name, random, 5), make_outputs(name, random, 5)
    for smoothing in smoothings(name):
        together = OBJECTIVES[name].example_losses(tf.constant(targets), tf.constant(outputs), smoothing)
        alone = [
            OBJECTIVES[name].example_losses(tf.constant(targets[i : i + 1]), tf.constant(outputs[i : i + 1]), smoothing)
            for i in range(5)
        ]
        np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-6)
    nobody = OBJECTIVES[name].example_losses(tf.constant(targets[:0]), tf.constant(outputs[:0]))
    assert nobody.shape == (0,)


def test_targets_may_have_the_last_axis_that_keras_gives_them(name):
    random = np.random.default_rng(7)
    targets, outputs = tf.constant(make_targets(name, random, 5)), tf.constant(make_outputs(name, random, 5))
    if targets.shape.rank == 1:
        for smoothing in smoothings(name):
            plain = OBJECTIVES[name].example_losses(targets, outputs, smoothing)
            np.testing.assert_array_equal(OBJECTIVES[name].example_losses(targets[:, None], outputs, smoothing), plain)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_outputs_of_half_precision_are_measured_in_float32(name, dtype):
    random = np.random.default_rng(8)
    targets, outputs = tf.constant(make_targets(name, random, 9)), tf.constant(make_outputs(name, random, 9))
    half = tf.cast(outputs, dtype)
    losses = OBJECTIVES[name].example_losses(targets, half)
    assert losses.dtype == tf.float32
    np.testing.assert_array_equal(losses, OBJECTIVES[name].example_losses(targets, tf.cast(half, tf.float32)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["multiclass", "binary", "multilabel", "next_token"])
@pytest.mark.parametrize("jit", [False, True])
def test_a_certain_mistake_still_costs_and_teaches(name, smoothing, jit):
    """A softmax of -200 is 0 in float32; the loss of its logits is 200."""
    objective = OBJECTIVES[name]
    shape = objective.output(TARGETS[name]).shape
    targets = make_targets(name, np.random.default_rng(9), 4)
    right = {"multiclass": lambda: np.eye(7)[targets], "next_token": lambda: np.eye(7)[targets]}
    truth = right.get(name, lambda: targets.reshape(4, *shape))()
    layer = keras.layers.Activation(objective.activation)

    @tf.function(jit_compile=jit)
    def measure_gradient(logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            loss = tf.reduce_mean(objective.example_losses(tf.constant(targets), layer(logits), smoothing))
        return loss, tape.gradient(loss, logits)

    loss, gradient = measure_gradient(tf.constant(200 - 400 * truth, tf.float32))
    assert 150 < float(loss) < 500
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_smoothing_holds_back_the_certain():
    objective, sure = OBJECTIVES["multiclass"], tf.constant([[0.998, 0.001, 0.001]])
    plain, smoothed = (float(objective.example_losses(tf.constant([0]), sure, share)[0]) for share in (0.0, 0.3))
    assert plain == pytest.approx(-np.log(0.998), rel=1e-3)  # Keras adds 1e-7
    assert smoothed == pytest.approx(-0.8 * np.log(0.998) - 0.2 * np.log(0.001), rel=1e-5)


def test_mixed_examples_are_smoothed_as_well():
    objective, outputs = OBJECTIVES["multiclass"], tf.constant([[0.7, 0.2, 0.1]])
    mixed = tf.constant([[0.25, 0.75, 0.0]])
    found = float(objective.example_losses(mixed, outputs, 0.1)[0])
    shares = 0.9 * mixed.numpy() + 0.1 / 3
    assert found == pytest.approx(-np.sum(shares * np.log(outputs.numpy())), rel=1e-6)


def test_numbers_cannot_be_smoothed():
    sentence = "label_smoothing is 0.1, but the objective is regression: it moves probability.*Leave it at 0"
    with pytest.raises(ConfigError, match=sentence):
        OBJECTIVES["regression"].make_loss(0.1)
    with pytest.raises(ConfigError, match=sentence):
        OBJECTIVES["regression"].example_losses(tf.zeros((2, 2)), tf.zeros((2, 2)), 0.1)


def test_every_metric_says_how_it_is_read(name):
    random, labels = np.random.default_rng(0), TARGETS[name].labels
    targets = make_targets(name, random, 30)
    measured = measure(name, [(make_outputs(name, random, 30), targets)])
    assert set(list_metrics(name, labels)) == set(measured) <= set(METRICS)
    score = METRICS[OBJECTIVES[name].score]
    assert score.greater_is_better and not score.is_relative
    best = measure(name, [(make_perfect(name, targets), targets)])
    for metric in measured:
        better = best[metric] - measured[metric]
        assert (better if METRICS[metric].greater_is_better else -better) > 0, metric


def test_the_metric_of_a_promise():
    assert pick_metric("auto", "regression", ()) == "r2"
    assert pick_metric("top_5", "multiclass", CLASSES) == "top_5"
    with pytest.raises(UnknownNameError, match=r"'top_5' is no metric of .* There are not more than five classes"):
        pick_metric("top_5", "multiclass", CLASSES[:3])
    with pytest.raises(UnknownNameError, match=r"it has r2, mae, rmse\. Did you mean 'mae'"):
        pick_metric("mea", "regression", ())
