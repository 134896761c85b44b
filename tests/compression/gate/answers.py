"""Made-up models: outputs with a known quality, and their records."""

import numpy as np

from bmp.compression.gate import Paired, Recorder

LABELS = {
    "multiclass": tuple("abcdefg"),
    "binary": ("no", "yes"),
    "multilabel": ("red", "green", "blue"),
    "regression": (),
    "next_token": tuple("abcde"),
}


def sigmoid(logits):
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def make_targets(objective, random, count):
    classes = len(LABELS[objective])
    return {
        "multiclass": lambda: random.integers(classes, size=count),
        "binary": lambda: (random.random(count) < 0.4).astype(np.int64),
        "multilabel": lambda: (random.random((count, 3)) < 0.4).astype(np.float32),
        "regression": lambda: random.normal(3, 2, (count, 2)).astype(np.float32),
        "next_token": lambda: random.integers(classes, size=(count, 6)).astype(np.int32),
    }[objective]()


def make_outputs(objective, targets, random, noise):
    """Returns outputs that are the worse the more noise there is."""
    if objective == "regression":
        return (targets + noise * random.normal(size=targets.shape)).astype(np.float32)
    if objective in ("multiclass", "next_token"):
        known = 3 * np.eye(len(LABELS[objective]))[targets]
        return softmax(known + noise * random.normal(size=known.shape))
    known = 3 * (targets.reshape(len(targets), -1) - 0.5)
    return sigmoid(known + noise * random.normal(size=known.shape))


def take(objective, outputs, targets, size=64):
    recorder = Recorder(objective, LABELS[objective])
    for start in range(0, len(targets), size):
        recorder.update(outputs[start : start + size], targets[start : start + size])
    return recorder.finish()


def make_pair(objective, count, *, noise=1.0, change=0.2, seed=0):
    """Returns the records of a model and of one whose logits are a little different."""
    random = np.random.default_rng(seed)
    targets = make_targets(objective, random, count)
    seeds = random.integers(2**32, size=2)
    original = make_outputs(objective, targets, np.random.default_rng(seeds[0]), noise)
    if objective == "regression":
        candidate = (original + change * random.normal(size=original.shape)).astype(np.float32)
    else:
        logits = np.log(original) if objective in ("multiclass", "next_token") else np.log(original / (1 - original))
        moved = logits + change * random.normal(size=logits.shape)
        candidate = softmax(moved) if objective in ("multiclass", "next_token") else sigmoid(moved)
    return Paired(take(objective, original, targets), take(objective, candidate, targets))


def make_decided(targets, before, after):
    """Returns the records of two binary models that have decided so."""
    outputs = (np.asarray(decided, np.float32)[:, None] * 0.8 + 0.1 for decided in (before, after))
    return Paired(*(take("binary", each, np.asarray(targets)) for each in outputs))
