"""Twin of the step for text."""

import numpy as np
import tensorflow as tf

from bmp.data.twins.tabular import Tensors, look_up
from bmp.transforms.text import Tokenize
from bmp.transforms.tokens import PADDING, SPECIAL, UNKNOWN, Characters


def tokenize(step: Tokenize, columns: Tensors) -> Tensors:
    """Of `Tokenize`."""
    texts = columns[step.field]
    if step.tokenizer == "bpe":  # by the same package
        tokens = tf.numpy_function(lambda texts: _run_numpy(step, texts), [texts], tf.int32, stateful=False)
        return columns | {step.field: tf.ensure_shape(tokens, (texts.shape[0], step.length))}
    rows = {"bytes": _bytes, "characters": _characters, "words": _words}[step.tokenizer](step, texts)
    rows = rows[:, : step.length] if step.keep == "start" else rows[:, -step.length :]
    return columns | {step.field: rows.to_tensor(PADDING, shape=(None, step.length))}


def _run_numpy(step: Tokenize, texts: np.ndarray) -> np.ndarray:
    column = np.array([text.decode() for text in texts], object)
    return step.run({step.field: column})[step.field]


def _bytes(step: Tokenize, texts: tf.Tensor) -> tf.RaggedTensor:
    rows = tf.strings.bytes_split(texts)
    values = tf.reshape(tf.io.decode_raw(rows.flat_values, tf.uint8), (-1,))  # one byte each
    return rows.with_flat_values(tf.cast(values, tf.int32) + len(SPECIAL))


def _characters(step: Tokenize, texts: tf.Tensor) -> tf.RaggedTensor:
    tokenizer = step.build_tokenizer()
    assert isinstance(tokenizer, Characters)
    rows = tf.strings.unicode_decode(texts, "UTF-8", errors="strict")
    points = rows.flat_values
    places = tf.minimum(tf.searchsorted(tokenizer.points, points), len(tokenizer.points) - 1)
    tokens = tf.gather(tokenizer.tokens, places)
    return rows.with_flat_values(tf.where(tf.gather(tokenizer.points, places) == points, tokens, UNKNOWN))


def _words(step: Tokenize, texts: tf.Tensor) -> tf.RaggedTensor:
    assert step.vocabulary is not None, "not fitted"
    texts = tf.strings.lower(texts)  # of bytes: ASCII only
    texts = tf.strings.regex_replace(texts, r"[\x00-\x20\x7f]+", " ")
    texts = tf.strings.regex_replace(texts, r"([!-/:-@\[-`{-~])", r" \1 ")
    rows = tf.strings.split(texts)
    numbers = range(len(SPECIAL), len(SPECIAL) + len(step.vocabulary))
    return rows.with_flat_values(look_up(rows.flat_values, step.vocabulary, numbers, UNKNOWN))
