"""Networks of Keras 2: rebuilt from their description, and held against what Keras itself makes of the file."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmp.artifact.formats import FORMATS
from bmp.errors import ArtifactError
from bmp.imports.original import Original, Write
from bmp.signature import Arrays, Signature, TensorSpec

if TYPE_CHECKING:
    import tf_keras as keras

FORMS = ("saved_model", "h5", "litert")
"""What a version holds of a Keras model."""


def read_keras2(path: Path, *, trust: bool) -> Original:
    """Reads an `.h5` or `.keras` file of Keras 2.

    What is published is built from the description by an allow-list, with the weights as arrays. What it is compared
    with is what Keras loads.

    Args:
        path: The file, which has been checked.
        trust: Whether to let Keras load what is published as well, with whatever code the file brings along.

    Raises:
        ArtifactError: It holds no network that can be served.
    """
    import tf_keras as keras

    import bmp.models.layers  # noqa: F401 - registers bmp's own layers
    from bmp.artifact.guard import rebuild_model

    rebuilt = None if trust else rebuild_model(path)  # first: it makes no more weights than the file holds
    loaded = keras.models.load_model(path, compile=False, safe_mode=not trust)
    model = name_outputs(loaded if rebuilt is None else rebuilt, path)
    signature = describe(model, path)
    return Original(
        engine=f"tf_keras {version('tf_keras')}",
        signature=signature,
        run=make_run(keras.Model(loaded.inputs, loaded.outputs), signature),
        writers=make_writers(model),
    )


def make_writers(model: "keras.Model") -> dict[str, Write]:
    """Returns how a Keras 2 model is written in each of FORMS."""

    def make(form: str) -> Write:
        return lambda signature, path: FORMATS[form].write(model, signature, path)

    return {form: make(form) for form in FORMS}


def name_outputs(model: "keras.Model", path: Path) -> "keras.Model":
    """Returns a model whose inputs come by name, and whose outputs, where there are several, go by name.

    Raises:
        ArtifactError: It has no inputs or outputs that are known before it is called.
    """
    import tf_keras as keras

    if not model.inputs or not model.outputs:
        raise ArtifactError(
            f"The network in {path} does not say what it takes: it is subclassed, or was never built. Save it after it "
            "has been called, or as a SavedModel."
        )
    if not isinstance(model.output, (dict, list, tuple)) and not isinstance(model.input, dict):
        return model
    named = dict(zip(model.output_names, model.outputs, strict=True))
    outputs = named if len(named) > 1 else next(iter(named.values()))
    return keras.Model(model.inputs, outputs, name=model.name)


def describe(model: "keras.Model", path: Path) -> Signature:
    """Returns the signature of a functional or sequential model.

    Raises:
        ArtifactError: A tensor is of text, or of a fixed number of examples.
    """
    inputs, outputs = (
        tuple(
            to_spec(kind, name, tensor.dtype, tensor.shape, path) for name, tensor in zip(names, tensors, strict=True)
        )
        for kind, names, tensors in (
            ("input", model.input_names, model.inputs),
            ("output", model.output_names, model.outputs),
        )
    )
    sizes = {layer.input.name: layer.input_dim for layer in model.layers if _is_embedding(layer)}
    vocabularies = [sizes.get(tensor.name) for tensor in model.inputs]
    known = tuple(
        TensorSpec(spec.name, spec.dtype, spec.shape, size if np.dtype(spec.dtype).kind in "iu" else None)
        for spec, size in zip(inputs, vocabularies, strict=True)
    )
    return Signature(known, outputs, "regression")


def _is_embedding(layer: Any) -> bool:
    import tf_keras as keras

    return isinstance(layer, keras.layers.Embedding) and len(layer.inbound_nodes) == 1


def to_spec(kind: str, name: str, dtype: Any, shape: Sequence[int | None], path: Path) -> TensorSpec:
    """Returns the specification of a tensor `(B, *shape)`.

    Raises:
        ArtifactError: It is of text, or of a fixed number of examples.
    """
    name_of_dtype = getattr(dtype, "name", None) or str(dtype)
    if name_of_dtype not in np.sctypeDict or np.dtype(name_of_dtype).kind not in "fiub":
        raise ArtifactError(
            f"The {kind} '{name}' of the model in {path} is of {name_of_dtype}; bmp serves tensors of numbers. Turn "
            "anything else into numbers before the model.",
            expected="numbers",
            received=name_of_dtype,
        )
    if not len(shape) or shape[0] is not None:
        raise ArtifactError(
            f"The {kind} '{name}' of the model in {path} has the shape {tuple(shape)}; expected (None, …), with any "
            "number of examples in front. Save the model again with its batch size left open.",
            expected="(None, …)",
            received=str(tuple(shape)),
        )
    return TensorSpec(name, name_of_dtype, tuple(shape[1:]))


def make_run(model: Any, signature: Signature) -> Callable[[Arrays], Arrays]:
    """Returns what runs a model that takes and returns lists, in the order of the signature."""

    def run(arrays: Arrays) -> Arrays:
        given = [arrays[spec.name] for spec in signature.inputs]
        outputs = model(given, training=False)
        several = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return {spec.name: np.asarray(output) for spec, output in zip(signature.outputs, several, strict=True)}

    return run
