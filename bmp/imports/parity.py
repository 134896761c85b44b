"""How far two engines are apart."""

import numpy as np

from bmp.artifact.proof import PARITY_TOLERANCE, max_abs_diff
from bmp.errors import ProofError
from bmp.signature import Arrays


def measure_difference(expected: Arrays, outputs: Arrays) -> float:
    """Returns the largest absolute difference of an output.

    Args:
        expected: `(B, *shape)` by name.
        outputs: The same of another engine.

    Raises:
        ProofError: They have other names, types or shapes.
    """
    found, wanted = ({name: (a.dtype.name, a.shape) for name, a in arrays.items()} for arrays in (outputs, expected))
    if found != wanted:
        raise ProofError(
            f"Its outputs are {_say(found)}; those of the file itself are {_say(wanted)}.",
            expected=_say(wanted),
            received=_say(found),
        )
    return max_abs_diff(_to_floats(expected), _to_floats(outputs))


def allowed_difference(expected: Arrays) -> float:
    """Returns what float32 may differ by: PARITY_TOLERANCE, of the largest output where that is over 1."""
    return PARITY_TOLERANCE * max(1.0, *(float(np.abs(a).max(initial=0)) for a in _to_floats(expected).values()))


def _to_floats(arrays: Arrays) -> Arrays:
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def _say(shapes: dict[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in sorted(shapes.items()))
