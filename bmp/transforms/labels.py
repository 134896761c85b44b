"""What a model returns, in words: labels with their probabilities, values, the most likely next tokens."""

from collections.abc import Sequence

import numpy as np

from bmp.errors import ArtifactError, RequestError
from bmp.transforms.tokens import PADDING

Ranked = list[tuple[str, float]]
"""Labels with their probabilities, the most likely first."""


def top_k(probabilities: np.ndarray, labels: Sequence[str], k: int) -> list[Ranked]:
    """Returns the `k` most likely labels of each example, or all where there are fewer.

    Args:
        probabilities: `(B, C)`; equal ones stand in the order of their indices.
        labels: Of each index; empty uses the indices themselves.
        k: At least 1.

    Raises:
        RequestError: `k` is less than 1.
    """
    if k < 1:
        raise RequestError(
            f"top_k is {k}; expected a whole number of 1 or more.", expected="1 or more", received=str(k)
        )
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]  # (B, k)
    return [
        [(_name(labels, index), float(row[index])) for index in best]
        for row, best in zip(probabilities, order.tolist(), strict=True)
    ]


def rank_binary(probability: np.ndarray, labels: Sequence[str], k: int = 2) -> list[Ranked]:
    """Returns both labels of each example, the more likely first.

    Args:
        probability: `(B, 1)`, of the second label.
        labels: Two.
        k: 1 leaves the less likely one out.

    Raises:
        RequestError: `k` is less than 1.
    """
    return top_k(np.concatenate([1 - probability, probability], axis=1), labels, k)


def pick_labels(probabilities: np.ndarray, labels: Sequence[str], threshold: float = 0.5) -> list[Ranked]:
    """Returns the labels of each example that apply, by falling probability; there may be none.

    Args:
        probabilities: `(B, L)`, each label's own.
        labels: Of each index.
        threshold: Least probability of a label that applies.
    """
    ranked = top_k(probabilities, labels, max(1, probabilities.shape[1]))
    return [[(label, share) for label, share in row if share >= threshold] for row in ranked]


def last_tokens(tokens: np.ndarray) -> np.ndarray:
    """Returns the position of the last token of each example before its padding, int64 `(B,)`; 0 of an empty one.

    Args:
        tokens: int32 `(B, T)`, padded at the end.
    """
    lengths = tokens.shape[1] - np.argmax(tokens[:, ::-1] != PADDING, axis=1)
    return np.where((tokens != PADDING).any(axis=1), lengths - 1, 0)


def next_tokens(
    probabilities: np.ndarray, labels: Sequence[str], k: int, positions: np.ndarray | None = None
) -> list[Ranked]:
    """Returns the most likely tokens after the text of each example.

    Args:
        probabilities: `(B, T, V)`, of the token after each token.
        labels: The text of each token.
        k: How many, at least 1.
        positions: int64 `(B,)`, of the last token of each example, from `last_tokens`; None is the end.

    Raises:
        RequestError: `k` is less than 1.
    """
    if positions is None:
        return top_k(probabilities[:, -1], labels, k)
    return top_k(probabilities[np.arange(len(positions)), positions], labels, k)


def read_values(values: np.ndarray) -> list[list[float]]:
    """Returns the numbers that a regression found, `(B, W)`, as they are."""
    return [[float(number) for number in row] for row in values]


def describe(
    objective: str, output: np.ndarray, labels: Sequence[str], k: int, positions: np.ndarray | None = None
) -> list[Ranked] | list[list[float]]:
    """Returns what a model's only output says of each example, by its objective.

    Args:
        objective: `multiclass`, `binary`, `multilabel`, `next_token` or `regression`.
        output: `(B, …)`.
        labels: Of each index; empty for a regression.
        k: Labels of an example at most.
        positions: For `next_token`, see `next_tokens`.

    Raises:
        ArtifactError: There is no such objective.
        RequestError: `k` is less than 1.
    """
    if objective == "multiclass":
        return top_k(output, labels, k)
    if objective == "binary":
        return rank_binary(output, labels, k)
    if objective == "multilabel":
        return [row[:k] for row in pick_labels(output, labels)]
    if objective == "next_token":
        return next_tokens(output, labels, k, positions)
    if objective == "regression":
        return read_values(output)
    raise ArtifactError(f"The model's objective is '{objective}', which this bmp does not know.")


def _name(labels: Sequence[str], index: int) -> str:
    return labels[index] if index < len(labels) else str(index)
