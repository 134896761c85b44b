"""scikit-learn models in skops files, written down as Keras layers with fixed weights."""

import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.errors import ArtifactError, UnsafeError
from bmp.imports.original import Options, Original
from bmp.models.estimators import ESTIMATORS
from bmp.models.inputs import add_scale
from bmp.models.translation import translate
from bmp.signature import Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

_INPUT = "features"
_OUTPUTS = {"binary": "probability", "multiclass": "probabilities", "regression": "values"}
_WITHOUT_PROBABILITIES = ("LinearSVC", "SVC", "RidgeClassifier")
"""Whose outputs are made of `decision_function`, see bmp.models.classical."""
_SAFE = ("sklearn.tree._tree.Tree",)
"""What skops leaves to us to judge: the tables of a tree, which are checked below."""
_SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler")


def check_sklearn_source(path: Path) -> None:
    """Checks that the archive holds only types that skops builds by default: estimators, arrays and plain values.

    Raises:
        UnsafeError: It names another type, or its members are not what they seem.
        ArtifactError: It cannot be read.
    """
    from bmp.artifact.guard import Limits, check_member_names

    limits = Limits()
    try:
        with zipfile.ZipFile(path) as archive:
            check_member_names(archive.namelist(), limits)
            packed = sum(member.compress_size for member in archive.infolist())
            limits.check_growth(str(path), packed, sum(member.file_size for member in archive.infolist()))
    except (zipfile.BadZipFile, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} is no archive that can be read: {error}.") from error
    strangers = [name for name in _list_strangers(path) if name not in _SAFE]
    if strangers:
        raise UnsafeError(
            f"{path} names types that are not on the list of what is safe to build: {', '.join(strangers)}. Leave them "
            "out of the model, or, if you made the file yourself and trust it, add --trust.",
            received=", ".join(strangers),
        )


def _list_strangers(path: Path) -> list[str]:
    import skops.io

    try:
        return list(skops.io.get_untrusted_types(file=path))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no skops file that can be read: {type(error).__name__}: {error}.") from error


def read_sklearn_source(path: Path, options: Options) -> Original:
    """Reads the file.

    Raises:
        ArtifactError: It holds no fitted model of bmp.models.estimators, alone or behind scalers.
    """
    import skops.io

    from bmp.imports.sources.keras2 import make_writers

    whole = skops.io.load(path, trusted=_list_strangers(path) if options.trust else list(_SAFE))
    scalers, fitted = _take_apart(whole, path)
    labels, signature = _describe(fitted, whole, path)
    model = _translate(scalers, fitted, signature)

    def run(arrays: Arrays) -> Arrays:
        return {signature.outputs[0].name: _ask(whole, fitted, arrays[_INPUT].astype(np.float64), signature)}

    engine = f"scikit-learn {version('scikit-learn')}"
    return Original(engine, signature, run, make_writers(model), objective=signature.objective, labels=labels)


def _take_apart(whole: Any, path: Path) -> tuple[list[Any], Any]:
    """Returns the scalers in front of a model, and the model.

    Raises:
        ArtifactError: There is a step of another kind, or a model that has no layers.
    """
    steps = [step for _, step in whole.steps] if type(whole).__name__ == "Pipeline" else [whole]
    *before, fitted = [step for step in steps if step is not None and step != "passthrough"]
    known = {(kind or "").rpartition(".")[2] for entry in ESTIMATORS.values() for kind in _kinds(entry)} - {""}
    for step in before:
        if type(step).__name__ not in _SCALERS or getattr(step, "clip", False):
            raise ArtifactError(
                f"The pipeline in {path} has the step {type(step).__name__}, which has no form as layers; before a "
                f"model there may be {', '.join(_SCALERS)}, without clip.",
                expected=", ".join(_SCALERS),
                received=type(step).__name__,
            )
    if type(fitted).__name__ not in known or not type(fitted).__module__.startswith("sklearn."):
        listed = ", ".join(sorted(known))
        raise ArtifactError(
            f"{path} holds a {type(fitted).__name__}, which has no form as layers; these have: {listed}.",
            expected=listed,
            received=type(fitted).__name__,
        )
    _check_fitted(fitted, path)
    return before, fitted


def _kinds(entry: Any) -> tuple[str | None, str | None]:
    return entry.classifier, entry.regressor


def _check_fitted(fitted: Any, path: Path) -> None:
    kind = type(fitted).__name__
    if not hasattr(fitted, "n_features_in_"):
        raise ArtifactError(f"The {kind} in {path} has not been fitted; call its fit before it is written.")
    if getattr(fitted, "n_outputs_", 1) != 1 and hasattr(fitted, "classes_"):
        raise ArtifactError(f"The {kind} in {path} answers several questions at once; import one model for each.")
    if kind in ("SVC", "SVR") and fitted.kernel != "rbf":
        raise ArtifactError(f"The {kind} in {path} has the kernel {fitted.kernel!r}; only 'rbf' has a form as layers.")
    if kind in ("SVC", "SVR") and fitted._sparse:
        raise ArtifactError(f"The {kind} in {path} was fitted on sparse data; fit it on an array.")
    _check_trees(fitted, path)


def _check_trees(fitted: Any, path: Path) -> None:
    """Checks that the tables of trees point at nothing outside of them.

    Raises:
        ArtifactError: They do.
    """
    members = np.ravel(getattr(fitted, "estimators_", [fitted]))
    for tree in (member.tree_ for member in members if hasattr(member, "tree_")):
        inner = tree.children_left >= 0
        children = np.concatenate([tree.children_left[inner], tree.children_right[inner]])
        features = tree.feature[inner]
        wrong = (children <= np.tile(np.flatnonzero(inner), 2)) | (children >= tree.node_count)
        if wrong.any() or not ((features >= 0) & (features < fitted.n_features_in_)).all():
            raise ArtifactError(f"The {type(fitted).__name__} in {path} has a tree that points outside of itself.")


def _describe(fitted: Any, whole: Any, path: Path) -> tuple[tuple[str, ...], Signature]:
    """Returns the names of the classes, and the signature."""
    count = int(whole.n_features_in_)
    labels = tuple(map(str, getattr(fitted, "classes_", ())))
    objective = "regression" if not labels else "binary" if len(labels) == 2 else "multiclass"
    width = len(labels) if objective == "multiclass" else 1
    if objective == "regression":
        width = np.reshape(whole.predict(np.zeros((1, count))), (1, -1)).shape[1]
    output = TensorSpec(_OUTPUTS[objective], "float32", (width,))
    return labels, Signature((TensorSpec(_INPUT, "float32", (count,)),), (output,), objective)


def _translate(scalers: list[Any], fitted: Any, signature: Signature) -> "keras.Model":
    import tf_keras as keras

    (spec,) = signature.inputs
    inputs = x = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    for number, scaler in enumerate(scalers, start=1):
        factor, offset = _read_scaler(scaler)
        x = keras.layers.Rescaling(factor.tolist(), offset.tolist(), name=f"scale_{number}")(x)
    outputs = translate(fitted, add_scale(x, 1.0), signature)
    return keras.Model(inputs, outputs, name="sklearn")


def _read_scaler(scaler: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a scaler multiplies features by, and what it adds then."""
    count = scaler.n_features_in_
    zero, one = np.zeros(count), np.ones(count)
    if type(scaler).__name__ == "MinMaxScaler":
        return scaler.scale_, scaler.min_
    factor = one / (scaler.scale_ if scaler.scale_ is not None else one)
    mean = getattr(scaler, "mean_", None)
    return factor, zero if mean is None or not scaler.with_mean else -mean * factor


def _ask(whole: Any, fitted: Any, features: np.ndarray, signature: Signature) -> np.ndarray:
    """Returns what scikit-learn says, float32 `(B, width)`: probabilities, those made of decisions, or values."""
    from scipy.special import expit, softmax

    width = signature.outputs[0].shape[-1] or 0
    if signature.objective == "regression":
        answers = whole.predict(features)
    elif type(fitted).__name__ in _WITHOUT_PROBABILITIES:
        scores = whole.decision_function(features)
        answers = softmax(scores, axis=1) if scores.ndim == 2 else expit(scores)
    else:
        answers = whole.predict_proba(features)[:, -width:]
    return np.reshape(answers, (len(features), width)).astype(np.float32)
