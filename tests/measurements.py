"""What a manifest says that a variant was measured at, for tests that were not there to measure it."""

from typing import Any

from bmp.artifact.manifest import Measurement


def make_measurement(score: float | None = 0.9, **figures: Any) -> Measurement:
    """Figures of no meaning, but those that are given.

    Args:
        score: On the validation split and on the test split; None of a model that was imported.
        figures: By name of the field.
    """
    usual = {
        "validation_score": score,
        "test_score": score,
        "max_abs_diff": 0.0,
        "sparsity": 0.0,
        "size_bytes": 1,
        "gzip_bytes": 1,
        "latency_batch1_ms": 1.0,
        "latency_batch32_ms": 1.0,
    }
    return Measurement(**{**usual, **figures})
