"""The sets that ship inside scikit-learn; nothing is downloaded."""

from typing import Literal

import numpy as np

from bmp.data.source import Source, Target
from bmp.data.sources.memory import ArraySource
from bmp.transforms import Field


def load_sklearn(*, name: Literal["digits", "breast_cancer", "iris", "wine", "diabetes"]) -> Source:
    """Loads a set that ships inside scikit-learn.

    Args:
        name: `digits` are images `(8, 8)` with pixels 0 to 16; the others are rows of raw features. `diabetes` has a
            number to predict (the progression of the disease after a year), the others a class.
    """
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    field_name, array = ("image", bunch.images) if name == "digits" else ("features", bunch.data)
    fields = (Field(field_name, "tensor", "float32", array.shape[1:]),)
    where = f"sklearn {name}, example {{}}".format
    if name == "diabetes":
        targets = bunch.target.astype(np.float32)[:, None]
        return ArraySource({field_name: array}, fields, targets, Target("number"), where=where)
    labels = tuple(str(label) for label in bunch.target_names)
    return ArraySource({field_name: array}, fields, bunch.target.astype(np.int64), Target("class", labels), where=where)
