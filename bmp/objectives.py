"""OBJECTIVES: what is learned. For each: the output, its activation, the loss, and the metrics.

A loss and the metrics of the progress line are built on Keras' own. What a finished file is judged by
is measured by a `Meter`, in numpy, batch by batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from bmp.catalog import Catalog
from bmp.errors import ConfigError, UnknownNameError, suggest
from bmp.signature import TensorSpec

if TYPE_CHECKING:
    import tensorflow as tf
    import tf_keras as keras

_TOP = 5


@dataclass(frozen=True)
class Target:
    """What is to be predicted.

    Args:
        kind: What it is, and how a batch of it looks: `class`: int64 `(N,)`, an index of `labels`;
            `multilabel`: float32 `(N, labels)`, 0 or 1; `number`: float32 `(N, width)`;
            `tokens`: int32 `(N, width)`, the token after each token of the input, an index of `labels`.
        labels: Names of the classes, by index; of a tokenizer, the text of each token. Empty for numbers.
        width: Numbers of an example, or its tokens.
    """

    kind: Literal["class", "multilabel", "number", "tokens"]
    labels: tuple[str, ...] = ()
    width: int = 1


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    Args:
        greater_is_better: Otherwise less is.
        is_relative: What a drop is. Where 1 is the best, it is the plain difference, so that 0.005 is half a point;
            of a metric without such an end it is a share of the original's value, so that 0.005 is half a percent.
    """

    greater_is_better: bool
    is_relative: bool


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": Metric(greater_is_better=True, is_relative=False),
        "top_5": Metric(greater_is_better=True, is_relative=False),
        "exact_match": Metric(greater_is_better=True, is_relative=False),
        "f1": Metric(greater_is_better=True, is_relative=False),
        "f1_macro": Metric(greater_is_better=True, is_relative=False),
        "precision": Metric(greater_is_better=True, is_relative=False),
        "recall": Metric(greater_is_better=True, is_relative=False),
        "auc": Metric(greater_is_better=True, is_relative=False),
        "probability": Metric(greater_is_better=True, is_relative=False),
        "r2": Metric(greater_is_better=True, is_relative=False),
        "log_loss": Metric(greater_is_better=False, is_relative=True),
        "loss": Metric(greater_is_better=False, is_relative=True),
        "perplexity": Metric(greater_is_better=False, is_relative=True),
        "mae": Metric(greater_is_better=False, is_relative=True),
        "rmse": Metric(greater_is_better=False, is_relative=True),
    }
)
"""How each metric of the meters below is read."""


class Meter(ABC):
    """Measures outputs against targets, batch by batch.

    Args:
        labels: Of the target.
    """

    metrics: ClassVar[tuple[str, ...]] = ()
    """What `result` returns, the names of METRICS; `top_5` only where there are more than five classes."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    @abstractmethod
    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes a batch: the model's outputs, and targets as `Target.kind` describes them."""

    @abstractmethod
    def result(self) -> dict[str, float]:
        """Returns every metric by name, the score among them."""

    def confusion(self) -> np.ndarray | None:
        """Returns how often class i (row) was taken for class j (column), int64 `(C, C)`; None where no classes are."""
        return None


class MulticlassMeter(Meter):
    """Accuracy, top 5 where there are more than five classes, macro F1, and the log loss in nats."""

    metrics = ("accuracy", "f1", "log_loss", "top_5")

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__(labels)
        self._confusion = np.zeros((len(labels), len(labels)), np.int64)
        self._top, self._log_loss = 0, 0.0

    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes probabilities `(B, C)` and class indices `(B,)`."""
        np.add.at(self._confusion, (targets, outputs.argmax(axis=-1)), 1)
        self._top += _count_top(outputs, targets)
        self._log_loss += _sum_log_loss(outputs, targets)

    def result(self) -> dict[str, float]:
        """Returns accuracy, f1, log_loss and, over five classes, top_5."""
        count = max(int(self._confusion.sum()), 1)
        metrics = {
            "accuracy": float(self._confusion.trace()) / count,
            "f1": _macro_f1(self._confusion),
            "log_loss": self._log_loss / count,
        }
        return metrics | ({"top_5": self._top / count} if len(self.labels) > _TOP else {})

    def confusion(self) -> np.ndarray:
        """Returns the matrix, true class by predicted class."""
        return self._confusion


class BinaryMeter(Meter):
    """Accuracy at a probability of one half, F1, precision, recall, area under the ROC curve, log loss in nats."""

    metrics = ("accuracy", "f1", "precision", "recall", "auc", "log_loss")

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__(labels)
        self._probabilities: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes the probability of the second class `(B, 1)` and class indices `(B,)`."""
        self._probabilities.append(outputs[:, 0].copy())
        self._targets.append(np.asarray(targets))

    def confusion(self) -> np.ndarray:
        """Returns the matrix, true class by predicted class."""
        matrix = np.zeros((2, 2), np.int64)
        for probabilities, targets in zip(self._probabilities, self._targets, strict=True):
            np.add.at(matrix, (targets, (probabilities > 0.5).astype(np.int64)), 1)
        return matrix

    def result(self) -> dict[str, float]:
        """Returns accuracy, f1, precision, recall, auc and log_loss."""
        matrix = self.confusion()
        probabilities, targets = np.concatenate(self._probabilities), np.concatenate(self._targets)
        two = np.stack([1 - probabilities, probabilities], axis=1)
        hits, predicted, actual = matrix[1, 1], matrix[:, 1].sum(), matrix[1].sum()
        return {
            "accuracy": float(matrix.trace() / max(matrix.sum(), 1)),
            "f1": _divide(2 * hits, predicted + actual),
            "precision": _divide(hits, predicted),
            "recall": _divide(hits, actual),
            "auc": _area_under_roc(probabilities, targets),
            "log_loss": _sum_log_loss(two, targets) / max(len(targets), 1),
        }


class MultilabelMeter(Meter):
    """F1 over all decisions at one half (micro), the mean over labels (macro) of F1 and of the area under the ROC
    curve, and the share of examples whose labels are all right.
    """

    metrics = ("f1", "f1_macro", "auc", "exact_match")

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__(labels)
        self._probabilities: list[np.ndarray] = []
        self._targets: list[np.ndarray] = []

    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes probabilities `(B, L)` and 0 or 1 `(B, L)`."""
        self._probabilities.append(outputs.copy())
        self._targets.append(targets > 0.5)

    def result(self) -> dict[str, float]:
        """Returns f1, f1_macro, auc and exact_match."""
        probabilities, targets = np.concatenate(self._probabilities), np.concatenate(self._targets)
        predicted = probabilities > 0.5
        hits, claims, actual = (array.sum(axis=0) for array in (predicted & targets, predicted, targets))
        areas = [_area_under_roc(probabilities[:, label], targets[:, label]) for label in range(targets.shape[1])]
        return {
            "f1": _divide(2 * hits.sum(), claims.sum() + actual.sum()),
            "f1_macro": float(np.mean([_divide(2 * h, c + a) for h, c, a in zip(hits, claims, actual, strict=True)])),
            "auc": float(np.mean(areas)),
            "exact_match": float(np.mean((predicted == targets).all(axis=1))),
        }


class RegressionMeter(Meter):
    """R², mean absolute error and root mean squared error, each the mean over the outputs."""

    metrics = ("r2", "mae", "rmse")

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__(labels)
        self._count = 0
        self._sums: Any = 0.0

    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes values `(B, W)` and numbers `(B, W)`."""
        truth, error = targets.astype(np.float64), outputs.astype(np.float64) - targets
        if not self._count:
            self._origin = truth.mean(axis=0)  # sums about a value near the mean do not cancel
        centred = truth - self._origin
        self._sums = self._sums + np.stack([centred, centred**2, error**2, np.abs(error)]).sum(axis=1)  # (4, W)
        self._count += len(truth)

    def result(self) -> dict[str, float]:
        """Returns r2, mae and rmse; R² of a constant target is 0."""
        total, squares, errors, absolute = self._sums
        spread = squares - total**2 / self._count
        r2 = np.where(spread > 0, 1 - errors / np.where(spread > 0, spread, 1), 0.0)
        return {
            "r2": float(r2.mean()),
            "mae": float((absolute / self._count).mean()),
            "rmse": float(np.sqrt(errors / self._count).mean()),
        }


class NextTokenMeter(Meter):
    """Accuracy of the most probable next token, loss in nats a token, perplexity, its exponential, and probability,
    the inverse of that: the geometric mean of what was given to the true tokens.
    """

    metrics = ("probability", "accuracy", "loss", "perplexity")

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__(labels)
        self._count, self._hits, self._log_loss = 0, 0, 0.0

    def update(self, outputs: np.ndarray, targets: np.ndarray) -> None:
        """Takes probabilities `(B, T, V)` and tokens `(B, T)`."""
        self._count += targets.size
        self._hits += int((outputs.argmax(axis=-1) == targets).sum())
        self._log_loss += _sum_log_loss(outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1))

    def result(self) -> dict[str, float]:
        """Returns probability, accuracy, loss and perplexity."""
        loss = self._log_loss / max(self._count, 1)
        return {
            "probability": float(np.exp(-loss)),
            "accuracy": self._hits / max(self._count, 1),
            "loss": loss,
            "perplexity": float(np.exp(loss)),
        }


@dataclass(frozen=True)
class Objective:
    """What is learned.

    Args:
        target: The kind of target it takes.
        activation: Of the model's last layer, a name that Keras knows.
        score: The metric that choices are made on and promises given for: greater is better, 1 is the best.
        output: Target to the specification of the model's one output.
        losses: Targets, outputs and label smoothing to the loss of each example, `(B,)`.
        make_metrics: Returns Keras' metrics for the progress line, the score among them.
        meter: Labels to the meter of a finished file.
    """

    target: str
    activation: Literal["softmax", "sigmoid", "linear"]
    score: str
    output: Callable[[Target], TensorSpec]
    losses: "Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor]"
    make_metrics: "Callable[[], list[keras.metrics.Metric]]"
    meter: Callable[[tuple[str, ...]], Meter]

    def make_loss(self, label_smoothing: float = 0.0) -> "Callable[[tf.Tensor, tf.Tensor], tf.Tensor]":
        """Returns the loss that Keras is compiled with: targets and outputs to the loss of each example, `(B,)`.

        Args:
            label_smoothing: Share of the probability that goes from the true class to all classes alike.

        Raises:
            ConfigError: There are no classes to smooth.
        """
        self._check_smoothing(label_smoothing)

        def loss(targets: "tf.Tensor", outputs: "tf.Tensor") -> "tf.Tensor":
            return self.example_losses(targets, outputs, label_smoothing)

        return loss

    def example_losses(self, targets: "tf.Tensor", outputs: "tf.Tensor", label_smoothing: float = 0.0) -> "tf.Tensor":
        """Returns the loss of each example, float32 `(B,)`: the mean over the tokens of a text, or over its numbers.

        Args:
            targets: As `Target.kind` describes them; of classes also a probability for each, `(B, C)`.
            outputs: Of the model, `(B, ...)`, in any precision.
            label_smoothing: Share of the probability that goes from the true class to all classes alike.

        Raises:
            ConfigError: There are no classes to smooth.
        """
        import tensorflow as tf

        self._check_smoothing(label_smoothing)
        if outputs.dtype != tf.float32:  # a cast of what is float32 already would hide the softmax from Keras
            outputs = tf.cast(outputs, tf.float32)
        losses = self.losses(targets, outputs, label_smoothing)  # (B,) or (B, T)
        return tf.reduce_mean(losses, axis=list(range(1, losses.shape.rank)))

    def _check_smoothing(self, label_smoothing: float) -> None:
        if label_smoothing and self.target == "number":
            raise ConfigError(
                f"train.label_smoothing is {label_smoothing:g}, but the objective is regression: it moves probability "
                "from the true class to all classes, and numbers have no classes. Leave it at 0.",
                expected="0",
                received=f"{label_smoothing:g}",
            )


def pick_objective(wanted: str, target: Target) -> str:
    """Returns the entry of OBJECTIVES for a target: what the recipe wants, or with `auto` what follows from it.

    Raises:
        ConfigError: The objective cannot be had with this target.
    """
    by_kind = {"multilabel": "multilabel", "number": "regression", "tokens": "next_token"}
    natural = by_kind.get(target.kind) or ("binary" if len(target.labels) == 2 else "multiclass")
    if wanted == "auto":
        return natural
    objective = OBJECTIVES[wanted]
    if objective.target != target.kind or (wanted == "binary" and len(target.labels) != 2):
        count = f" of {len(target.labels)} labels" if target.labels else ""
        raise ConfigError(
            f"data.objective is {wanted}, but the target is of kind {target.kind}{count}; that is learned as "
            f"{natural}. Leave it at auto, or name another target column.",
            expected=natural,
            received=wanted,
        )
    return wanted


def list_metrics(objective: str, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names of what the meter of an objective measures.

    Args:
        objective: An entry of OBJECTIVES.
        labels: Of the target.
    """
    names = OBJECTIVES[objective].meter(labels).metrics
    return tuple(name for name in names if name != "top_5" or len(labels) > _TOP)


def pick_metric(wanted: str, objective: str, labels: tuple[str, ...]) -> str:
    """Returns the metric that a promise is about: the one that is wanted, or with `auto` the objective's score.

    Raises:
        UnknownNameError: The objective does not measure it.
    """
    if wanted == "auto":
        return OBJECTIVES[objective].score
    known = list_metrics(objective, labels)
    if wanted in known:
        return wanted
    reason = " There are not more than five classes." if wanted == "top_5" and objective == "multiclass" else ""
    raise UnknownNameError(
        f"'{wanted}' is no metric of the objective {objective}; it has {', '.join(known)}.{reason}"
        f"{suggest(wanted, known)}",
        expected=f"one of {', '.join(known)}",
        received=wanted,
    )


def soft_crossentropy(targets: "tf.Tensor", probabilities: "tf.Tensor", label_smoothing: float = 0.0) -> "tf.Tensor":
    """Cross-entropy in nats of class indices, or of a probability for each class where examples were mixed."""
    import tensorflow as tf
    import tf_keras as keras

    # Keras finds the logits behind a softmax: from them the loss is exact also where a probability is 0.
    if targets.shape.rank == probabilities.shape.rank and targets.shape[-1] == probabilities.shape[-1]:
        return keras.losses.categorical_crossentropy(targets, probabilities, label_smoothing=label_smoothing)
    if not label_smoothing:
        return keras.losses.sparse_categorical_crossentropy(targets, probabilities)
    shares = tf.one_hot(tf.reshape(tf.cast(targets, tf.int64), tf.shape(probabilities)[:-1]), probabilities.shape[-1])
    return keras.losses.categorical_crossentropy(shares, probabilities, label_smoothing=label_smoothing)


def _binary_crossentropy(targets: "tf.Tensor", probabilities: "tf.Tensor", label_smoothing: float) -> "tf.Tensor":
    import tensorflow as tf
    import tf_keras as keras

    targets = tf.reshape(targets, tf.shape(probabilities))
    return keras.losses.binary_crossentropy(targets, probabilities, label_smoothing=label_smoothing)


def _squared_error(targets: "tf.Tensor", values: "tf.Tensor", label_smoothing: float) -> "tf.Tensor":
    import tensorflow as tf
    import tf_keras as keras

    return keras.losses.mean_squared_error(tf.reshape(targets, tf.shape(values)), values)


def accuracy(targets: "tf.Tensor", probabilities: "tf.Tensor") -> "tf.Tensor":
    """Whether the most probable class is the true one, or the one with the greatest share of a mixed example."""
    import tensorflow as tf

    if targets.shape.rank == probabilities.shape.rank and targets.shape[-1] == probabilities.shape[-1]:
        targets = tf.argmax(targets, axis=-1)
    elif targets.shape.rank == probabilities.shape.rank:  # Keras gives class indices a last axis of one
        targets = tf.squeeze(targets, -1)
    return tf.cast(tf.equal(tf.cast(targets, tf.int64), tf.argmax(probabilities, axis=-1)), tf.float32)


def _accuracy_metrics() -> "list[keras.metrics.Metric]":
    import tf_keras as keras

    return [keras.metrics.MeanMetricWrapper(accuracy, name="accuracy")]


def _token_metrics() -> "list[keras.metrics.Metric]":
    import tensorflow as tf
    import tf_keras as keras

    class TokenProbability(keras.metrics.MeanMetricWrapper):
        """The geometric mean of the probability of the true tokens."""

        def result(self) -> "tf.Tensor":
            return tf.exp(-super().result())

    return [TokenProbability(soft_crossentropy, name="probability"), *_accuracy_metrics()]


def _binary_metrics() -> "list[keras.metrics.Metric]":
    import tf_keras as keras

    return [keras.metrics.BinaryAccuracy(name="accuracy")]


def _multilabel_metrics() -> "list[keras.metrics.Metric]":
    import tf_keras as keras

    return [keras.metrics.F1Score(average="micro", threshold=0.5, name="f1")]


def _regression_metrics() -> "list[keras.metrics.Metric]":
    import tf_keras as keras

    return [keras.metrics.R2Score(name="r2"), keras.metrics.MeanAbsoluteError(name="mae")]


def _spec(name: str, shape: Callable[[Target], tuple[int, ...]]) -> Callable[[Target], TensorSpec]:
    return lambda target: TensorSpec(name, "float32", shape(target))


OBJECTIVES = Catalog(
    "objective",
    {
        "multiclass": Objective(
            "class",
            "softmax",
            "accuracy",
            _spec("probabilities", lambda target: (len(target.labels),)),
            soft_crossentropy,
            _accuracy_metrics,
            MulticlassMeter,
        ),
        "binary": Objective(
            "class",
            "sigmoid",
            "accuracy",
            _spec("probability", lambda target: (1,)),
            _binary_crossentropy,
            _binary_metrics,
            BinaryMeter,
        ),
        "multilabel": Objective(
            "multilabel",
            "sigmoid",
            "f1",
            _spec("probabilities", lambda target: (len(target.labels),)),
            _binary_crossentropy,
            _multilabel_metrics,
            MultilabelMeter,
        ),
        "regression": Objective(
            "number",
            "linear",
            "r2",
            _spec("values", lambda target: (target.width,)),
            _squared_error,
            _regression_metrics,
            RegressionMeter,
        ),
        "next_token": Objective(
            "tokens",
            "softmax",
            "probability",  # not accuracy: eight bits may keep the best guess and spoil all the others
            _spec("probabilities", lambda target: (target.width, len(target.labels))),
            soft_crossentropy,
            _token_metrics,
            NextTokenMeter,
        ),
    },
)


def _count_top(outputs: np.ndarray, targets: np.ndarray) -> int:
    truth = np.take_along_axis(outputs, np.asarray(targets)[:, None], axis=-1)
    return int(((outputs > truth).sum(axis=-1) < _TOP).sum())


def _sum_log_loss(probabilities: np.ndarray, targets: np.ndarray) -> float:
    truth = np.take_along_axis(probabilities, np.asarray(targets)[:, None], axis=-1).astype(np.float64)
    return float(-np.log(np.maximum(truth, np.finfo(np.float32).tiny)).sum())


def _macro_f1(confusion: np.ndarray) -> float:
    claims, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    seen = (claims + actual) > 0  # a class that is neither there nor claimed has no F1
    return float(np.mean(2 * confusion.diagonal()[seen] / (claims + actual)[seen])) if seen.any() else 0.0


def _area_under_roc(scores: np.ndarray, targets: np.ndarray) -> float:
    """Mann and Whitney's form: how often a positive example scores over a negative one, ties counting half.

    One half where there are only examples of one kind.
    """
    positives = int(np.sum(targets))
    negatives = len(targets) - positives
    if not positives or not negatives:
        return 0.5
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[np.asarray(targets, bool)].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _divide(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
