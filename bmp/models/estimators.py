"""ESTIMATORS: scikit-learn's classical models, by the names recipes give them, with their arguments checked."""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bmp.catalog import Catalog
from bmp.errors import ConfigError, suggest


@dataclass(frozen=True)
class Estimator:
    """One kind of model.

    Args:
        classifier: Module and class in scikit-learn; None where there is no such classifier.
        regressor: Module and class in scikit-learn; None where there is no such regressor.
        fixed: Arguments that are not a recipe's to set.
        widths: Whether the regressor can learn several numbers at once.
    """

    classifier: str | None
    regressor: str | None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    widths: bool = False


ESTIMATORS = Catalog(
    "estimator",
    {
        "decision_tree": Estimator("tree.DecisionTreeClassifier", "tree.DecisionTreeRegressor", widths=True),
        "random_forest": Estimator("ensemble.RandomForestClassifier", "ensemble.RandomForestRegressor", widths=True),
        "gradient_boosting": Estimator("ensemble.GradientBoostingClassifier", "ensemble.GradientBoostingRegressor"),
        "linear_svm": Estimator("svm.LinearSVC", "svm.LinearSVR"),
        "rbf_svm": Estimator("svm.SVC", "svm.SVR", fixed={"kernel": "rbf", "decision_function_shape": "ovr"}),
        "logistic": Estimator("linear_model.LogisticRegression", None),
        "linear": Estimator(None, "linear_model.LinearRegression", widths=True),
        "ridge": Estimator("linear_model.RidgeClassifier", "linear_model.Ridge", widths=True),
    },
)


def make_estimator(name: str, objective: str, width: int, params: Mapping[str, Any], seed: int) -> Any:
    """Returns a scikit-learn model, not fitted yet.

    Args:
        name: An entry of ESTIMATORS.
        objective: `binary`, `multiclass` or `regression`.
        width: Numbers of an output.
        params: Arguments of the scikit-learn class.
        seed: Of its random state, where it has one.

    Raises:
        UnknownNameError: No estimator has this name.
        ConfigError: There is none for the objective, or an argument that scikit-learn does not know.
    """
    estimator = ESTIMATORS[name]
    kinds = {"binary": estimator.classifier, "multiclass": estimator.classifier, "regression": estimator.regressor}
    path = kinds.get(objective)
    if path is None or (objective == "regression" and width > 1 and not estimator.widths):
        able = ", ".join(_able(objective, width)) or "none; use model.build: mlp"
        what = f"{objective} of {width} numbers" if objective == "regression" and width > 1 else objective
        raise ConfigError(
            f"The estimator '{name}' does not learn the objective {what}. Estimators that do: {able}.",
            expected=able,
            received=name,
        )
    module, _, kind = path.partition(".")
    build = getattr(importlib.import_module(f"sklearn.{module}"), kind)
    known = set(inspect.signature(build).parameters)
    ours = {**estimator.fixed, "random_state": seed, "break_ties": objective == "multiclass" and width > 2}
    fixed = {key: value for key, value in ours.items() if key in known}
    _check_params(kind, params, known - set(fixed), set(fixed))
    return build(**params, **fixed)


def _able(objective: str, width: int) -> list[str]:
    if objective in ("binary", "multiclass"):
        return [name for name, entry in ESTIMATORS.items() if entry.classifier]
    if objective == "regression":
        return [name for name, entry in ESTIMATORS.items() if entry.regressor and (width == 1 or entry.widths)]
    return []


def _check_params(kind: str, params: Mapping[str, Any], settable: set[str], fixed: set[str]) -> None:
    for key in params:
        if key in fixed:
            hint = "set model.args.seed instead" if key == "random_state" else "leave it out"
            raise ConfigError(
                f"model.args.params: '{key}' of scikit-learn's {kind} is set by bmp; {hint}.",
                expected=", ".join(sorted(settable)),
                received=key,
            )
        if key not in settable:
            raise ConfigError(
                f"model.args.params: scikit-learn's {kind} takes no '{key}'; it takes "
                f"{', '.join(sorted(settable))}.{suggest(key, settable)}",
                expected=", ".join(sorted(settable)),
                received=key,
            )


def fit(estimator: Any, features: np.ndarray, targets: np.ndarray) -> None:
    """Fits a scikit-learn model.

    Args:
        estimator: From `make_estimator`.
        features: float32 `(N, F)`.
        targets: Class index `(N,)`, or numbers `(N, W)`.

    Raises:
        ConfigError: scikit-learn refuses an argument.
    """
    wide = features.astype(np.float64)  # coefficients in full precision; trees cut to float32 by themselves
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    try:
        estimator.fit(wide, targets)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"scikit-learn's {type(estimator).__name__} cannot be fitted: {reason}") from error
