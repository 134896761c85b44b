import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.data.content import check_form, find_bad_features, find_bad_targets, hash_examples
from bmp.data.source import Target
from bmp.errors import DataError
from bmp.transforms import Field

NUMBER, CATEGORY, TEXT = Field("n", "number"), Field("c", "category"), Field("t", "text")
TENSOR = Field("x", "tensor", "float32", (2,))


def texts(*values):
    return np.array(values, object)


def hashed(columns, *fields) -> list[bytes]:
    hashes = hash_examples(columns, fields)
    assert hashes.dtype == np.uint8 and hashes.shape[1] == 16
    return [row.tobytes() for row in hashes]


ROWS = st.lists(st.tuples(st.floats(width=32), st.text(max_size=3), st.text(max_size=3)), min_size=1, max_size=20)


@given(ROWS)
def test_examples_have_the_same_hash_exactly_if_they_have_the_same_content(rows):
    columns = {
        "n": np.array([row[0] for row in rows], np.float32),
        "c": texts(*(row[1] for row in rows)),
        "t": texts(*(row[2] for row in rows)),
    }
    contents = [("nan" if row[0] != row[0] else row[0] + 0.0, row[1], row[2]) for row in rows]
    hashes = hashed(columns, NUMBER, CATEGORY, TEXT)
    assert [hashes.index(found) for found in hashes] == [contents.index(found) for found in contents]


def test_the_order_of_features_and_the_place_in_memory_mean_nothing():
    array = np.arange(8, dtype=np.float32).reshape(4, 2)
    columns = {"x": array, "n": np.arange(4, dtype=np.float32)}
    turned = {"n": columns["n"], "x": np.asfortranarray(array)}
    assert hashed(columns, NUMBER, TENSOR) == hashed(turned, TENSOR, NUMBER)


def test_the_batch_means_nothing():
    columns = {"x": np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)}
    parts = [hashed({"x": columns["x"][part]}, TENSOR) for part in (slice(4), slice(4, 9))]
    assert hashed(columns, TENSOR) == parts[0] + parts[1]


def test_a_hash_is_the_same_for_ever():
    columns = {"n": np.array([1.5], np.float32), "c": texts("é")}
    assert hashed(columns, NUMBER, CATEGORY)[0].hex() == "da022c4b85b75d55fa241bb24d6bc413"


def test_the_border_between_two_texts_counts():
    one, two = texts("ab", "a"), texts("c", "bc")
    assert len(set(hashed({"c": one, "t": two}, CATEGORY, TEXT))) == 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"y": np.zeros((3, 2), np.float32)}, "gave the features y; its fields are x"),
        ({"x": np.zeros((3, 2))}, "'x' as float64"),
        ({"x": np.zeros((2, 2), np.float32)}, r"\(2, 2\); expected float32 \(3, 2\)"),
        ({"x": np.zeros((3, 1), np.float32)}, r"\(3, 1\); expected"),
    ],
)
def test_a_source_that_breaks_its_promise_is_told(columns, message):
    with pytest.raises(DataError, match=message):
        check_form(columns, [TENSOR], 3)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_is_bad_filled_or_not(value):
    column = np.array([0, value], np.float32)
    for filled in (frozenset(), frozenset({"n"})):
        assert find_bad_features({"n": column}, [NUMBER], filled) == {1: f"'n' holds {value}; expected finite numbers"}


def test_a_missing_number_is_bad_unless_it_is_filled():
    column = {"n": np.array([np.nan, 1], np.float32)}
    assert find_bad_features(column, [NUMBER], frozenset()) == {0: "'n' is missing, and no transform fills it in"}
    assert find_bad_features(column, [NUMBER], frozenset({"n"})) == {}


def test_a_tensor_with_nan_is_bad():
    columns = {"x": np.array([[1, 2], [np.nan, 2]], np.float32)}
    assert find_bad_features(columns, [TENSOR], frozenset()) == {1: "'x' holds nan; expected finite numbers"}


def test_a_token_outside_the_vocabulary_is_bad():
    field = Field("x", "tensor", "int32", (2,), 5)
    columns = {"x": np.array([[0, 4], [5, 0], [0, -1]], np.int32)}
    assert find_bad_features(columns, [field], frozenset()) == {
        1: "'x' holds 5; expected 0 to 4",
        2: "'x' holds -1; expected 0 to 4",
    }


def test_an_empty_text_is_bad_and_a_missing_category_is_not():
    columns = {"t": texts("a", " \n"), "c": texts("", "")}
    assert find_bad_features(columns, [TEXT, CATEGORY], frozenset()) == {1: "the text is empty"}


def test_whole_numbers_and_truth_values_are_finite():
    for dtype in ("uint8", "int64", "bool"):
        field = Field("x", "tensor", dtype, (2,))
        assert find_bad_features({"x": np.ones((2, 2), dtype)}, [field], frozenset()) == {}


@pytest.mark.parametrize(
    ("target", "values", "bad"),
    [
        (Target("class", ("a", "b")), np.array([0, 1, 2]), {2: "2; expected 0 to 1"}),
        (Target("class", ("a", "b")), np.array([-1, 1]), {0: "-1; expected 0 to 1"}),
        (Target("number"), np.array([[0], [np.nan]], np.float32), {1: "nan; expected finite numbers"}),
        (Target("multilabel", ("a", "b"), 2), np.array([[0, 0.5]], np.float32), {0: "0.5; expected 0 or 1"}),
        (Target("tokens", ("a", "b"), 2), np.array([[0, 1], [1, 2]], np.int32), {1: "2; expected 0 to 1"}),
    ],
)
def test_bad_targets_are_found(target, values, bad):
    found = find_bad_targets(values, target)
    assert found.keys() == bad.keys()
    assert all(bad[number] in reason for number, reason in found.items())


@pytest.mark.parametrize(
    ("target", "values"),
    [
        (Target("class", ("a",)), np.array([0.0])),
        (Target("class", ("a",)), np.array([[0]])),
        (Target("number", (), 2), np.zeros((3, 1), np.float32)),
        (Target("multilabel", ("a", "b"), 2), np.zeros(2, np.float32)),
    ],
)
def test_targets_of_another_form_are_a_mistake_of_the_source(target, values):
    with pytest.raises(DataError, match="The source gave targets as"):
        find_bad_targets(values, target)
