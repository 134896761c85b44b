"""Classical models say what scikit-learn says."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from model_cases import ROWS, TEXT, make_batch, sign
from scipy.special import expit, softmax
from sklearn import datasets

from bmp.artifact.h5 import KerasRunner
from bmp.errors import ConfigError, DataError, UnknownNameError
from bmp.models import MODELS, build_model, classical
from bmp.models.estimators import ESTIMATORS
from bmp.models.layers import PairwiseVotes
from bmp.models.translation import _round_down
from bmp.signature import Signature, TensorSpec

OUTPUTS = {"multiclass": "probabilities", "binary": "probability", "regression": "values"}
SMALL = {
    "random_forest": {"n_estimators": 20},
    "gradient_boosting": {"n_estimators": 8},
    "logistic": {"max_iter": 1000, "tol": 1e-2},
    "linear_svm": {"C": 0.1, "max_iter": 100_000},
}
DATA = [("digits", "multiclass"), ("wine", "multiclass"), ("breast_cancer", "binary"), ("diabetes", "regression")]


def load(name, objective):
    """Returns standardised features, targets, and a signature for them."""
    data = getattr(datasets, f"load_{name}")()
    features = (data.data - data.data.mean(0)) / np.where(data.data.std(0) > 0, data.data.std(0), 1)
    targets = data.target.astype(np.float32)[:, None] if objective == "regression" else data.target
    width = data.target.max() + 1 if objective == "multiclass" else 1
    spec = TensorSpec("features", "float32", features.shape[1:])
    output = TensorSpec(OUTPUTS[objective], "float32", (int(width),))
    return features.astype(np.float32), targets, Signature((spec,), (output,), objective)


def fit(signature, inputs, targets, monkeypatch=None, **args):
    """Returns the Keras model's answer, and scikit-learn's model where it is asked for."""
    kept = {}
    if monkeypatch:
        original = classical.fit
        monkeypatch.setattr(classical, "fit", lambda model, *rest: (kept.update(model=model), original(model, *rest)))
    train = SimpleNamespace(load=lambda: SimpleNamespace(inputs=inputs, targets=targets))
    model = build_model(MODELS.bind("classical", args), signature, train)
    return model, kept.get("model")


def ask_sklearn(model, features, objective, width):
    """Returns `(N, width)`: probabilities, those made of decisions, or values."""
    if objective == "regression":
        return model.predict(features).reshape(len(features), -1)
    if hasattr(model, "predict_proba"):
        return model.predict_proba(features)[:, -width:]
    decisions = model.decision_function(features)
    if decisions.ndim == 2:
        return softmax(decisions, axis=1)
    both = np.stack([1 - expit(decisions), expit(decisions)], axis=1)
    return both[:, -width:]


def pairs():
    for data, objective in DATA:
        for name, entry in ESTIMATORS.items():
            if entry.regressor if objective == "regression" else entry.classifier:
                yield data, objective, name


def assert_same(model, fitted, features, signature):
    outputs = KerasRunner(model, signature).run({"features": features})[signature.outputs[0].name]
    wide = features.astype(np.float64)
    expected = ask_sklearn(fitted, wide, signature.objective, outputs.shape[1])
    np.testing.assert_allclose(outputs, expected, atol=1e-5, rtol=1e-5 if signature.objective == "regression" else 0)
    if signature.objective == "binary":
        np.testing.assert_array_equal(outputs[:, 0] > 0.5, fitted.predict(wide))
    if signature.objective == "multiclass":
        np.testing.assert_array_equal(outputs.argmax(axis=1), fitted.predict(wide))


@pytest.mark.parametrize(("data", "objective", "estimator"), list(pairs()))
def test_says_what_scikit_learn_says(data, objective, estimator, monkeypatch):
    features, targets, signature = load(data, objective)
    test = np.arange(len(features)) % 4 == 0
    args = {"estimator": estimator, "params": SMALL.get(estimator, {}) if objective != "regression" else {}}
    model, fitted = fit(signature, {"features": features[~test]}, targets[~test], monkeypatch, **args)
    assert_same(model, fitted, features[test], signature)


@pytest.mark.parametrize("estimator", [name for name, entry in ESTIMATORS.items() if entry.classifier])
def test_two_classes_may_have_a_probability_each(estimator, monkeypatch):
    features, targets, signature = load("breast_cancer", "binary")
    signature = Signature(signature.inputs, (TensorSpec("probabilities", "float32", (2,)),), "multiclass")
    args = {"estimator": estimator, "params": SMALL.get(estimator, {})}
    model, fitted = fit(signature, {"features": features}, targets, monkeypatch, **args)
    assert_same(model, fitted, features[:50], signature)


@pytest.mark.parametrize("estimator", [name for name, entry in ESTIMATORS.items() if entry.widths])
def test_several_numbers_at_once(estimator, monkeypatch):
    batch = make_batch(sign(ROWS, objective="regression"), 60)
    model, fitted = fit(
        sign(ROWS, objective="regression"), batch.inputs, batch.targets, monkeypatch, estimator=estimator
    )
    assert_same(model, fitted, batch.inputs["features"], sign(ROWS, objective="regression"))


@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        ("gradient_boosting", {"loss": "exponential", "n_estimators": 5}),
        ("gradient_boosting", {"init": "zero", "n_estimators": 5, "learning_rate": 0.5}),
        ("logistic", {"solver": "liblinear", "fit_intercept": False}),
        ("decision_tree", {"max_depth": 1}),
        ("rbf_svm", {"gamma": "auto", "C": 10.0, "class_weight": "balanced"}),
        ("rbf_svm", {"gamma": 0.5}),
    ],
)
def test_arguments_are_scikit_learns(estimator, params, monkeypatch):
    features, targets, signature = load("breast_cancer", "binary")
    args = {"estimator": estimator, "params": params}
    model, fitted = fit(signature, {"features": features}, targets, monkeypatch, **args)
    assert {key: fitted.get_params()[key] for key in params} == params
    assert_same(model, fitted, features, signature)


def test_several_inputs_are_joined_in_the_order_of_the_signature():
    features, targets, signature = load("wine", "multiclass")
    parts = (TensorSpec("b", "float32", (3,)), TensorSpec("a", "float64", (2, 5)))
    inputs = {"a": features[:, 3:].reshape(-1, 2, 5).astype(np.float64), "b": features[:, :3]}
    joined, _ = fit(Signature(parts, signature.outputs, "multiclass"), inputs, targets, estimator="decision_tree")
    whole, _ = fit(signature, {"features": features}, targets, estimator="decision_tree")
    np.testing.assert_array_equal(joined(inputs), whole(features))


def test_the_seed_decides():
    features, targets, signature = load("wine", "multiclass")
    args = {"estimator": "random_forest", "params": {"n_estimators": 3}}
    one, same, other = (
        fit(signature, {"features": features}, targets, seed=seed, **args)[0](features).numpy() for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_thresholds_part_float32_as_float64_does():
    random = np.random.default_rng(0)
    thresholds = random.normal(size=1000)
    rounded = _round_down(thresholds)
    assert rounded.dtype == np.float32 and (rounded > thresholds.astype(np.float32)).sum() == 0
    near = np.concatenate([np.nextafter(rounded, np.float32(s * np.inf)) for s in (-1, 1)] + [rounded])
    np.testing.assert_array_equal(near <= np.tile(rounded, 3), near.astype(np.float64) <= np.tile(thresholds, 3))


def test_many_support_vectors_take_their_features_in_turns(monkeypatch):
    features, targets, signature = load("wine", "multiclass")
    whole, _ = fit(signature, {"features": features}, targets, estimator="rbf_svm")
    monkeypatch.setattr("bmp.models.layers.support_vectors._BLOCK", 4 * 90)
    turns, _ = fit(signature, {"features": features}, targets, estimator="rbf_svm")
    np.testing.assert_allclose(turns(features), whole(features), atol=1e-6)


def test_votes_break_ties_by_confidence():
    # Three classes, each wins one pair; the first pair (0 over 1) is the clearest.
    scores = PairwiseVotes(3)(np.array([[2.0, -0.1, 0.3]], np.float32)).numpy()[0]
    confidence = np.array([1.9, -1.7, -0.2])
    np.testing.assert_allclose(scores, 1 + confidence / (3 * (np.abs(confidence) + 1)), atol=1e-6)


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        ({"estimator": "randon_forest"}, UnknownNameError, "Did you mean 'random_forest'?"),
        ({"estimator": "linear"}, ConfigError, "does not learn the objective multiclass. Estimators that do: decision"),
        ({"estimator": "decision_tree", "params": {"max_dept": 3}}, ConfigError, "Did you mean 'max_depth'?"),
        ({"estimator": "decision_tree", "params": {"random_state": 3}}, ConfigError, "set model.args.seed instead"),
        ({"estimator": "rbf_svm", "params": {"kernel": "poly"}}, ConfigError, "is set by bmp"),
        ({"estimator": "decision_tree", "params": {"max_depth": -3}}, ConfigError, "'max_depth' parameter"),
    ],
)
def test_what_cannot_be_fitted_is_a_mistake_in_the_recipe(args, kind, message):
    batch = make_batch(sign(ROWS))
    with pytest.raises(kind, match=re.escape(message)):
        fit(sign(ROWS), batch.inputs, batch.targets, **args)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (sign(ROWS, objective="multilabel"), "does not learn the objective multilabel"),
        (sign(TEXT), "holds tokens of a vocabulary"),
        (sign(ROWS, objective="regression"), "regression of 2 numbers. Estimators that do: decision_tree, random"),
    ],
)
def test_data_it_is_not_for_is_refused(signature, message):
    batch = make_batch(signature)
    with pytest.raises(ConfigError, match=re.escape(message)):
        fit(signature, batch.inputs, batch.targets, estimator="gradient_boosting")


def test_a_class_without_an_example_is_refused():
    batch = make_batch(sign(ROWS))
    with pytest.raises(DataError, match="no example of class 2"):
        fit(sign(ROWS), batch.inputs, np.where(batch.targets == 2, 1, batch.targets), estimator="decision_tree")
