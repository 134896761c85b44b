"""The verdict: whether a promise is proven, unproven or broken, in a few words and with all that it rests on."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bmp.compression.gate.agreement import Agreement, measure_agreement, measure_calibration_error
from bmp.compression.gate.bootstrap import RESAMPLES
from bmp.compression.gate.classes import ClassDrop, compare_classes
from bmp.compression.gate.drop import TOLERANCE, Drop, estimate_drop, estimate_needed, measure_metric
from bmp.compression.gate.promise import Promise
from bmp.compression.gate.record import Paired
from bmp.compression.gate.words import say_agreement, say_doubt, say_failure, say_fallen, say_proof
from bmp.errors import ProofError

Kind = Literal["proven", "unproven", "failed"]


@dataclass(frozen=True)
class Verdict:
    """What the test of a promise came to.

    Args:
        kind: `proven`: even the greatest plausible drop is within the promise; `failed`: even the least is beyond it,
            or a class or the agreement fell too far; `unproven`: neither.
        metric: That was promised.
        max_drop: That was promised.
        confidence: Of each limit.
        original: The metric of the original.
        candidate: The metric of the candidate; NaN where its outputs are not finite.
        drop: How much worse it is, as seen.
        low: The least plausible drop.
        high: The greatest plausible drop.
        examples: It was tested on.
        needed: Examples with which it would be proven, if all stays as seen; None where none would do, or none are
            needed.
        method: How the limits were found.
        sentence: The verdict in words.
        classes: What became of each class.
        agreement: How often both decide alike; None where the outputs are not finite.
        calibration_errors: Of the original and the candidate; None for numbers.
    """

    kind: Kind
    metric: str
    max_drop: float
    confidence: float
    original: float
    candidate: float
    drop: float
    low: float
    high: float
    examples: int
    needed: int | None
    method: str
    sentence: str
    classes: tuple[ClassDrop, ...] = ()
    agreement: Agreement | None = None
    calibration_errors: tuple[float, float] | None = None

    @property
    def fallen(self) -> tuple[ClassDrop, ...]:
        """Returns the classes that fell beyond the floor."""
        return tuple(row for row in self.classes if row.fell)

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes; numbers that are not finite become None."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class _Findings:
    """What the verdict follows from."""

    promise: Promise
    drop: Drop
    classes: tuple[ClassDrop, ...]
    agreement: Agreement

    @property
    def fallen(self) -> tuple[ClassDrop, ...]:
        return tuple(row for row in self.classes if row.fell)

    def failures(self) -> list[str]:
        """Returns why the promise is broken, a clause each."""
        promise, reasons = self.promise, []
        if self.drop.interval.low > promise.max_drop + TOLERANCE:
            reasons.append(say_failure(self.drop, promise))
        if promise.class_floor is not None and self.fallen:
            reasons.append(say_fallen(self.fallen, promise.class_floor))
        if promise.min_agreement is not None and self.agreement.high < promise.min_agreement - TOLERANCE:
            reasons.append(say_agreement(self.agreement, promise.min_agreement))
        return reasons

    def doubts(self, examples: int, needed: int | None) -> list[str]:
        """Returns why the promise is not proven, a clause each."""
        promise, reasons = self.promise, []
        if not self.is_small:
            reasons.append(say_doubt(self.drop, promise, examples, needed))
        if promise.min_agreement is not None and self.agreement.low < promise.min_agreement - TOLERANCE:
            reasons.append(say_agreement(self.agreement, promise.min_agreement))
        return reasons

    @property
    def is_small(self) -> bool:
        return self.drop.interval.high <= self.promise.max_drop + TOLERANCE


def judge(paired: Paired, promise: Promise, *, seed: int = 0, resamples: int = RESAMPLES) -> Verdict:
    """Tests a promise: non-inferiority on the same examples.

    The limits hold one by one, so a candidate that is worse by just the promised drop is called proven with a
    probability of about `1 - confidence`, and one that is worse by less is called failed for its drop no more often.

    Args:
        paired: The answers of both to examples on which nothing was chosen.
        promise: What is tested.
        seed: Of the bootstrap, for metrics that need one.
        resamples: Of the bootstrap.

    Raises:
        UnknownNameError: The objective does not measure the metric.
        ProofError: The original's own outputs are not finite.
    """
    promise = promise.for_record(paired.original)
    _check_original(paired)
    if paired.candidate.broken:
        return _fail_broken(paired, promise)
    drop = estimate_drop(paired, promise.metric, promise.confidence, seed, resamples)
    floor = 1.0 if promise.class_floor is None else promise.class_floor
    classes = compare_classes(paired, floor, promise.confidence)
    findings = _Findings(promise, drop, classes, measure_agreement(paired, promise.max_drop, promise.confidence))
    kind, needed, sentence = _weigh(findings, paired)
    errors = measure_calibration_error(paired.original), measure_calibration_error(paired.candidate)
    return Verdict(
        kind=kind,
        metric=promise.metric,
        max_drop=promise.max_drop,
        confidence=promise.confidence,
        original=drop.original,
        candidate=drop.candidate,
        drop=drop.drop,
        low=drop.interval.low,
        high=drop.interval.high,
        examples=len(paired),
        needed=needed,
        method=drop.method,
        sentence=sentence,
        classes=classes,
        agreement=findings.agreement,
        calibration_errors=None if errors[0] is None or errors[1] is None else (errors[0], errors[1]),
    )


def _weigh(findings: _Findings, paired: Paired) -> tuple[Kind, int | None, str]:
    promise, drop = findings.promise, findings.drop
    ground = f"on {len(paired):,} examples, with {promise.confidence * 100:g} % confidence"
    failures = findings.failures()
    if failures:
        return "failed", None, f"Failed {ground}: {'; '.join(failures)}."
    needed = None
    if not findings.is_small:
        needed = estimate_needed(paired, promise.metric, drop, promise.max_drop, promise.confidence)
    doubts = findings.doubts(len(paired), needed)
    if doubts:
        return "unproven", needed, f"Unproven {ground}: {'; '.join(doubts)}."
    return "proven", None, f"Proven {ground}: {say_proof(drop, promise)}."


def _check_original(paired: Paired) -> None:
    if paired.original.broken:
        raise ProofError(
            f"The original's outputs are not finite for {paired.original.broken:,} of {len(paired):,} examples, so "
            "nothing can be promised by them. Train it again; a lower learning rate may help."
        )


def _fail_broken(paired: Paired, promise: Promise) -> Verdict:
    return Verdict(
        kind="failed",
        metric=promise.metric,
        max_drop=promise.max_drop,
        confidence=promise.confidence,
        original=measure_metric(paired.original, promise.metric),
        candidate=math.nan,
        drop=math.inf,
        low=math.inf,
        high=math.inf,
        examples=len(paired),
        needed=None,
        method="outputs that are not finite",
        sentence=f"Failed: the outputs are not finite for {paired.candidate.broken:,} of {len(paired):,} examples.",
    )
