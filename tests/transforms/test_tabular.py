import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import to_column

from bmp.errors import ConfigError, DataError
from bmp.transforms import Field, Preprocessing, build_steps

AGE, FARE, SEX, NOTE = Field("age", "number"), Field("fare", "number"), Field("sex", "category"), Field("note", "text")
GRID = Field("grid", "tensor", "float32", (2,))


def fit(steps, fields, **columns):
    return Preprocessing(fields, build_steps(steps, fields)).fit(lambda: iter([columns]))


def numbers(*values):
    return np.array(values, np.float32)


def test_standardise_gives_mean_0_and_deviation_1():
    column = np.random.default_rng(0).normal(1000, 3, 500).astype(np.float32)
    out = fit([{"kind": "standardise", "fields": ["age"]}], (AGE,), age=column).run({"age": column})["age"]
    assert out.dtype == np.float32
    assert out.mean() == pytest.approx(0, abs=1e-6)
    assert out.std() == pytest.approx(1, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(value=st.floats(-(2.0**100), 2.0**100, width=32), count=st.integers(1, 7))
def test_a_constant_is_divided_by_1(value, count):
    column = np.full(count, value, np.float32)
    for kind in ("standardise", "min_max"):
        out = fit([{"kind": kind, "fields": ["age"]}], (AGE,), age=column).run({"age": column})["age"]
        assert np.abs(out).max() <= abs(value) * 1e-6


def test_min_max_brings_the_training_range_to_0_to_1_and_lets_later_values_lie_outside():
    fitted = fit([{"kind": "min_max", "fields": ["age"]}], (AGE,), age=numbers(10, 30, 20))
    np.testing.assert_array_equal(fitted.run({"age": numbers(10, 20, 30, 40, 0)})["age"], [0, 0.5, 1, 1.5, -0.5])


@pytest.mark.parametrize(
    ("value", "expected"), [("mean", 3.0), ("median", 2.0), ("most_frequent", 1.0), (-7, -7.0), (0.5, 0.5)]
)
def test_fill_puts_in_what_was_asked_for(value, expected):
    step = {"kind": "fill", "fields": ["age"], "value": value}
    fitted = fit([step], (AGE,), age=numbers(1, np.nan, 9, 1, 2, 2))
    np.testing.assert_array_equal(fitted.run({"age": numbers(np.nan, 5)})["age"], numbers(expected, 5))


def test_fill_of_categories_and_texts():
    step = {"kind": "fill", "fields": ["sex"], "value": "most_frequent"}
    hot = {"kind": "one_hot", "fields": ["sex"]}
    fitted = fit([step, hot], (SEX,), sex=to_column(["", "", "", "m", "f", "m"]))
    np.testing.assert_array_equal(fitted.run({"sex": to_column(["", "f"])})["sex"], [[0, 1, 0], [0, 0, 1]])
    (step,) = fit(
        [
            {"kind": "fill", "fields": ["note"], "value": "none"},
            {"kind": "tokenize", "field": "note", "tokenizer": "bytes", "length": 4},
        ],
        (NOTE,),
    ).steps[:1]
    assert step.run({"note": to_column(["", "a"])})["note"].tolist() == ["none", "a"]


@pytest.mark.parametrize(
    ("field", "value", "choices"),
    [
        (AGE, "nothing", "mean, median, most_frequent, a number"),
        (SEX, "mean", "most_frequent, a text"),
        (SEX, 3, "most_frequent, a text"),
        (NOTE, "most_frequent", "a text"),
        (GRID, "median", "mean, a number"),
    ],
)
def test_fill_says_what_a_feature_takes(field, value, choices):
    with pytest.raises(ConfigError, match=f"into '{field.name}'.*expected {choices}"):
        build_steps([{"kind": "fill", "fields": [field.name], "value": value}], (field,))


@pytest.mark.parametrize("kind", ["standardise", "min_max", "fill"])
def test_a_feature_without_a_value_or_with_infinity_is_refused(kind):
    step = {"kind": kind, "fields": ["age", "fare"]}
    with pytest.raises(DataError, match=r"'fare' has no value in the training split"):
        fit([step], (AGE, FARE), age=numbers(1, 2), fare=numbers(np.nan, np.nan))
    with pytest.raises(DataError, match=r"'fare' holds infinity"):
        fit([step], (AGE, FARE), age=numbers(1, 2), fare=numbers(np.inf, 3))


@pytest.mark.parametrize("value", ["median", "most_frequent"])
def test_the_other_fills_refuse_a_feature_without_a_value(value):
    with pytest.raises(DataError, match=r"'age' has no value in the training split"):
        fit([{"kind": "fill", "fields": ["age"], "value": value}], (AGE,), age=numbers(np.nan))


def test_a_missing_number_that_nothing_fills_is_refused_with_its_place():
    fitted = fit([{"kind": "standardise", "fields": ["age"]}], (AGE,), age=numbers(1, 2))
    with pytest.raises(DataError, match=r"'age' of example 1 holds NaN"):
        fitted.run({"age": numbers(1, np.nan)})


def test_one_hot_and_vocabulary_keep_the_most_frequent_and_know_the_unknown():
    column = to_column(["b", "a", "c", "c", "", "b"])
    hot = fit([{"kind": "one_hot", "fields": ["sex"], "max_size": 2}], (SEX,), sex=column)
    asked = {"sex": to_column(["b", "c", "a", "", "new"])}
    np.testing.assert_array_equal(hot.run(asked)["sex"], [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]])
    looked_up = fit([{"kind": "vocabulary", "fields": ["sex"]}], (SEX,), sex=column)
    np.testing.assert_array_equal(looked_up.run(asked)["sex"], [1, 2, 3, 0, 0])
    assert looked_up.outputs[0].vocabulary == 4
    with pytest.raises(DataError, match="'sex' has no value"):
        fit([{"kind": "one_hot", "fields": ["sex"]}], (SEX,), sex=to_column(["", ""]))


def test_join_puts_features_one_after_the_other_and_guards_its_name():
    steps = [{"kind": "join", "fields": ["grid", "age"]}]
    out = fit(steps, (AGE, FARE, GRID)).run({"age": numbers(1), "fare": numbers(2), "grid": numbers(3, 4)[None]})
    assert list(out) == ["fare", "features"]
    np.testing.assert_array_equal(out["features"], [[3, 4, 1]])
    with pytest.raises(ConfigError, match=r"set join\.name"):
        build_steps([{"kind": "join", "fields": ["age"], "name": "fare"}], (AGE, FARE))


@pytest.mark.parametrize("kind", ["join", "standardise"])
def test_indices_of_a_vocabulary_are_no_numbers(kind):
    steps = [{"kind": "vocabulary", "fields": ["sex"]}, {"kind": kind, "fields": ["sex"]}]
    with pytest.raises(ConfigError, match="vocabulary"):
        build_steps(steps, (SEX,))
