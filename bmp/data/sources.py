"""SOURCES: where examples come from."""

from typing import Literal

import numpy as np

from bmp.catalog import Catalog
from bmp.data.dataset import Examples
from bmp.signature import Signature, TensorSpec


def load_sklearn(*, name: Literal["digits", "breast_cancer", "iris", "wine"]) -> Examples:
    """Loads a classification set that ships inside scikit-learn; nothing is downloaded.

    `digits` are images `(8, 8)` with pixels 0 to 16; the others are rows of raw features.
    """
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    input_name, array = ("image", bunch.images) if name == "digits" else ("features", bunch.data)
    array = array.astype(np.float32)
    labels = tuple(str(label) for label in bunch.target_names)
    signature = Signature(
        inputs=(TensorSpec(input_name, "float32", array.shape[1:]),),
        outputs=(TensorSpec("probabilities", "float32", (len(labels),)),),
    )
    return Examples({input_name: array}, bunch.target.astype(np.int64), signature, labels)


SOURCES = Catalog("source", {"sklearn": load_sklearn})
