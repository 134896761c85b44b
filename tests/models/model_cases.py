"""What the contract of models is tried on: every entry of MODELS, with the inputs and objectives it is for."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from bmp.models import MODELS, build_model
from bmp.objectives import OBJECTIVES
from bmp.signature import Signature, TensorSpec

ROWS = TensorSpec("features", "float32", (6,))
IMAGES = TensorSpec("image", "float32", (8, 8))
PHOTOS = TensorSpec("photo", "uint8", (9, 7, 3))
SERIES = TensorSpec("series", "float32", (5, 3))
TEXT = TensorSpec("tokens", "int32", (7,), vocabulary=11)
COLOUR = TensorSpec("colour", "int64", (), vocabulary=4)

_OUTPUTS = {
    "multiclass": TensorSpec("probabilities", "float32", (4,)),
    "binary": TensorSpec("probability", "float32", (1,)),
    "multilabel": TensorSpec("probabilities", "float32", (3,)),
    "regression": TensorSpec("values", "float32", (2,)),
    "next_token": TensorSpec("probabilities", "float32", (7, 11)),
}


def sign(*inputs: TensorSpec, objective: str = "multiclass", width: int | None = None) -> Signature:
    output = _OUTPUTS[objective]
    if width is not None:
        output = TensorSpec(output.name, output.dtype, (width,))
    return Signature(inputs, (output,), objective)


@dataclass(frozen=True)
class Case:
    """A model, what it is built for, and what it cannot do.

    Args:
        learns: Whether it is trained by gradients; what scikit-learn fits is not.
        no_litert: Part of the name of the operation that keeps it from LiteRT; None where it is exported.
    """

    name: str
    signature: Signature
    args: dict[str, Any] = field(default_factory=dict)
    learns: bool = True
    no_litert: str | None = None

    def __str__(self) -> str:
        kinds = "+".join(spec.name for spec in self.signature.inputs)
        extra = "-".join(str(value) for value in self.args.values() if isinstance(value, (str, bool)))
        return "-".join(filter(None, [self.name, kinds, self.signature.objective, extra]))


def fitted(estimator: str, objective: str, width: int | None = None, **params: Any) -> Case:
    args = {"estimator": estimator, "params": params}
    return Case("classical", sign(ROWS, objective=objective, width=width), args, learns=False)


CASES = [
    Case("mlp", sign(ROWS), {"hidden": [16, 8]}),
    Case("mlp", sign(ROWS, objective="regression"), {"hidden": []}),
    Case("mlp", sign(ROWS, PHOTOS, COLOUR, TEXT, objective="multilabel"), {"hidden": [16], "scale": 0.004}),
    Case("cnn", sign(IMAGES), {"filters": [4, 8], "dense": [16]}),
    Case("cnn", sign(PHOTOS, objective="binary"), {"filters": [4], "dense": [], "kernel_size": 5, "scale": 0.004}),
    Case("lenet5", sign(IMAGES), {"resize": [28, 28]}),
    Case("resnet", sign(PHOTOS), {"blocks": 1, "filters": 4, "scale": 0.004}),
    Case("mobilenet_v2", sign(IMAGES, objective="multilabel"), {"alpha": 0.1, "resize": [32, 32], "dropout": 0.0}),
    Case("rnn", sign(TEXT, objective="binary"), {"units": [4], "bidirectional": True, "embedding": 4}),
    Case("rnn", sign(SERIES, objective="regression"), {"cell": "gru", "units": [6, 5]}),
    Case("rnn", sign(IMAGES), {"cell": "lstm", "units": [6], "unroll": False}, no_litert="TensorList"),
    Case("transformer", sign(TEXT, objective="multilabel"), {"layers": 2, "heads": 2, "width": 8}),
    Case("transformer", sign(SERIES, objective="regression"), {"layers": 1, "heads": 1, "width": 8}),
    Case("transformer", sign(IMAGES), {"layers": 1, "heads": 2, "width": 8, "patch": 4}),
    Case("gpt", sign(TEXT, objective="next_token"), {"layers": 2, "heads": 2, "width": 8}),
    Case("gpt", sign(TEXT, objective="next_token"), {"layers": 1, "heads": 1, "width": 8, "bias": True}),
    fitted("decision_tree", "multiclass", max_depth=4),
    fitted("random_forest", "regression", n_estimators=5),
    fitted("gradient_boosting", "binary", n_estimators=5),
    fitted("linear_svm", "multiclass"),
    fitted("rbf_svm", "multiclass"),
    fitted("logistic", "binary"),
    fitted("linear", "regression"),
    fitted("ridge", "regression", width=1),
]


def make_batch(signature: Signature, size: int = 32) -> SimpleNamespace:
    """Returns inputs by name and targets, as `Batch` holds them; every class is there."""
    random = np.random.default_rng(0)
    inputs = {}
    for spec in signature.inputs:
        shape = (size, *spec.shape)
        if spec.dtype == "float32":
            inputs[spec.name] = random.normal(size=shape).astype(np.float32)
        else:
            inputs[spec.name] = random.integers(spec.vocabulary or 256, size=shape).astype(spec.dtype)
    shape = signature.outputs[0].shape
    targets = {
        "multiclass": lambda: np.arange(size) % shape[0],
        "binary": lambda: np.arange(size) % 2,
        "multilabel": lambda: random.integers(2, size=(size, *shape)).astype(np.float32),
        "regression": lambda: random.normal(size=(size, *shape)).astype(np.float32),
        "next_token": lambda: random.integers(shape[-1], size=(size, shape[0])).astype(np.int32),
    }[signature.objective]()
    return SimpleNamespace(inputs=inputs, targets=targets)


def build(case: Case):
    import tf_keras as keras

    keras.utils.set_random_seed(1)
    train = SimpleNamespace(load=lambda: make_batch(case.signature, 64))
    return build_model(MODELS.bind(case.name, case.args), case.signature, train)


def measure_loss(case: Case, model, batch) -> Any:
    """Returns the mean loss as training sees it, a tensor."""
    import tensorflow as tf

    loss = OBJECTIVES[case.signature.objective].make_loss()
    return tf.reduce_mean(loss(tf.constant(batch.targets), model(batch.inputs, training=True)))
