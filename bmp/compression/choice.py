"""The gate: which variant is recommended, and why the others are not."""

from collections.abc import Mapping
from dataclasses import dataclass

from bmp.compression.candidates import UNCOMPRESSED


@dataclass(frozen=True)
class Choice:
    """The outcome of the gate.

    Args:
        recommended: Name of the variant that serving runs.
        passed: Names of all variants that keep the promise.
        verdicts: One sentence for each variant.
    """

    recommended: str
    passed: frozenset[str]
    verdicts: Mapping[str, str]


def choose(
    scores: Mapping[str, float], gzip_bytes: Mapping[str, int], max_drop: float, score: str = "accuracy"
) -> Choice:
    """Recommends the smallest variant that keeps the promise; the uncompressed one always does.

    Args:
        scores: Of each variant on the validation split, greater is better, measured on the exported file.
        gzip_bytes: Size of each variant's file, gzipped.
        max_drop: Largest accepted loss of score against the uncompressed variant.
        score: What the score is called.
    """
    base = scores[UNCOMPRESSED]
    # Counts of examples, divided: without the margin 0.99 - 0.98 would be over 0.01.
    passed = frozenset(name for name, value in scores.items() if base - value <= max_drop + 1e-9)
    recommended = min(sorted(passed), key=lambda name: gzip_bytes[name])
    if len(scores) == 1:
        reason = "the only variant"
    elif len(passed) == 1:
        reason = f"no compressed variant stays within {max_drop:g} of its validation {score}"
    else:
        reason = f"the smallest of {len(passed)} that keep the promise"
    verdicts = {}
    for name, value in scores.items():
        if name == recommended:
            verdicts[name] = f"recommended: {reason}"
        elif name in passed:
            verdicts[name] = "passed"
        else:
            verdicts[name] = (
                f"refused: validation {score} {value:.4f} is {base - value:.4f} under {UNCOMPRESSED}'s; "
                f"at most {max_drop:g} is allowed"
            )
    return Choice(recommended, passed, verdicts)
