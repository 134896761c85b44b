import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import ArtifactError, RequestError
from bmp.transforms.labels import describe, last_tokens, next_tokens, pick_labels, rank_binary, read_values, top_k

THREE = ("cat", "dog", "owl")


def test_top_k_ranks_and_breaks_ties_by_index():
    probabilities = np.array([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]], np.float32)
    assert top_k(probabilities, THREE, 2) == [[("dog", 0.5), ("cat", 0.25)], [("owl", 1.0), ("cat", 0.0)]]
    assert [len(row) for row in top_k(probabilities, THREE, 99)] == [3, 3]
    assert top_k(probabilities, (), 1) == [[("1", 0.5)], [("2", 1.0)]]


@given(seed=st.integers(0, 999), k=st.integers(1, 12))
def test_top_k_is_the_sorted_row(seed, k):
    row = np.random.default_rng(seed).random(10).astype(np.float32)
    (ranked,) = top_k(row[None], [str(i) for i in range(10)], k)
    assert [share for _, share in ranked] == sorted(row.tolist(), reverse=True)[:k]
    assert all(row[int(label)] == np.float32(share) for label, share in ranked)


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_at_least_1(k):
    with pytest.raises(RequestError, match=f"top_k is {k}"):
        top_k(np.ones((1, 3)), THREE, k)


def test_binary_ranks_both_labels():
    assert rank_binary(np.array([[0.75], [0.25]], np.float32), ("no", "yes")) == [
        [("yes", 0.75), ("no", 0.25)],
        [("no", 0.75), ("yes", 0.25)],
    ]


def test_multilabel_picks_what_applies():
    probabilities = np.array([[0.5, 0.25, 0.75], [0.1, 0.2, 0.3]], np.float32)
    assert pick_labels(probabilities, THREE) == [[("owl", 0.75), ("cat", 0.5)], []]
    assert [len(row) for row in pick_labels(probabilities, THREE, 0.0)] == [3, 3]


def test_next_tokens_follow_the_last_token_before_the_padding():
    tokens = np.array([[5, 6, 0, 0], [5, 6, 7, 8], [0, 0, 0, 0], [5, 0, 6, 0]])
    positions = last_tokens(tokens)
    assert positions.tolist() == [1, 3, 0, 2]
    probabilities = np.zeros((4, 4, 3), np.float32)
    probabilities[np.arange(4), positions, [0, 1, 2, 0]] = 1
    assert [row[0] for row in next_tokens(probabilities, THREE, 1, positions)] == [
        ("cat", 1.0),
        ("dog", 1.0),
        ("owl", 1.0),
        ("cat", 1.0),
    ]
    assert next_tokens(probabilities, THREE, 1)[1] == [("dog", 1.0)]


def test_an_output_is_described_by_its_objective():
    row = np.array([[0.5, 0.25, 0.75]], np.float32)
    assert describe("multiclass", row, THREE, 1) == [[("owl", 0.75)]]
    assert describe("multilabel", row, THREE, 1) == [[("owl", 0.75)]]
    assert describe("binary", row[:, :1], ("no", "yes"), 2) == [[("no", 0.5), ("yes", 0.5)]]
    assert describe("next_token", row[:, None], THREE, 1) == [[("owl", 0.75)]]
    assert describe("regression", row, (), 5) == read_values(row) == [[0.5, 0.25, 0.75]]
    with pytest.raises(ArtifactError, match="'magic'"):
        describe("magic", row, THREE, 1)
