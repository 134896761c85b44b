"""Every transform gives in training what it gives in serving."""

from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_cases import ALL_CASES, CASES
from twin_tools import Twin, assert_equal, to_tensor

from bmp.data.twins import TWINS, run_twins
from bmp.transforms import TRANSFORMS

QUICK = settings(max_examples=15, deadline=None)


@cache
def build(kind, name):
    case = CASES[kind][name]
    fitted = case.fit()
    return case, fitted, Twin(fitted)


def test_every_transform_has_a_twin():
    assert set(TWINS) == set(TRANSFORMS)


@pytest.mark.parametrize(("kind", "name"), ALL_CASES)
@QUICK
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_training_and_serving_agree_on_random_examples(kind, name, seed, count):
    case, fitted, twin = build(kind, name)
    columns = case.make(np.random.default_rng(seed), count)
    assert_equal(fitted.run(columns), twin.run(columns), case.tolerance)


@pytest.mark.parametrize(("kind", "name"), ALL_CASES)
def test_a_dataset_maps_it_with_static_shapes(kind, name):
    case, fitted, _ = build(kind, name)
    columns = case.make(np.random.default_rng(1), 10)
    tensors = {name: to_tensor(column) for name, column in columns.items()}
    batches = tf.data.Dataset.from_tensor_slices(tensors).batch(4)
    mapped = batches.map(lambda batch: run_twins(fitted, batch, None), num_parallel_calls=2)
    for spec in fitted.outputs:
        element = mapped.element_spec[spec.name]
        assert (tuple(element.shape), element.dtype.name) == ((None, *spec.shape), spec.dtype)
    trained = [{name: tensor.numpy() for name, tensor in batch.items()} for batch in mapped]
    together = {name: np.concatenate([batch[name] for batch in trained]) for name in trained[0]}
    assert_equal(fitted.run(columns), together, case.tolerance)


@pytest.mark.parametrize(
    ("kind", "name", "count"),
    [("image", "colour", 1000), ("log_mel", "resampled", 100), ("join", "row", 1000), ("tokenize", "words", 1000)],
)
def test_many_raw_examples_agree_within_a_ten_thousandth(kind, name, count):
    case, fitted, twin = build(kind, name)
    columns = case.make(np.random.default_rng(2), count)
    assert_equal(fitted.run(columns), twin.run(columns), 1e-4)
