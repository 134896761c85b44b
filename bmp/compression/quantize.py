"""Post-training int8 quantization: which examples set the ranges. LiteRT's converter does the rest."""

import numpy as np

from bmp.config import QuantizationConfig
from bmp.data import Split
from bmp.signature import Arrays


def pick_calibration(train: Split, config: QuantizationConfig, seed: int) -> Arrays:
    """Returns inputs `(N, *shape)` by name: a seeded sample of the training split, never of the others."""
    count = min(config.calibration_examples, len(train))
    index = np.random.default_rng(seed).permutation(len(train))[:count]
    return train.take(index).load().inputs
