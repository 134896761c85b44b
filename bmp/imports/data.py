"""Examples that an import is compared on: the user's own, or random ones."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bmp.errors import DataError, SignatureError, suggest
from bmp.objectives import OBJECTIVES
from bmp.signature import Arrays, Signature, TensorSpec

TARGETS = "targets"
_RANDOM_EXAMPLES = 32
_FREE_SIZE = 32
"""What a size that the model leaves open becomes in random examples."""


@dataclass(frozen=True)
class Examples:
    """What goes in, and what is true.

    Args:
        inputs: `(N, *shape)` by name.
        targets: As `bmp.objectives.Target` says; None where they are not known.
        origin: Where they come from, in words.
    """

    inputs: Arrays
    targets: np.ndarray | None
    origin: str


def read_examples(path: Path, signature: Signature) -> Examples:
    """Reads examples for a model from an `.npz` or `.npy` file; numbers are brought to the types that it takes.

    Args:
        path: `.npz`: inputs by name, and `targets` if they are known; `.npy`: the one input.
        signature: Of the model.

    Raises:
        DataError: The file cannot be read, or holds something else.
        SignatureError: The arrays do not fit the model.
    """
    arrays = _load(path, signature)
    targets = arrays.pop(TARGETS, None)
    specs = {spec.name: spec for spec in signature.inputs}
    for name in arrays:
        if name not in specs:
            raise SignatureError(
                f"{path} holds an array '{name}', but the model has no such input. Its inputs: {', '.join(specs)}; "
                f"what is true is called '{TARGETS}'.{suggest(name, [*specs, TARGETS])}",
                expected=", ".join(specs),
                received=name,
            )
    inputs = {name: _cast(specs[name], array) for name, array in arrays.items()}
    count = signature.check_inputs(inputs)
    if targets is not None and len(targets) != count:
        raise DataError(f"{path} holds {count:,} examples, but {len(targets):,} targets; expected one for each.")
    return Examples(inputs, targets, f"{count:,} examples of {path.name}")


def _load(path: Path, signature: Signature) -> Arrays:
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        if not head.startswith((b"PK", b"\x93NUMPY")):
            raise DataError(f"{path} is neither an .npz nor an .npy file; write one with numpy.savez or numpy.save.")
        try:
            loaded = np.load(file, allow_pickle=False)
            arrays = loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded}
        except (OSError, EOFError, ValueError, BadZipFile, zlib.error, MemoryError) as error:
            raise DataError(
                f"{path} holds no arrays that can be read: {error}. Write numbers with numpy.savez or numpy.save."
            ) from error
    if isinstance(arrays, dict):
        return arrays
    if len(signature.inputs) > 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise DataError(f"{path} holds one array, but the model has the inputs {names}; write an .npz with them.")
    return {signature.inputs[0].name: arrays}


def _cast(spec: TensorSpec, array: np.ndarray) -> np.ndarray:
    """Brings numbers to the type of an input, where no more than digits are lost."""
    return array.astype(spec.dtype) if np.can_cast(array.dtype, spec.dtype, "same_kind") else array


def make_examples(signature: Signature) -> Examples:
    """Returns random examples, always the same: normal numbers, and whole numbers below the vocabulary, or 0 and 1."""
    random = np.random.default_rng(0)
    inputs = {spec.name: _draw(spec, random) for spec in signature.inputs}
    return Examples(inputs, None, f"{_RANDOM_EXAMPLES} random examples, seed 0")


def _draw(spec: TensorSpec, random: np.random.Generator) -> np.ndarray:
    shape = (_RANDOM_EXAMPLES, *(size or _FREE_SIZE for size in spec.shape))
    if np.dtype(spec.dtype).kind in "iub":
        return random.integers(spec.vocabulary or 2, size=shape).astype(spec.dtype)
    return random.normal(size=shape).astype(spec.dtype)


def guess_objective(signature: Signature, outputs: Mapping[str, np.ndarray], labels: tuple[str, ...]) -> str:
    """Returns how outputs are to be read: as probabilities of classes where they add up to 1, else as plain numbers."""
    if len(signature.outputs) != 1:
        return "regression"
    (values,) = outputs.values()
    if values.dtype.kind != "f" or values.ndim != 2 or values.min() < 0 or values.max() > 1 + 1e-3:
        return "regression"
    if values.shape[1] > 1:
        return "multiclass" if np.abs(values.sum(axis=1) - 1).max() < 1e-2 else "regression"
    return "binary" if len(labels) == 2 else "regression"


def name_classes(objective: str, signature: Signature, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the labels of the classes that a model tells apart: those given, or numbers; none where it has none.

    Raises:
        DataError: There are not as many as the model has outputs, or the objective is not that of such an output.
    """
    OBJECTIVES[objective]  # an unknown one is said to be so
    shapes = {"multiclass": 1, "binary": 1, "multilabel": 1, "regression": 1, "next_token": 2}
    if objective == "regression":
        if labels:
            raise DataError(
                "Labels are given, but the model is taken for one that answers with plain numbers. Leave them out, or "
                "say what its output means with --objective.",
                received=f"{len(labels)} labels",
            )
        return ()
    (output,) = signature.outputs if len(signature.outputs) == 1 else (None,)
    width = None if output is None or len(output.shape) != shapes[objective] else output.shape[-1]
    if width is None or (objective == "binary") != (width == 1):
        outputs = ", ".join(f"{spec.name} {spec}" for spec in signature.outputs)
        raise DataError(
            f"The objective {objective} is not that of a model with the outputs {outputs}.",
            expected="one output (B, 1)" if objective == "binary" else "one output with a number for each class",
            received=outputs,
        )
    count = 2 if objective == "binary" else width
    if labels and len(labels) != count:
        raise DataError(
            f"{len(labels)} labels are given, but the model tells {count} classes apart.",
            expected=f"{count} labels",
            received=str(len(labels)),
        )
    return labels or tuple(map(str, range(count)))


def check_targets(targets: np.ndarray, objective: str, signature: Signature, labels: tuple[str, ...]) -> np.ndarray:
    """Returns targets in the form that the objective's meter takes.

    Raises:
        DataError: They are not of that kind, shape or range.
    """
    kind = OBJECTIVES[objective].target
    wanted = {
        "class": "a whole number for each example, of 0 to the number of classes",
        "multilabel": "0 or 1 for each example and label",
        "number": "as many numbers for each example as the model gives",
        "tokens": "a whole number for each token",
    }[kind]
    width = signature.outputs[0].shape[-1] or 0
    if kind == "number" and targets.ndim == 1:
        targets = targets[:, None]
    ranks = {"class": 1, "multilabel": 2, "number": 2, "tokens": 2}
    fits = targets.ndim == ranks[kind] and targets.dtype.kind in ("iu" if kind in ("class", "tokens") else "iufb")
    if fits and kind in ("class", "tokens"):
        fits = bool(targets.min() >= 0 and targets.max() < len(labels))
    elif fits:
        fits = targets.shape[1] == width
    if not fits or len(signature.outputs) != 1:
        raise DataError(
            f"The targets are {targets.dtype} {targets.shape}; the objective {objective} needs {wanted}.",
            expected=wanted,
            received=f"{targets.dtype} {targets.shape}",
        )
    return targets.astype(np.int64 if kind in ("class", "tokens") else np.float32)
