"""SavedModel directories, of whatever wrote them: one signature, run and written again without anything around it."""

from pathlib import Path
from typing import Any

import numpy as np

from bmp.artifact.formats import FORMATS
from bmp.artifact.saved_model import SIGNATURE_KEY
from bmp.errors import ArtifactError, ExportError
from bmp.imports.original import Function, Options, Original, Write
from bmp.imports.sources.keras2 import to_spec
from bmp.signature import Arrays, Signature

_NO_LAYERS = "A SavedModel is a graph without layers, which .h5 cannot hold."


def check_saved_model_source(path: Path) -> None:
    """Checks that its graph computes and does nothing else; see bmp.artifact.guard."""
    from bmp.artifact.guard import check_saved_model

    check_saved_model(path)


def read_saved_model_source(path: Path, options: Options) -> Original:
    """Reads the directory; Keras objects in it are not revived.

    Raises:
        ArtifactError: It has no signature that can be served.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise ArtifactError(
            f"The SavedModel in {path} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    key = _pick_signature(loaded.signatures, path)
    serve = loaded.signatures[key]
    inputs, outputs = serve.structured_input_signature[1], serve.structured_outputs
    signature = Signature(
        tuple(to_spec("input", name, spec.dtype, spec.shape, path) for name, spec in sorted(inputs.items())),
        tuple(to_spec("output", name, spec.dtype, _shape(spec, path), path) for name, spec in sorted(outputs.items())),
        "regression",
    )

    def run(arrays: Arrays) -> Arrays:
        outputs = loaded.signatures[key](**_to_tensors(arrays))  # what was loaded keeps alive what the function reads
        return {name: np.asarray(tensor) for name, tensor in outputs.items()}

    function = Function(path.name, lambda tensors: serve(**tensors), list(serve.variables), sorted(inputs))
    return Original(
        engine=f"tensorflow {tf.__version__}",
        signature=signature,
        run=run,
        writers={form: _make_writer(form, function) for form in ("saved_model", "litert")},
        left_out={"h5": _NO_LAYERS},
    )


def _pick_signature(signatures: Any, path: Path) -> str:
    if SIGNATURE_KEY in signatures:
        return SIGNATURE_KEY
    if len(signatures) == 1:
        return str(next(iter(signatures)))
    found = ", ".join(signatures) or "none"
    raise ArtifactError(
        f"The SavedModel in {path} has no signature '{SIGNATURE_KEY}', and {found} in its place; save it with "
        f"signatures={{'{SIGNATURE_KEY}': …}}.",
        expected=SIGNATURE_KEY,
        received=found,
    )


def _shape(spec: Any, path: Path) -> list[int | None]:
    if spec.shape.rank is None:
        raise ArtifactError(
            f"The output '{spec.name}' of the SavedModel in {path} says nothing of its shape; save it with an "
            "input_signature, so that it does."
        )
    return list(spec.shape)


def _to_tensors(arrays: Arrays) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in arrays.items()}


def _make_writer(form: str, function: Function) -> Write:
    def write(signature: Signature, path: Path) -> None:
        try:
            FORMATS[form].write(function, signature, path)
        except AssertionError as error:  # TensorFlow's, of tables and other things that a function reads
            text = " ".join(str(error).split())[:300]
            raise ExportError(f"The signature reads something else than its variables: {text}") from error

    return write
