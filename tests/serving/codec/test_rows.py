"""Rows of raw features: what they become, and the place of whatever is wrong."""

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import SignatureError
from bmp.transforms import Columns, Field
from serving.codec.rows import Features, holds_rows, to_columns

TABLE = Features((Field("age", "number"), Field("fare", "number"), Field("sex", "category")), frozenset(["age", "sex"]))
TEXT = Features((Field("review", "text"),), frozenset())
PHOTO = Features((Field("photo", "image"),), frozenset())
SOUND = Features((Field("clip", "audio"), Field("place", "category")), frozenset(["place"]))
TENSOR = Features((Field("pixels", "tensor", "float32", (2, 2)), Field("hour", "tensor", "int32")), frozenset())
PNG = {"b64": base64.b64encode(b"\x89PNG").decode()}


def read(features: Features, *rows: Any) -> Columns:
    return to_columns(orjson.loads(orjson.dumps(rows)), features, "instances")


def test_a_table() -> None:
    columns = read(TABLE, {"age": 22, "fare": 7.25, "sex": "male"}, {"sex": "female", "fare": 71, "age": 38.5})
    assert {name: column.tolist() for name, column in columns.items()} == {
        "age": [22, 38.5],
        "fare": [7.25, 71],
        "sex": ["male", "female"],
    }
    assert [columns[name].dtype for name in ("age", "fare", "sex")] == [np.float32, np.float32, object]


@pytest.mark.parametrize("row", [{"fare": 1}, {"fare": 1, "age": None, "sex": None}, {"fare": 1, "sex": ""}])
def test_what_may_be_missing_is_absent_or_null(row: dict[str, Any]) -> None:
    columns = read(TABLE, row)
    assert np.isnan(columns["age"]).all() and columns["age"].dtype == np.float32
    assert columns["sex"].tolist() == [""]


def test_one_text_needs_no_name() -> None:
    for row in ("a text", {"review": "a text"}):
        assert read(TEXT, row)["review"].tolist() == ["a text"]
    assert read(TEXT, "", "ü\0", {"review": "x"})["review"].tolist() == ["", "ü\0", "x"]


def test_one_file_needs_no_name() -> None:
    for row in (PNG, {"photo": PNG}):
        assert read(PHOTO, row)["photo"].tolist() == [b"\x89PNG"]
    assert read(SOUND, {"clip": PNG})["clip"].tolist() == [b"\x89PNG"]
    named_b64 = Features((Field("b64", "image"),), frozenset())
    for row in (PNG, {"b64": PNG}):
        assert read(named_b64, row)["b64"].tolist() == [b"\x89PNG"]


def test_tensors_among_the_features() -> None:
    columns = read(TENSOR, {"pixels": [[1, 2], [3, 4]], "hour": 5}, {"pixels": [[0, 0], [0, 0.5]], "hour": -1})
    assert columns["pixels"].tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 0.5]]]
    assert columns["hour"].tolist() == [5, -1]
    assert [columns[name].dtype for name in ("pixels", "hour")] == [np.float32, np.int32]


GOOD = {"age": 1, "fare": 2, "sex": "male"}
PIXELS = {"pixels": [[1, 2], [3, 4]], "hour": 1}
BAD: dict[str, tuple[Features, list[Any], str]] = {
    "a string for a number": (TABLE, [GOOD, {**GOOD, "age": "22"}], "instances[1].age is a string; expected a number"),
    "a boolean for a number": (TABLE, [{**GOOD, "fare": True}], "instances[0].fare is a boolean; expected a number"),
    "a list for a number": (TABLE, [{**GOOD, "fare": [1]}], "instances[0].fare is an array; expected a number"),
    "a number for a category": (TABLE, [{**GOOD, "sex": 1}], "instances[0].sex is a number; expected a string"),
    "a number too big": (TABLE, [{**GOOD, "fare": 1e39}], "instances[0].fare holds a number that float32"),
    "a missing number": (TABLE, [GOOD, {"age": 1}], "instances[1].fare is missing; expected a number"),
    "a null number": (TABLE, [{**GOOD, "fare": None}], "instances[0].fare is null; expected a number"),
    "an empty row": (TABLE, [{}], "instances[0].fare is missing"),
    "an unknown name": (TABLE, [GOOD, {**GOOD, "aeg": 1}], "instances[1] has the unknown feature 'aeg'"),
    "a guess": (TABLE, [{"agee": 1}], "Features: age, fare, sex. Did you mean 'age'?"),
    "a list for a row": (
        TABLE,
        [GOOD, [1, 2, "x"]],
        "instances[1] is an array; expected an object with age, fare, sex",
    ),
    "a string for a row": (TABLE, ["male"], "instances[0] is a string; expected an object with age, fare, sex"),
    "a null row": (TEXT, ["a", None], "instances[1] is null; expected an object with review or a string"),
    "a number for a text": (TEXT, ["a", 1], "instances[1] is a number; expected an object with review or a string"),
    "a number for a named text": (TEXT, [{"review": 1}], "instances[0].review is a number; expected a string"),
    "a null text": (TEXT, [{"review": None}], "instances[0].review is null; expected a string"),
    "no text": (TEXT, [{}], "instances[0].review is missing; expected a string"),
    "a string for an image": (PHOTO, ["iVBORw=="], "instances[0] is a string; expected an object with photo"),
    "a string for a named image": (
        PHOTO,
        [{"photo": "iV=="}],
        'instances[0].photo is a string; expected an object {"b64"',
    ),
    "an object for an image": (
        PHOTO,
        [{"photo": {"b63": ""}}],
        'instances[0].photo is an object; expected an object {"b64"',
    ),
    "no base64": (PHOTO, [{"photo": {"b64": "?"}}], "instances[0].photo is not valid base64"),
    "no base64, alone": (PHOTO, [PNG, {"b64": "abc"}], "instances[1].photo is not valid base64"),
    "base64 beyond ASCII": (PHOTO, [{"b64": "é"}], "instances[0].photo is not valid base64"),
    "base64 of another alphabet": (PHOTO, [{"b64": "_-__"}], "instances[0].photo is not valid base64"),
    "base64 in lines": (PHOTO, [{"b64": "iVBO\nRw=="}], "instances[0].photo is not valid base64"),
    "a missing sound": (SOUND, [{"place": "here"}], 'instances[0].clip is missing; expected an object {"b64"'),
    "a sound alone among features": (SOUND, [PNG], "instances[0] has the unknown feature 'b64'"),
    "a missing tensor": (TENSOR, [{"hour": 1}], "instances[0].pixels is missing; expected float32 (2, 2)"),
    "a null tensor": (TENSOR, [{**PIXELS, "pixels": None}], "instances[0].pixels is null; expected float32 (2, 2)"),
    "a number for a tensor": (TENSOR, [{**PIXELS, "pixels": 1}], "instances[0].pixels is a number; expected float32"),
    "a string in a tensor": (
        TENSOR,
        [PIXELS, {**PIXELS, "pixels": [[1, 2], [3, "4"]]}],
        "instances[1].pixels[1][1] is a string",
    ),
    "a ragged tensor": (TENSOR, [{**PIXELS, "pixels": [[1, 2], [3]]}], "instances[0].pixels[1] has 1 elements"),
    "a wide tensor": (
        TENSOR,
        [{**PIXELS, "pixels": [[1, 2, 3]] * 2}],
        "instances[0].pixels has shape (2, 3); expected",
    ),
    "a flat tensor": (TENSOR, [{**PIXELS, "pixels": [1, 2]}], "instances[0].pixels has shape (2,); expected"),
    "an empty tensor": (TENSOR, [{**PIXELS, "pixels": []}], "instances[0].pixels has shape (0,); expected"),
    "a fraction in whole numbers": (TENSOR, [{**PIXELS, "hour": 1.5}], "expected a whole number"),
    "a list for one whole number": (TENSOR, [{**PIXELS, "hour": [1]}], "instances[0].hour"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_with_its_place(name: str) -> None:
    features, rows, says = BAD[name]
    with pytest.raises(SignatureError) as raised:
        read(features, *rows)
    assert says in raised.value.message and len(raised.value.message) < 400
    assert raised.value.expected and raised.value.received


@pytest.mark.parametrize(
    ("inputs", "is_raw"),
    [
        ([{"age": 1}], True),
        (["a"], True),
        ([None, {"age": 1}], True),
        ([[1, 2], {"age": 1}], True),
        ([[1, 2]], False),
        ([1, 2], False),
        ([], False),
        ([None], False),
        (None, False),
        (1, False),
        ({"features": [[1, 2]]}, False),
        ({}, False),
    ],
)
def test_objects_and_strings_are_raw(inputs: Any, is_raw: bool) -> None:
    assert holds_rows(inputs, TABLE, ["features"], "instances") is is_raw


@pytest.mark.parametrize("inputs", ["a text", {"age": 1, "fare": 2}, {"age": [1, 2]}])
def test_one_example_outside_a_list_is_refused(inputs: Any) -> None:
    with pytest.raises(SignatureError, match="expected a list, with one element for each example"):
        holds_rows(inputs, TABLE, ["features"], "instances")


def test_an_input_that_is_named_as_a_feature_stays_a_tensor() -> None:
    assert not holds_rows({"pixels": [[1]]}, TENSOR, ["pixels"], "instances")


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=3)
    | st.just([1])
    | st.just(PNG)
)
rows_of_anything = st.lists(
    values | st.dictionaries(st.sampled_from(["age", "fare", "sex", "review", "photo", "b64"]), values, max_size=4),
    min_size=1,
    max_size=3,
)


@given(rows=rows_of_anything, features=st.sampled_from([TABLE, TEXT, PHOTO, SOUND, TENSOR]))
def test_any_rows_end_in_columns_or_in_an_error_with_a_place(rows: list[Any], features: Features) -> None:
    try:
        columns = to_columns(rows, features, "instances")
    except SignatureError as error:
        assert error.message.startswith("instances[")
        return
    assert list(columns) == [field.name for field in features.fields]
    for column in columns.values():
        assert len(column) == len(rows)
        assert column.dtype == object or not np.isinf(column).any()
