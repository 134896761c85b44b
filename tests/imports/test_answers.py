"""The answers of children are checked: what they read may have taken them over."""

import pytest

from bmp.errors import ArtifactError
from bmp.imports.answers import Converted, read_answer, read_signature
from bmp.signature import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (1,)),), "regression")
ANSWER = {
    "format": "h5",
    "engine": "tf_keras",
    "signature": SIGNATURE.to_dict(),
    "labels": [],
    "samples": "some",
    "guessed": True,
    "written": ["h5"],
    "left_out": {"litert": "why"},
}


def test_an_answer_is_what_it_should_be():
    converted = read_answer(Converted, ANSWER)
    assert read_signature(converted) == SIGNATURE and converted.written == ("h5",)


def test_what_a_terminal_would_obey_is_taken_out():
    converted = read_answer(Converted, ANSWER | {"engine": "\x1b[2Jx", "left_out": {"h5": "a\rb"}})
    assert (converted.engine, converted.left_out) == (" [2Jx", {"h5": "a b"})


@pytest.mark.parametrize(
    "change",
    [
        {"written": ["../../h5"]},
        {"left_out": {"exe": "x"}},
        {"more": 1},
        {"engine": None},
        {"signature": []},
        {"labels": "abc"},
    ],
    ids=str,
)
def test_anything_else_is_refused(change):
    with pytest.raises(ArtifactError, match="gave an answer that makes no sense"):
        read_answer(Converted, ANSWER | change)


@pytest.mark.parametrize("name", ["", "a\nb", "\u202e", "x" * 300])
def test_a_tensor_has_a_name_that_can_be_shown(name):
    signature = Signature((TensorSpec(name, "float32", (2,)),), SIGNATURE.outputs)
    with pytest.raises(ArtifactError, match="expected a name of 1 to 256 characters"):
        read_signature(read_answer(Converted, ANSWER | {"signature": signature.to_dict()}))
