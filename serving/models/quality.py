"""Qualities: which variant of a version answers a request that says how good, or how fast, its answer shall be."""

from bmp.artifact.manifest import Manifest, Variant
from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.errors import RequestError, suggest

BALANCED = "balanced"
QUALITIES = ("best", BALANCED, "fast")


def check_quality(text: str) -> None:
    """Raises where a request names a quality that there is not.

    Raises:
        RequestError: It does.
    """
    if text not in QUALITIES:
        raise RequestError(
            f"The quality '{text[:80]}' is unknown; expected one of {', '.join(QUALITIES)}.{suggest(text, QUALITIES)}",
            expected=", ".join(QUALITIES),
            received=text[:80],
        )


def choose_variants(manifest: Manifest) -> dict[str, str]:
    """Returns the name of a variant by quality, among those that keep the promise and can run here.

    `best` has the highest score on the test split; where scores are equal or were never measured, it is the one whose
    outputs are closest to the original's. `fast` answers one example soonest. `balanced` is the recommended one, which
    also wins where nothing tells variants apart.
    """
    recommended = manifest.variant(manifest.recommended)
    kept = [recommended, *(each for each in manifest.variants if _can_answer(each) and each != recommended)]
    best, fast = max(kept, key=_closeness), min(kept, key=lambda each: each.measured.latency_batch1_ms)
    return dict(zip(QUALITIES, (best.name, recommended.name, fast.name), strict=True))


def _can_answer(variant: Variant) -> bool:
    """Tells whether a variant keeps the promise, and an engine runs its file."""
    is_file = variant.file is not None and (variant.file.endswith(".tflite") or variant.file == SAVED_MODEL_FILE)
    return is_file and not variant.verdict.startswith("refused")


def _closeness(variant: Variant) -> tuple[float, float]:
    score = variant.measured.test_score
    return (float("-inf") if score is None else score, -variant.measured.max_abs_diff)
