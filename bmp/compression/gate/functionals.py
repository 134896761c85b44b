"""Metrics as functions of means, so that a resample costs one multiplication of matrices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse

from bmp.compression.gate.record import Record

Rows: TypeAlias = "np.ndarray | sparse.csr_array"
"""What each example adds, `(N, K)`."""


@dataclass(frozen=True)
class Functional:
    """A metric as a function of what is averaged over the examples.

    Args:
        rows: A record to what each example adds, `(N, K)`.
        finish: Means `(..., K)` to the metric, `(...)`.
    """

    rows: Callable[[Record], Rows]
    finish: Callable[[np.ndarray], np.ndarray]

    def value(self, record: Record) -> float:
        """Returns the metric of a record."""
        return float(self.finish(np.asarray(self.rows(record).mean(axis=0))))


def is_hit(record: Record) -> np.ndarray:
    """Returns whether each example is right in all of its decisions, bool `(N,)`; of tokens the share, `(N,)`."""
    right = record.decisions == record.targets
    if record.kind == "tokens":
        return right.mean(axis=1)
    return right.reshape(len(right), -1).all(axis=1)


def log_losses(record: Record) -> np.ndarray:
    """Returns the loss of each example in nats, float64 `(N,)`; of tokens their mean."""
    assert record.truths is not None, f"{record.kind} has no classes"
    losses = -np.log(np.maximum(record.truths.astype(np.float64), np.finfo(np.float32).tiny))
    return losses.reshape(len(losses), -1).mean(axis=1)


def absolute_errors(record: Record) -> np.ndarray:
    """Returns the mean absolute error of each example over its numbers, float64 `(N,)`."""
    return np.abs(record.answers.astype(np.float64) - record.targets).mean(axis=1)


def _column(values: Callable[[Record], np.ndarray]) -> Callable[[Record], Rows]:
    return lambda record: values(record).astype(np.float64)[:, None]


def _only(means: np.ndarray) -> np.ndarray:
    return means[..., 0]


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def _class_rows(record: Record) -> Rows:
    """Returns hits, claims and cases of each class, sparse `(N, 3 C)`."""
    count, classes = len(record), len(record.labels)
    examples, decided, true = np.arange(count), record.decisions, record.targets
    hit = decided == true
    row = np.concatenate([examples[hit], examples, examples])
    column = np.concatenate([true[hit], classes + decided, 2 * classes + true])
    return sparse.csr_array((np.ones(len(row)), (row, column)), shape=(count, 3 * classes))


def _label_rows(record: Record) -> Rows:
    """Returns hits, claims and cases of each label, `(N, 3 L)`; binary has one label, its second class."""
    decided = record.decisions.reshape(len(record), -1) > 0
    true = record.targets.reshape(len(record), -1) > 0.5
    return np.concatenate([decided & true, decided, true], axis=1).astype(np.float64)


def _pooled_rows(record: Record) -> Rows:
    rows = np.asarray(_label_rows(record))
    return rows.reshape(len(rows), 3, -1).sum(axis=2)


def _f1(means: np.ndarray) -> np.ndarray:
    """Returns F1 of each class or label, `(..., C)`."""
    hits, claims, cases = np.split(means, 3, axis=-1)
    return _divide(2 * hits, claims + cases)


def _seen_f1(means: np.ndarray) -> np.ndarray:
    _, claims, cases = np.split(means, 3, axis=-1)
    seen = (claims + cases) > 0  # a class that is neither there nor claimed has no F1
    return _divide(_f1(means).sum(axis=-1), seen.sum(axis=-1))


def _error_rows(record: Record) -> Rows:
    """Returns centred targets, their squares and squared errors, `(N, 3 W)`."""
    truth = record.targets.astype(np.float64)
    centred = truth - truth.mean(axis=0)  # sums about the mean do not cancel
    return np.concatenate([centred, centred**2, (record.answers.astype(np.float64) - truth) ** 2], axis=1)


def _r2(means: np.ndarray) -> np.ndarray:
    centre, squares, errors = np.split(means, 3, axis=-1)
    spread = squares - centre**2
    # R² of a constant target is 0.
    return np.where(spread > 0, 1 - errors / np.where(spread > 0, spread, 1), 0.0).mean(axis=-1)


def _rmse(means: np.ndarray) -> np.ndarray:
    return np.sqrt(np.split(means, 3, axis=-1)[2]).mean(axis=-1)


_ACCURACY = Functional(_column(is_hit), _only)
_LOG_LOSS = Functional(_column(log_losses), _only)

FUNCTIONALS: dict[tuple[str, str], Functional] = {
    ("multiclass", "accuracy"): _ACCURACY,
    ("multiclass", "top_5"): Functional(_column(lambda record: np.asarray(record.in_top)), _only),
    ("multiclass", "f1"): Functional(_class_rows, _seen_f1),
    ("multiclass", "log_loss"): _LOG_LOSS,
    ("binary", "accuracy"): _ACCURACY,
    ("binary", "f1"): Functional(_label_rows, lambda means: _f1(means)[..., 0]),
    ("binary", "precision"): Functional(_label_rows, lambda means: _divide(means[..., 0], means[..., 1])),
    ("binary", "recall"): Functional(_label_rows, lambda means: _divide(means[..., 0], means[..., 2])),
    ("binary", "log_loss"): _LOG_LOSS,
    ("multilabel", "exact_match"): _ACCURACY,
    ("multilabel", "f1"): Functional(_pooled_rows, lambda means: _f1(means)[..., 0]),
    ("multilabel", "f1_macro"): Functional(_label_rows, lambda means: _f1(means).mean(axis=-1)),
    ("number", "r2"): Functional(_error_rows, _r2),
    ("number", "rmse"): Functional(_error_rows, _rmse),
    ("number", "mae"): Functional(_column(absolute_errors), _only),
    ("tokens", "accuracy"): _ACCURACY,
    ("tokens", "loss"): _LOG_LOSS,
    ("tokens", "probability"): Functional(_column(log_losses), lambda means: np.exp(-means[..., 0])),
    ("tokens", "perplexity"): Functional(_column(log_losses), lambda means: np.exp(means[..., 0])),
}
"""By kind of answer and name of the metric; the area under the ROC curve is no such function, see `roc`."""
