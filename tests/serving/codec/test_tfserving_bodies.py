"""TensorFlow Serving's bodies: both ways in have one verdict, and any value ends in a request or an error of ours."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmp.errors import BmpError, RequestError
from bmp.signature import Signature, TensorSpec
from bmp.transforms import Field
from serving.codec.json import decode_rectangle
from serving.codec.rows import Features
from serving.codec.tfserving import (
    INPUT_KEYS,
    decode_examples,
    decode_predict,
    encode_classes,
    encode_outputs,
    encode_values,
    fold_examples,
)

SIGNATURE = Signature((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (1,)),))
TABLE = Features((Field("x", "number"), Field("s", "category")), frozenset("s"))

keys = st.sampled_from(["x", "s", "b64", "instances", "inputs", "examples", "context", "signature_name"])
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


def dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits
        return b'{"instances":[[1e400]]}'


@given(
    key=st.sampled_from(INPUT_KEYS),
    value=st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=3) | anything, max_size=3) | anything,
)
@example(key="inputs", value={"x": [[1, 2]]})
@example(key="instances", value=[{"x": [1, 2]}])
def test_fast_way_accepts_only_what_the_exact_way_accepts_and_reads_the_same(key: str, value: Any) -> None:
    body = dump({key: value})
    fast = decode_rectangle(body, SIGNATURE, INPUT_KEYS)
    try:
        arrays = decode_predict(body, None, ["x"]).to_arrays(SIGNATURE)
        SIGNATURE.check_inputs(arrays)
    except BmpError:
        assert fast is None
        return
    if fast is not None:
        assert fast.key == key
        np.testing.assert_array_equal(fast.arrays["x"], arrays["x"], strict=True)


@given(body=st.dictionaries(keys, anything, max_size=3).map(dump) | st.binary(max_size=40))
@example(body=b'{"inputs":{"x":[1,2],"s":["a"]}}')
@example(body=b'{"examples":[{"x":[1,[2]]}],"context":{"x":3}}')
def test_any_body_ends_in_a_request_or_in_an_error_of_ours(body: bytes) -> None:
    for read in (
        lambda: decode_predict(body, TABLE, ["joined"]),
        lambda: fold_examples(decode_examples(body, 1000), {"x": (2, 3), "s": ()}),
    ):
        try:
            read()
        except BmpError as error:
            assert len(error.message) < 500


def test_a_context_is_no_way_around_the_limit_of_bodies() -> None:
    context = {"x": [1] * 400}
    (row,) = decode_examples(dump({"examples": [{"s": "a"}], "context": context}), 1000)
    assert row == {"x": [1] * 400, "s": "a"}
    with pytest.raises(RequestError, match="at most 1,000"):
        decode_examples(dump({"examples": [{}, {}], "context": context}), 1000)
    assert len(decode_examples(dump({"examples": [{}] * 600, "context": {}}), 1000)) == 600
    deep = b'{"examples":[{}],"context":{"x":' + b"[" * 900 + b"]" * 900 + b"}}"
    assert len(decode_examples(deep, 10_000)) == 1


def test_columns_of_features_become_rows_and_tensors_do_not() -> None:
    for columns in ({"x": [1, 2], "s": ["a", None]}, {"s": ["a"]}, {"x": [1, 2]}, {"nothing": ["a"]}):
        sizes = len(next(iter(columns.values())))
        inputs = decode_predict(dump({"inputs": columns}), TABLE, ["joined"]).inputs
        assert inputs == [{name: column[row] for name, column in columns.items()} for row in range(sizes)]
    for ready in ({"joined": [[1, 2]]}, {"x": [[1]], "s": [[0.5]]}, {"x": [1], "s": [2]}):
        assert decode_predict(dump({"inputs": ready}), TABLE, ["joined", "x", "s"]).inputs == ready


@given(array=hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=5, max_side=4)))
def test_flat_and_nested_examples_are_the_same(array: np.ndarray) -> None:
    shapes = {"x": array.shape[1:]}
    nested, flat = ([{"x": row.tolist()} for row in rows] for rows in (array, array.reshape(len(array), -1)))
    assert fold_examples(nested, shapes) == fold_examples(flat, shapes)
    assert [row["x"] for row in fold_examples(flat, shapes).inputs] == array.tolist()


def test_what_cannot_be_folded_stays_for_the_signature_to_refuse() -> None:
    for shape in ((2, 3), (2, None), (None,), (0,), (2, 0), ()):
        for value in ([1, 2, 3, 4, 5], [[1, 2], [3]], [1, [2]], [], None, "a", {"b64": "YQ=="}):
            (row,) = fold_examples([{"x": value, "y": value}], {"x": shape}).inputs
            assert row["y"] == value
            assert row["x"] in (value, [value])


@given(hnp.arrays(np.float32, (3, 2), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_what_goes_out_comes_back(array: np.ndarray) -> None:
    several = {"p": array, "q": array[:, 0].copy()}
    for key, answer in (("instances", "predictions"), ("inputs", "outputs")):
        sole = orjson.loads(encode_outputs({"y": array}, key))
        assert list(sole) == [answer]
        np.testing.assert_array_equal(np.array(sole[answer], np.float32), array)
    columns = orjson.loads(encode_outputs(several, "inputs"))["outputs"]
    rows = orjson.loads(encode_outputs(several, "instances"))["predictions"]
    for name, wanted in several.items():
        np.testing.assert_array_equal(np.array(columns[name], np.float32), wanted)
        np.testing.assert_array_equal(np.array([row[name] for row in rows], np.float32), wanted)
    results = orjson.loads(encode_values(array[:, 0].copy()))["results"]
    np.testing.assert_array_equal(np.array(results, np.float32), array[:, 0])


def test_scores_read_as_in_a_prediction() -> None:
    ranked = [[("yes", float(np.float32(0.7))), ("no", float(np.float32(0.3)))]]
    assert encode_classes(ranked) == b'{"results":[[["yes",0.7],["no",0.3]]]}'
