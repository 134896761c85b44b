import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.errors import ArtifactError, SignatureError
from bmp.signature import Signature, TensorSpec

IMAGE = TensorSpec("image", "float32", (8, None))
MASK = TensorSpec("mask", "int64", ())
SCORES = TensorSpec("scores", "float32", (10,))
SIGNATURE = Signature((IMAGE, MASK), (SCORES,))

SPECS = st.builds(
    TensorSpec,
    name=st.text(),
    dtype=st.sampled_from(["float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool", "complex64"]),
    shape=st.lists(st.none() | st.integers(0, 5), max_size=4).map(tuple),
)
SIGNATURES = st.builds(Signature, *[st.lists(SPECS, max_size=3).map(tuple)] * 2)


@given(SIGNATURES)
def test_survives_json(signature):
    assert Signature.from_dict(json.loads(json.dumps(signature.to_dict()))) == signature


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"inputs": []},
        {"inputs": [], "output": []},
        {"inputs": None, "outputs": []},
        {"inputs": 5, "outputs": []},
        {"inputs": [5], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float32"}], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float31", "shape": []}], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1]}], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [1.0]}], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": [True]}], "outputs": []},
        {"inputs": [{"name": "x", "dtype": "float32", "shape": "12"}], "outputs": []},
    ],
)
def test_refuses_json_that_is_no_signature(data):
    with pytest.raises(ArtifactError):
        Signature.from_dict(data)


def test_refuses_an_unknown_dtype():
    with pytest.raises(SignatureError, match="unknown dtype 'float31'"):
        TensorSpec("x", "float31", ())


def test_reads_like_a_shape():
    assert [str(spec) for spec in (IMAGE, MASK)] == ["float32 (B, 8, ?)", "int64 (B)"]


@given(SPECS, st.integers(1, 4), st.integers(0, 5))
def test_accepts_every_array_it_describes(spec, batch, free):
    shape = [free if size is None else size for size in spec.shape]
    array = np.zeros((batch, *shape), spec.dtype)
    assert Signature((spec,), ()).check_inputs({spec.name: array}) == batch


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8), np.float32), "has shape (2, 8); expected float32 (B, 8, ?)"),
        (np.zeros((2, 8, 3, 1), np.float32), "has shape (2, 8, 3, 1)"),
        (np.zeros((8,), np.float32), "has shape (8,)"),
        (np.zeros((), np.float32), "has shape ()"),
        (np.zeros((2, 7, 3), np.float32), "has shape (2, 7, 3)"),
        (np.zeros((2, 8, 3), np.float64), "is float64; expected float32"),
        (np.zeros((2, 8, 3), np.int64), "is int64; expected float32"),
        (np.zeros((2, 8, 3), object), "is object; expected float32"),
        (np.zeros((0, 8, 3), np.float32), "holds no example"),
    ],
)
def test_says_what_is_wrong_with_an_array(array, message):
    with pytest.raises(SignatureError, match=re.escape(message)) as caught:
        IMAGE.check(array)
    assert "'image'" in str(caught.value)
    assert caught.value.expected == "float32 (B, 8, ?)"
    assert caught.value.received


@pytest.mark.parametrize("shape", [(1, 8, 0), (1, 8, 1), (3, 8, 100)])
def test_a_free_dimension_takes_any_size(shape):
    IMAGE.check(np.zeros(shape, np.float32))


IMAGES, MASKS = np.zeros((3, 8, 2), np.float32), np.zeros(3, np.int64)


def test_returns_the_batch_size_of_all_inputs():
    assert SIGNATURE.check_inputs({"mask": MASKS, "image": IMAGES}) == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": IMAGES}, "Input 'mask' is missing; expected int64 (B)"),
        ({}, "Input 'image' is missing"),
        ({"image": IMAGES, "mask": MASKS, "masks": MASKS}, "no input 'masks'. Inputs: image, mask. Did you mean"),
        ({"image": IMAGES, "mask": MASKS[:2]}, "disagree on the number of examples (image: 3, mask: 2)"),
        ({"image": IMAGES, "mask": MASKS[:0]}, "Input 'mask' holds no example"),
    ],
)
def test_says_what_is_wrong_with_the_inputs(arrays, message):
    with pytest.raises(SignatureError, match=re.escape(message)):
        SIGNATURE.check_inputs(arrays)
