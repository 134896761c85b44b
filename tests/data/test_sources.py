"""The contract of every source, for every set it can load."""

import inspect
from typing import get_args

import numpy as np
import pytest

from bmp.data import SOURCES
from bmp.data.sources import load_sklearn
from bmp.errors import ConfigError

SETS = get_args(inspect.signature(load_sklearn).parameters["name"].annotation)
CASES = [("sklearn", {"name": name}) for name in SETS]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{'-'.join(case[1].values())}")
def source(request):
    return SOURCES.bind(*request.param)


def test_every_source_is_tried():
    assert {name for name, _ in CASES} == set(SOURCES)


def test_examples_are_what_the_signature_says(source):
    examples = source()
    assert examples.signature.check_inputs(examples.inputs) == len(examples.targets) > 0
    assert all(np.isfinite(array).all() for array in examples.inputs.values())


def test_targets_are_indices_of_labels_and_every_label_occurs(source):
    examples = source()
    assert examples.targets.dtype == np.int64 and examples.targets.ndim == 1
    assert set(examples.targets) == set(range(len(examples.labels)))
    assert len(set(examples.labels)) == len(examples.labels)


def test_the_model_returns_a_probability_for_each_label(source):
    examples = source()
    (output,) = examples.signature.outputs
    assert (output.dtype, output.shape) == ("float32", (len(examples.labels),))


def test_loading_again_gives_the_same_examples(source):
    assert source().digest() == source().digest()


def test_sets_have_digests_of_their_own():
    assert len({SOURCES.bind(*case)().digest() for case in CASES}) == len(CASES)


def test_digits_are_images_of_pixels_0_to_16():
    image = load_sklearn(name="digits").inputs["image"]
    assert (image.shape, image.min(), image.max()) == ((1797, 8, 8), 0, 16)


def test_an_unknown_set_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="'name' is 'mnist', but input should be 'digits'"):
        SOURCES.bind("sklearn", {"name": "mnist"})
