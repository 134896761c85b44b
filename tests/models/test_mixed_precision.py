"""Every model under mixed precision: it computes in bfloat16 and says float32."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from model_cases import CASES, build, make_batch, measure_loss

from bmp.models import MODELS


def firsts():
    """The first case of each model: what differs between the others is not precision."""
    found = {}
    for case in CASES:
        found.setdefault(case.name if case.learns else str(case), case)
    return list(found.values())


def test_every_model_is_tried():
    assert {case.name for case in firsts()} == set(MODELS)


def step(case, policy):
    """Builds a model under a policy: its loss, and the gradient of all weights in a row."""
    keras.mixed_precision.set_global_policy(policy)
    try:
        model, batch = build(case), make_batch(case.signature)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    with tf.GradientTape() as tape:
        loss = measure_loss(case, model, batch)
    gradients = tape.gradient(loss, model.trainable_weights)
    rows = [np.ravel(tf.convert_to_tensor(gradient)) for gradient in gradients]
    return model, float(loss), np.concatenate(rows or [np.zeros(0)])


@pytest.mark.parametrize("case", firsts(), ids=str)
def test_a_model_in_bfloat16_says_float32_and_learns_what_it_learns_in_float32(case):
    model, loss, gradient = step(case, "mixed_bfloat16")
    assert all(weight.dtype != tf.bfloat16 for weight in model.weights)
    outputs = model(make_batch(case.signature).inputs)
    assert outputs.dtype == tf.float32 and np.isfinite(outputs).all()
    if case.learns:
        assert any(layer.compute_dtype == "bfloat16" for layer in model.layers)
        _, exact_loss, exact = step(case, "float32")
        assert loss == pytest.approx(exact_loss, rel=0.1)
        # Fifty batch normalisations of untrained weights multiply every rounding error.
        cosine = gradient @ exact / (np.linalg.norm(gradient) * np.linalg.norm(exact))
        assert cosine > (0.0 if case.name == "mobilenet_v2" else 0.95)
