import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from bmp.errors import ConfigError, UnknownNameError
from bmp.objectives import Target
from bmp.training.class_weights import weigh_classes

PETS = Target("class", ("cat", "dog", "bird"))


def test_nothing_is_weighed_by_default():
    assert weigh_classes(None, PETS, [1, 2, 3]) is None
    assert weigh_classes(None, Target("number"), []) is None


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12))
def test_balanced_is_scikit_learns(counts):
    target = Target("class", tuple(str(number) for number in range(len(counts))))
    found = weigh_classes("balanced", target, counts)
    classes = np.repeat(np.arange(len(counts)), counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=classes)
    assert found.dtype == np.float32 and found.shape == (len(counts),)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.mean(found[classes]) == pytest.approx(1, rel=1e-5)


def test_a_class_without_examples_changes_nothing():
    found = weigh_classes("balanced", PETS, np.array([30, 0, 10]))
    np.testing.assert_allclose(found, [40 / 60, 1, 2], rtol=1e-6)


def test_weights_by_name_stand_in_the_order_of_the_labels():
    found = weigh_classes({"bird": 5.0, "cat": 0.5}, PETS, [1, 1, 1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.float32([0.5, 1, 5]))


def test_an_unknown_class_is_guessed():
    with pytest.raises(UnknownNameError, match=r"the class 'brid', .* Known: cat, dog, bird\. Did you mean 'bird'\?"):
        weigh_classes({"brid": 2.0}, PETS, [1, 1, 1])


def test_many_classes_are_not_all_listed():
    target = Target("class", tuple(f"word {number}" for number in range(500)))
    with pytest.raises(UnknownNameError, match="word 19 and 480 more") as caught:
        weigh_classes({"x": 2.0}, target, [1] * 500)
    assert len(caught.value.message) < 400


def test_weights_of_zero_teach_nothing():
    with pytest.raises(ConfigError, match="every class the weight 0"):
        weigh_classes({"cat": 0.0, "dog": 0.0, "bird": 0.0}, PETS, [1, 1, 1])


@pytest.mark.parametrize("kind", ["multilabel", "number", "tokens"])
@pytest.mark.parametrize("wanted", ["balanced", {"cat": 2.0}])
def test_what_has_no_single_class_cannot_be_weighed(kind, wanted):
    with pytest.raises(ConfigError, match=f"the target is of kind {kind}, which gives it no single class"):
        weigh_classes(wanted, Target(kind, ("cat", "dog")), [1, 1])
