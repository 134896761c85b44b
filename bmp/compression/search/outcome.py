"""The outcome: which candidate is recommended, after the promise was tested on examples that no choice has seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bmp.compression.chain import UNCOMPRESSED
from bmp.compression.gate import Paired, Promise, Record, Verdict, judge
from bmp.compression.gate.drop import TOLERANCE
from bmp.compression.search.trial import Trial

Goal = Literal["size", "latency", "balanced"]

_MOST_TESTED = 3


@dataclass(frozen=True)
class Outcome:
    """What a compression ends with.

    Args:
        trials: All, the original first.
        recommended: Name of the trial that serving is to run; that of the original where no other may be.
        best: Name of the cheapest trial that kept the promise on the validation split; None where none did.
        verdicts: Of the trials that were tested on the test split, by name, in the order of the tests.
        accepted: Whether the recommended one is unproven, and was accepted so.
    """

    trials: tuple[Trial, ...]
    recommended: str
    best: str | None
    verdicts: Mapping[str, Verdict]
    accepted: bool = False

    @property
    def is_met(self) -> bool:
        """Whether a compressed form is recommended."""
        return self.recommended != UNCOMPRESSED

    def trial(self, name: str) -> Trial:
        """Returns a trial by name."""
        return next(trial for trial in self.trials if trial.name == name)

    def explain(self, trial: Trial, max_drop: float, metric: str) -> str:
        """Returns the verdict on a trial as a manifest says it: one word, and where there is one a reason."""
        if trial.failure is not None:
            return f"refused: {trial.failure}"
        verdict = self.verdicts.get(trial.name)
        said = f": {verdict.sentence}" if verdict is not None else ""
        if trial.name == self.recommended:
            return f"recommended{said or self._why_original()}"
        if verdict is not None and verdict.kind != "proven":
            return f"{verdict.kind}{said}"
        if not trial.keeps(max_drop):
            return (
                f"refused: on the validation split {metric} drops by {trial.drop:.4f}; at most {max_drop:g} is allowed"
            )
        return f"passed{said}"

    def _why_original(self) -> str:
        if len(self.trials) == 1:
            return ": the only variant"
        if self.best is None:
            return ": no compressed variant keeps the promise on the validation split"
        return ": the promise is not proven for any compressed variant"


def cost_of(goal: Goal, original: Trial) -> Callable[[Trial], float]:
    """Returns what a goal wants small: gzipped bytes, milliseconds at batch 1, or the geometric mean of both, each as a
    share of the original's.
    """

    def size(trial: Trial) -> float:
        return trial.gzip_bytes / original.gzip_bytes

    def latency(trial: Trial) -> float:
        if trial.latency is None or original.latency is None:
            return 1.0
        return trial.latency[1].p50_ms / original.latency[1].p50_ms

    return {"size": size, "latency": latency, "balanced": lambda trial: (size(trial) * latency(trial)) ** 0.5}[goal]


def decide(
    trials: Sequence[Trial],
    goal: Goal,
    promise: Promise,
    answer: Callable[[Trial], Record],
    *,
    accept: Literal["proven", "unproven"] = "proven",
    seed: int = 0,
) -> Outcome:
    """Tests the promise, and recommends the best trial for which it holds.

    Trials are chosen by the validation split. On the test split at most three are tested, in an order that was fixed
    before: from one whose weights were only stored otherwise to the one that serves the goal best; after one that is
    not proven no bolder one can be. So there is no more than one chance in twenty (with a confidence of 95 percent)
    that any of those called proven is not, however many are tested.

    What is accepted unproven has kept the promise on the test split as well, as far as its examples tell.

    Args:
        trials: The original first, all timed.
        goal: What is wanted.
        promise: What is tested.
        answer: Runs the file of a trial on the test split.
        accept: Whether an unproven one may be recommended, if none better is proven.
        seed: Of resamples.

    Reference:
        Westfall and Krishen: Optimally weighted, fixed sequence and gatekeeper multiple testing procedures, 2001,
        section 2.
    """
    original = trials[0]
    cost = cost_of(goal, original)
    kept = [trial for trial in trials[1:] if trial.keeps(promise.max_drop) and cost(trial) < 1]
    if not kept:
        return Outcome(tuple(trials), UNCOMPRESSED, None, {})
    line = _thin(_line_up(kept, cost))
    base = answer(original)
    verdicts: dict[str, Verdict] = {}
    for trial in line:
        if any(verdict.kind != "proven" for verdict in verdicts.values()):
            if accept == "proven":
                break
            verdicts[trial.name] = _judge_late(Paired(base, answer(trial)), promise, seed)
        else:
            verdicts[trial.name] = judge(Paired(base, answer(trial)), promise, seed=seed)
    best = min(kept, key=lambda trial: (cost(trial), trial.drop))
    proven = _count_proven(line, verdicts)
    recommended = line[proven - 1].name if proven else UNCOMPRESSED
    if accept == "unproven":
        bolder = [trial.name for trial in line[proven:] if _is_acceptable(verdicts[trial.name])]
        if bolder:
            return Outcome(tuple(trials), bolder[-1], best.name, verdicts, accepted=True)
    return Outcome(tuple(trials), recommended, best.name, verdicts)


def _judge_late(paired: Paired, promise: Promise, seed: int) -> Verdict:
    """Tests a promise after that of a less changed form was not proven: then this one cannot be either."""
    verdict = judge(paired, promise, seed=seed)
    if verdict.kind != "proven":
        return verdict
    reason = "Unproven: it would be proven by itself, but a less changed variant, tested before it, is not."
    return replace(verdict, kind="unproven", sentence=reason)


def _is_acceptable(verdict: Verdict) -> bool:
    return verdict.kind == "unproven" and verdict.drop <= verdict.max_drop + TOLERANCE


def _line_up(trials: Sequence[Trial], cost: Callable[[Trial], float]) -> list[Trial]:
    """Returns those that may be tested, in order: what was trained may have gained by chance, what was not cannot."""
    stored = [trial for trial in trials if not trial.epochs]
    first = [min(stored, key=lambda trial: (max(trial.drop, 0.0), cost(trial)))] if stored else []
    return first + [trial for trial in _front(trials, cost) if not first or cost(trial) < cost(first[0])]


def _front(trials: Sequence[Trial], cost: Callable[[Trial], float]) -> list[Trial]:
    """Returns those than which no other has both less drop and less cost, the least drop first."""
    line: list[Trial] = []
    for trial in sorted(trials, key=lambda trial: (trial.drop, cost(trial))):
        if not line or cost(trial) < cost(line[-1]):
            line.append(trial)
    return line


def _thin(line: list[Trial]) -> list[Trial]:
    """Returns the first, the middle and the last."""
    if len(line) <= _MOST_TESTED:
        return line
    return [line[0], line[len(line) // 2], line[-1]]


def _count_proven(line: Sequence[Trial], verdicts: Mapping[str, Verdict]) -> int:
    count = 0
    while count < len(line) and line[count].name in verdicts and verdicts[line[count].name].kind == "proven":
        count += 1
    return count
