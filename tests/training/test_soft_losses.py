"""Soft losses against the formulas of the papers, written out in numpy with float64."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, log_softmax, softmax

from bmp.training.soft_losses import feature_losses, soft_losses

RNG = np.random.default_rng(0)


def kl(teacher, student):
    return np.sum(teacher * (np.log(teacher) - np.log(student)), axis=-1)


@pytest.mark.parametrize("shape", [(5, 3), (4, 6, 10)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_of_classes_it_is_the_divergence_of_softened_logits(shape, temperature):
    theirs, mine = RNG.normal(scale=4, size=(2, *shape))
    expected = temperature**2 * kl(softmax(theirs / temperature, -1), softmax(mine / temperature, -1))
    expected = expected.reshape(len(expected), -1).mean(axis=1)  # over the tokens of a text
    found = soft_losses("softmax", softmax(theirs, -1), softmax(mine, -1), temperature)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_of_labels_each_is_a_coin_of_its_own(temperature):
    theirs, mine = RNG.normal(scale=3, size=(2, 5, 4))
    teacher, student = expit(theirs / temperature), expit(mine / temperature)
    both = kl(np.stack([teacher, 1 - teacher], -1), np.stack([student, 1 - student], -1))
    found = soft_losses("sigmoid", expit(theirs), expit(mine), temperature)
    np.testing.assert_allclose(found, temperature**2 * both.mean(axis=1), rtol=2e-3, atol=1e-6)


def test_of_numbers_it_is_the_squared_error_whatever_the_temperature():
    theirs, mine = RNG.normal(size=(2, 5, 2))
    for temperature in (1.0, 7.0):
        found = soft_losses("linear", theirs, mine, temperature)
        np.testing.assert_allclose(found, np.mean((theirs - mine) ** 2, axis=1), rtol=1e-5)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
def test_nothing_is_left_to_learn_from_oneself(activation):
    outputs = softmax(RNG.normal(size=(3, 4)), -1)
    np.testing.assert_allclose(soft_losses(activation, outputs, outputs, 4.0), 0, atol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certainty_has_a_finite_gradient(activation):
    """Where probabilities are 0 and 1 in float32, and in the last row only nearly so."""
    logits = tf.constant([[300.0, -300.0, 0.0], [0.0, 80.0, -80.0], [100.0, 0.0, -60.0], [12.0, 2.0, -5.0]])
    activate = tf.nn.softmax if activation == "softmax" else tf.sigmoid
    with tf.GradientTape() as tape:
        tape.watch(logits)
        losses = soft_losses(activation, activate(-logits), activate(logits), 4.0)
    gradient = tape.gradient(losses, logits)
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()
    assert np.abs(gradient[3]).max() > 0.1


def test_the_gradient_is_that_of_the_paper():
    """T² · dKL/dz = T (q_student - q_teacher)."""
    theirs, mine = (tf.constant(RNG.normal(scale=3, size=(4, 5)), tf.float32) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch(mine)
        losses = soft_losses("softmax", tf.nn.softmax(theirs), tf.nn.softmax(mine), 4.0)
    expected = 4 * (tf.nn.softmax(mine / 4) - tf.nn.softmax(theirs / 4))
    np.testing.assert_allclose(tape.gradient(losses, mine), expected, atol=1e-5)


def test_short_numbers_are_counted_in_float32():
    outputs = tf.cast(tf.nn.softmax(tf.constant(RNG.normal(size=(2, 3)), tf.float32)), tf.bfloat16)
    assert soft_losses("softmax", outputs, outputs, 2.0).dtype == tf.float32
    assert feature_losses(outputs, outputs).dtype == tf.float32


@pytest.mark.parametrize("shape", [(6, 9), (6, 3, 3, 5)])
def test_features_are_as_far_apart_as_they_are_uncorrelated(shape):
    mine, theirs = RNG.normal(size=(2, *shape))
    rows = zip(mine.reshape(6, -1), theirs.reshape(6, -1), strict=True)
    expected = [2 * (1 - np.corrcoef(one, other)[0, 1]) for one, other in rows]
    np.testing.assert_allclose(feature_losses(mine * 7 + 3, theirs), expected, rtol=1e-4, atol=1e-5)


def test_a_projection_makes_widths_equal():
    mine, theirs, kernel = RNG.normal(size=(4, 2, 3)), RNG.normal(size=(4, 2, 5)), RNG.normal(size=(3, 5))
    found = feature_losses(mine, theirs, tf.constant(kernel, tf.float32))
    np.testing.assert_allclose(found, feature_losses(mine @ kernel, theirs), rtol=1e-4)


def test_the_logits_need_not_be_known():
    """The logarithm of a softmax differs from its logits by a number that the softmax takes no notice of."""
    logits = RNG.normal(scale=5, size=(3, 4))
    np.testing.assert_allclose(log_softmax(logits / 4, -1), log_softmax(log_softmax(logits, -1) / 4, -1))
