"""A fitted scikit-learn model, layer by layer, as Keras layers with the same outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bmp.models.head import activation_of
from bmp.signature import Signature


def translate(fitted: Any, x: Any, signature: Signature) -> Any:
    """Returns the outputs `(B, width)` of a fitted model for features float32 `(B, F)`, named as in the signature.

    Args:
        fitted: From bmp.models.estimators.
        x: The features.
        signature: One output of shape `(width,)`.
    """
    import tf_keras as keras

    (output,) = signature.outputs
    width = output.shape[-1] or 0
    kind = type(fitted).__name__
    activation = activation_of(signature)
    if kind.startswith(("DecisionTree", "RandomForest")):
        trees = [fitted] if kind.startswith("DecisionTree") else fitted.estimators_
        x = _add_trees(x, [tree.tree_ for tree in trees], [_leaf_values(tree, width) for tree in trees], mean=True)
        activation = "linear"  # probabilities already
    elif kind.startswith("GradientBoosting"):
        x = _add_boosting(x, fitted, width)
    elif kind in ("SVC", "SVR"):
        x = _add_support_vectors(x, fitted, width)
    else:
        x = _add_linear(x, fitted, width)
    return keras.layers.Activation(activation, name=output.name, dtype="float32")(x)


def _leaf_values(tree: Any, width: int) -> np.ndarray:
    """Returns what each node says, `(nodes, width)`: a share of each class, of the second class, or numbers."""
    values = tree.tree_.value  # (nodes, outputs, classes)
    if not hasattr(tree, "classes_"):
        return values[:, :, 0]
    return values[:, 0, -width:]  # of a binary output the second class


def _add_boosting(x: Any, fitted: Any, width: int) -> Any:
    """Adds the scores before softmax or sigmoid; what boosting starts from is in the leaves of the first trees."""
    stages = fitted.estimators_  # (stages, scores)
    factor = 2.0 if fitted.loss == "exponential" else 1.0  # its probabilities are sigmoid(2 score)
    probe = np.zeros((1, fitted.n_features_in_))
    steps = np.array([[tree.predict(probe)[0] for tree in stage] for stage in stages]).sum(axis=0)
    total = fitted.decision_function(probe) if hasattr(fitted, "classes_") else fitted.predict(probe)
    start = np.reshape(total, -1) - fitted.learning_rate * steps  # (scores,)
    trees, values = [], []
    for number, stage in enumerate(stages):
        for score, tree in enumerate(stage):
            value = fitted.learning_rate * tree.tree_.value[:, 0, 0] + (start[score] if number == 0 else 0.0)
            columns = np.zeros((len(value), len(stage)))
            columns[:, score] = factor * value
            trees.append(tree.tree_)
            values.append(_widen(columns, width))
    return _add_trees(x, trees, values, mean=False)


def _add_trees(x: Any, trees: Sequence[Any], values: Sequence[np.ndarray], *, mean: bool) -> Any:
    """Adds trees as one table of nodes.

    Args:
        x: `(B, F)`.
        trees: scikit-learn's `tree_` of each.
        values: What each node of each tree says, `(nodes, width)`.
        mean: Whether the trees are averaged, in place of summed.
    """
    from bmp.models.layers import Trees

    counts = [tree.node_count for tree in trees]
    root = np.cumsum([0, *counts[:-1]])
    itself = np.arange(sum(counts))
    first = np.repeat(root, counts)  # node of all trees that children are counted from
    left, right = (np.concatenate([getattr(tree, f"children_{side}") for tree in trees]) for side in ("left", "right"))
    is_leaf = left < 0
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    layer = Trees(
        len(trees),
        sum(counts),
        values[0].shape[1],
        max(tree.max_depth for tree in trees),
        mean,
        name="trees",
        dtype="float32",
    )
    outputs = layer(x)
    layer.set_weights(
        [
            root,
            np.where(is_leaf, 0, feature),
            np.where(is_leaf, 0, _round_down(threshold)),
            np.where(is_leaf, itself, left + first),
            np.where(is_leaf, itself, right + first),
            np.concatenate(values),
        ]
    )
    return outputs


def _round_down(thresholds: np.ndarray) -> np.ndarray:
    """Returns the greatest float32 that is not above each float64: float32 features then fall on the same side."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _add_support_vectors(x: Any, fitted: Any, width: int) -> Any:
    from bmp.models.layers import PairwiseVotes, SupportVectors

    pairs = len(fitted.intercept_)
    coefficients = fitted.dual_coef_.T if pairs == 1 else _pair_coefficients(fitted)  # (vectors, pairs)
    intercepts = np.asarray(fitted.intercept_)[None]
    if pairs == 1:
        coefficients, intercepts = _widen(coefficients, width), _widen(intercepts, width)
    count, outputs = coefficients.shape
    layer = SupportVectors(count, outputs, float(fitted._gamma), name="support_vectors", dtype="float32")
    scores = layer(x)
    layer.set_weights([fitted.support_vectors_, coefficients, intercepts[0]])
    return scores if pairs == 1 else PairwiseVotes(width, name="votes", dtype="float32")(scores)


def _pair_coefficients(fitted: Any) -> np.ndarray:
    """Returns the coefficient of each vector in the decision of each pair of classes, `(vectors, pairs)`.

    scikit-learn keeps, for a vector of class c, one row for each other class, in order: `(classes - 1, vectors)`.
    """
    owner = np.repeat(np.arange(len(fitted.n_support_)), fitted.n_support_)  # class of each vector
    firsts, seconds = np.triu_indices(len(fitted.n_support_), k=1)
    columns = np.zeros((len(owner), len(firsts)))
    for pair, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        columns[owner == first, pair] = fitted.dual_coef_[second - 1, owner == first]
        columns[owner == second, pair] = fitted.dual_coef_[first, owner == second]
    return columns


def _add_linear(x: Any, fitted: Any, width: int) -> Any:
    import tf_keras as keras

    kernel = np.atleast_2d(fitted.coef_).T  # (F, scores)
    bias = np.broadcast_to(np.reshape(fitted.intercept_, (1, -1)), (1, kernel.shape[1]))
    kernel, bias = _widen(kernel, width), _widen(bias, width)
    layer = keras.layers.Dense(width, trainable=False, name="scores", dtype="float32")
    scores = layer(x)
    layer.set_weights([kernel, bias[0]])
    return scores


def _widen(columns: np.ndarray, width: int) -> np.ndarray:
    """Returns `(N, width)`: of two classes with one score between them, the first has the score 0."""
    missing = width - columns.shape[1]
    return np.concatenate([np.zeros((len(columns), missing)), columns], axis=1) if missing else columns
