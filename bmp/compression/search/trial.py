"""A trial: what one chain yields, measured on the exported file as its user will meet it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bmp.artifact.proof import Latency
from bmp.compression.gate.drop import TOLERANCE


@dataclass(frozen=True)
class Trial:
    """One candidate.

    Args:
        name: Of its chain, such as `prune-0.8_int8`; `float32` for the original.
        spec: The chain as a recipe writes it.
        file: Name of the exported file in the working directory; None where there is none.
        score: The metric on the validation split.
        drop: How much worse than the original on the validation split, in the terms of the promise; below 0: better.
        max_abs_diff: Largest difference of an output from the Keras model that was exported, on the validation split.
        sparsity: Share of zeros among the weights of the kernels in the file, 0 to 1.
        raw_bytes: Of the file.
        gzip_bytes: Of the file, gzipped.
        bits_bytes: Bits counted, in bytes: what an entropy coder would need; see `bmp.compression.sizes`.
        latency: By batch size; None where it was not timed.
        epochs: Of fine-tuning that it took, those of a stage that another trial shares counted in full.
        duration_s: That it really took now; 0 for what was found from an earlier search.
        is_final: Whether it had all the epochs it may have; a trial on a short budget has not.
        notes: What a person should know; whole sentences.
        failure: Why there is no file, one sentence; None where there is.
    """

    name: str
    spec: tuple[Any, ...] = ()
    file: str | None = None
    score: float = float("nan")
    drop: float = float("inf")
    max_abs_diff: float = float("nan")
    sparsity: float = 0.0
    raw_bytes: int = 0
    gzip_bytes: int = 0
    bits_bytes: int = 0
    latency: Mapping[int, Latency] | None = None
    epochs: int = 0
    duration_s: float = 0.0
    is_final: bool = True
    notes: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def label(self) -> str:
        """The steps as words, which may be broken between two lines."""
        return self.name.replace("_", " ")

    def keeps(self, max_drop: float) -> bool:
        """Returns whether there is a file that keeps a promise on the validation split."""
        return self.failure is None and self.drop <= max_drop + TOLERANCE

    def timed(self, latency: Mapping[int, Latency]) -> "Trial":
        """Returns the trial with its latency."""
        return replace(self, latency=latency)

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes and `from_json` reads; numbers that are not finite are None."""
        row = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }
        row["latency"] = None if self.latency is None else {str(size): asdict(at) for size, at in self.latency.items()}
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Trial":
        """Reads what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: It is no trial.
        """
        given = {name: value for name, value in dict(row).items() if value is not None}  # None is the default
        latency = {int(size): Latency(**at) for size, at in given.pop("latency", {}).items()}
        lists = {name: tuple(given[name]) for name in ("spec", "notes")}
        return cls(**{**given, **lists, "latency": latency or None})
