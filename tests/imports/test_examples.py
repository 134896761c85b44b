"""Examples that an import is compared on, and what its outputs mean."""

import re

import numpy as np
import pytest

from bmp.errors import BmpError
from bmp.imports.data import check_targets, guess_objective, make_examples, name_classes, read_examples
from bmp.signature import Signature, TensorSpec

IMAGE, TOKENS = TensorSpec("image", "float32", (2, None)), TensorSpec("tokens", "int32", (5,), 7)
THREE, ONE = TensorSpec("kinds", "float32", (3,)), TensorSpec("size", "float32", (1,))
SIGNATURE = Signature((IMAGE, TOKENS), (THREE,), "multiclass")
SINGLE = Signature((IMAGE,), (THREE,), "multiclass")


def test_random_examples_are_always_the_same_and_fit():
    first, again = make_examples(SIGNATURE).inputs, make_examples(SIGNATURE).inputs
    assert SIGNATURE.check_inputs(first) == 32
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_examples_of_a_file_are_brought_to_the_types_of_the_model(tmp_path):
    path = tmp_path / "examples.npz"
    np.savez(path, image=np.ones((4, 2, 3)), tokens=np.arange(20).reshape(4, 5) % 7, targets=np.array([0, 1, 2, 0]))
    examples = read_examples(path, SIGNATURE)
    assert {name: array.dtype.name for name, array in examples.inputs.items()} == {
        "image": "float32",
        "tokens": "int32",
    }
    assert examples.targets.tolist() == [0, 1, 2, 0] and examples.origin == "4 examples of examples.npz"
    np.save(tmp_path / "examples.npy", np.ones((4, 2, 3)))
    assert read_examples(tmp_path / "examples.npy", SINGLE).inputs["image"].shape == (4, 2, 3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"imag": np.ones((4, 2, 3))}, r"holds an array 'imag'.*Did you mean 'image'\?"),
        ({"image": np.ones((4, 3, 3))}, r"has shape (4, 3, 3); expected float32 (B, 2, ?)"),
        ({"image": np.ones((4, 2, 3), complex)}, "is complex128; expected float32"),
        ({"image": np.ones((4, 2, 3)), "targets": np.zeros(3, int)}, "holds 4 examples, but 3 targets"),
        ({"image": np.array([{}])}, "holds no arrays that can be read"),
        ({"targets": np.zeros(3)}, "Input 'image' is missing"),
    ],
)
def test_examples_that_do_not_fit_are_refused(tmp_path, arrays, said):
    np.savez(tmp_path / "examples.npz", **arrays)
    with pytest.raises(BmpError, match=said if "\\" in said else re.escape(said)):
        read_examples(tmp_path / "examples.npz", SINGLE)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"text"])
def test_what_is_no_file_of_arrays_is_refused(tmp_path, content):
    (tmp_path / "examples.npz").write_bytes(content)
    with pytest.raises(BmpError, match=r"examples.npz (holds no arrays|is neither)"):
        read_examples(tmp_path / "examples.npz", SINGLE)


@pytest.mark.parametrize(
    ("outputs", "labels", "objective"),
    [
        ([[0.2, 0.3, 0.5]], (), "multiclass"),
        ([[0.2, 0.3, 0.6]], (), "regression"),
        ([[-0.2, 0.7, 0.5]], (), "regression"),
        ([[0.2]], (), "regression"),
        ([[0.2]], ("no", "yes"), "binary"),
    ],
)
def test_what_outputs_mean_is_guessed_from_what_they_are(outputs, labels, objective):
    values = np.array(outputs, np.float32)
    signature = Signature((IMAGE,), (TensorSpec("y", "float32", values.shape[1:]),))
    assert guess_objective(signature, {"y": values}, labels) == objective


def test_classes_have_names_or_numbers():
    assert name_classes("multiclass", SINGLE, ()) == ("0", "1", "2")
    assert name_classes("binary", Signature((IMAGE,), (ONE,)), ("no", "yes")) == ("no", "yes")
    assert name_classes("regression", SINGLE, ()) == ()


@pytest.mark.parametrize(
    ("objective", "output", "labels", "said"),
    [
        ("multiclass", THREE, ("a", "b"), "2 labels are given, but the model tells 3 classes apart"),
        ("binary", THREE, (), "The objective binary is not that of a model with the outputs kinds float32 (B, 3)"),
        ("multiclass", ONE, (), "The objective multiclass is not that"),
        ("next_token", THREE, (), "The objective next_token is not that"),
        ("regression", ONE, ("a",), "answers with plain numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(objective, output, labels, said):
    with pytest.raises(BmpError, match=re.escape(said)):
        name_classes(objective, Signature((IMAGE,), (output,)), labels)


def test_targets_of_numbers_may_be_flat():
    assert check_targets(np.arange(4), "regression", Signature((IMAGE,), (ONE,)), ()).shape == (4, 1)


@pytest.mark.parametrize(
    ("targets", "objective", "output"),
    [
        ([0, 1, 3], "multiclass", THREE),
        ([-1, 0, 0], "multiclass", THREE),
        ([0.5, 1, 2], "multiclass", THREE),
        ([[0], [1], [2]], "multiclass", THREE),
        ([[0, 1], [1, 0], [0, 0]], "multilabel", THREE),
        ([[0, 1], [1, 0], [0, 0]], "regression", ONE),
    ],
)
def test_targets_of_another_kind_are_refused(targets, objective, output):
    with pytest.raises(BmpError, match=f"the objective {objective} needs"):
        check_targets(np.array(targets), objective, Signature((IMAGE,), (output,)), ("a", "b", "c"))
