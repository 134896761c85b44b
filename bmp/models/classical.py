"""Classical models: fitted by scikit-learn, then written down as a Keras model with fixed weights."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pydantic import NonNegativeInt

from bmp.errors import ConfigError, DataError
from bmp.models.estimators import fit, make_estimator
from bmp.models.inputs import add_scale, check_numbers, join_numbers
from bmp.models.translation import translate
from bmp.signature import Arrays, Signature

if TYPE_CHECKING:
    import tf_keras as keras


class Examples(Protocol):
    """What `load` of a split returns: inputs `(N, *shape)` by name, and targets."""

    @property
    def inputs(self) -> Arrays:
        """Inputs by name."""
        ...

    @property
    def targets(self) -> np.ndarray:
        """Class index `(N,)`, or numbers `(N, W)`."""
        ...


class Loadable(Protocol):
    """A split that can be read whole, such as bmp.data's."""

    def load(self) -> Examples:
        """Returns every example."""
        ...


def build_classical(
    signature: Signature,
    train: Loadable,
    /,
    *,
    estimator: str,
    params: dict[str, Any] | None = None,
    seed: NonNegativeInt = 0,
) -> "keras.Model":
    """Fits a scikit-learn model on the training split and returns it as a Keras model without trainable weights.

    Its outputs are scikit-learn's, to about 1e-6: `predict_proba` of trees, forests, boosting and logistic
    regression; values of regressors; for support vector machines and ridge classifiers, which have no probabilities,
    sigmoid or softmax of `decision_function`. Those are not calibrated: the most probable class is the one
    scikit-learn predicts, the number beside it is no frequency.

    Args:
        signature: Inputs of numbers of fixed shape, flattened and joined; one output of shape `(width,)`.
        train: The training split; read whole into memory.
        estimator: `decision_tree`, `random_forest`, `gradient_boosting`, `linear_svm`, `rbf_svm`, `logistic`,
            `linear` or `ridge`.
        params: Arguments of the scikit-learn class, such as `{max_depth: 8}`.
        seed: Of its random state.

    Raises:
        ConfigError: Unknown estimator or argument, an objective it does not learn, or inputs that are no numbers.
        DataError: The training split lacks a class.
    """
    import tf_keras as keras

    (output,) = signature.outputs
    for spec in signature.inputs:
        check_numbers(spec, model="classical")
        if spec.vocabulary is not None:
            raise ConfigError(
                f"The model 'classical' needs numbers, but input '{spec.name}' holds tokens of a vocabulary. "
                "Turn them into numbers in data.transforms, or use model.build: mlp.",
                expected="numbers",
                received=str(spec),
            )
    width = output.shape[-1] or 0
    fitted = make_estimator(estimator, signature.objective, width, params or {}, seed)
    examples = train.load()
    fit(fitted, _join_arrays(signature, examples.inputs), examples.targets)
    if signature.objective != "regression":
        _check_classes(fitted.classes_, max(width, 2))
    # === Layers and graph ===
    inputs = [keras.Input(spec.shape, name=spec.name, dtype=spec.dtype) for spec in signature.inputs]
    outputs = translate(fitted, add_scale(join_numbers(inputs), 1.0), signature)
    return keras.Model(inputs, outputs, name=f"classical_{estimator}")


def _join_arrays(signature: Signature, arrays: Arrays) -> np.ndarray:
    """Returns float32 `(N, F)`, as `join_numbers` does in the graph."""
    parts = [arrays[spec.name] for spec in signature.inputs]
    return np.concatenate([part.reshape(len(part), -1).astype(np.float32) for part in parts], axis=1)


def _check_classes(found: np.ndarray, count: int) -> None:
    missing = sorted(set(range(count)) - {int(number) for number in found})
    if missing:
        raise DataError(
            f"The training split has no example of class {', '.join(map(str, missing))}; a classical model must see "
            "every class. Add examples, or set data.stratify: true.",
            expected=f"examples of all {count} classes",
            received=f"none of class {', '.join(map(str, missing))}",
        )
