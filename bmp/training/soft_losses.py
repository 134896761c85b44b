"""How far a student is from its teacher, example by example."""

import tensorflow as tf

_LEAST = 1e-30
"""Probabilities below count as this: the logarithm of one that has become 0 would have no gradient."""
_LEAST_BERNOULLI = 1e-7
"""The same for a single probability, whose distance from 1 counts as well: float32 has no smaller one."""


def soft_losses(activation: str, teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """Returns how far the outputs of a student are from those of its teacher, float32 `(b,)`.

    Args:
        activation: That made the outputs: `softmax`, `sigmoid` or `linear`.
        teacher: Outputs `(b, …)`.
        student: Outputs `(b, …)`.
        temperature: What logits are divided by. They are the logarithm of the probabilities, but for a number that
            a softmax takes no notice of.

    Reference:
        Hinton, Vinyals, Dean, 2015, section 2: times the square of the temperature, gradients keep their size.
    """
    teacher, student = tf.cast(teacher, tf.float32), tf.cast(student, tf.float32)
    if activation == "linear":
        return _mean_of_each(tf.math.squared_difference(teacher, student))
    divergence = _divergence if activation == "softmax" else _bernoulli_divergence
    return temperature**2 * _mean_of_each(divergence(teacher, student, temperature))


def feature_losses(student: tf.Tensor, teacher: tf.Tensor, projection: tf.Variable | None = None) -> tf.Tensor:
    """Returns the mean squared error of normalised features, float32 `(b,)`: 2 (1 - their correlation).

    Args:
        student: `(b, …, w)`.
        teacher: `(b, …, v)`.
        projection: `(w, v)`; None where w = v.
    """
    student, teacher = tf.cast(student, tf.float32), tf.cast(teacher, tf.float32)
    if projection is not None:
        student = tf.tensordot(student, projection, axes=1)  # (b, …, v)
    return _mean_of_each(tf.math.squared_difference(_normalise(student), _normalise(teacher)))


def _divergence(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """Of probabilities `(b, …, classes)`: `(b, …)`."""
    log_teacher, log_student = (
        tf.nn.log_softmax(tf.math.log(tf.maximum(probabilities, _LEAST)) / temperature)
        for probabilities in (teacher, student)
    )
    return tf.reduce_sum(tf.exp(log_teacher) * (log_teacher - log_student), axis=-1)


def _bernoulli_divergence(teacher: tf.Tensor, student: tf.Tensor, temperature: float) -> tf.Tensor:
    """Of single probabilities `(b, labels)`, each by itself: `(b, labels)`."""
    theirs, mine = _to_logits(teacher) / temperature, _to_logits(student) / temperature
    yes, no = (
        tf.sigmoid(sign * theirs) * (tf.math.log_sigmoid(sign * theirs) - tf.math.log_sigmoid(sign * mine))
        for sign in (1.0, -1.0)
    )
    return yes + no


def _to_logits(probabilities: tf.Tensor) -> tf.Tensor:
    clipped = tf.clip_by_value(probabilities, _LEAST_BERNOULLI, 1 - _LEAST_BERNOULLI)
    return tf.math.log(clipped) - tf.math.log1p(-clipped)


def _mean_of_each(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean over all that an example has, `(b,)`."""
    return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))


def _normalise(features: tf.Tensor) -> tf.Tensor:
    """Returns the features of each example with mean 0 and variance 1."""
    mean, variance = tf.nn.moments(features, axes=list(range(1, features.shape.rank)), keepdims=True)
    return (features - mean) * tf.math.rsqrt(variance + 1e-6)
