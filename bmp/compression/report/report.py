"""All that a compression has found, as it is kept: what the pictures and tables are made of."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bmp.compression.evidence.kernels import KernelReport
from bmp.compression.gate import Promise
from bmp.compression.search.front import choose_per_goal, find_front
from bmp.compression.search.outcome import Goal, Outcome
from bmp.compression.search.trial import Trial
from bmp.errors import ArtifactError
from bmp.objectives import METRICS
from bmp.storage import write_atomically

REPORT_FILE = "compression.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Report:
    """What a compression has found.

    Args:
        model: Its name, as a person calls it.
        outcome: The trials and what was decided.
        promise: That was tested, its metric named.
        goal: What was wanted.
        ending: Why the search ended; a whole sentence.
        recipe: YAML that repeats the recommended chain.
        kernels: What runs the operations, by name of the trial.
        facts: Whatever else belongs to the evidence, in the order in which it is shown: seed, splits, machine.
    """

    model: str
    outcome: Outcome
    promise: Promise
    goal: Goal
    ending: str = ""
    recipe: str = ""
    kernels: Mapping[str, KernelReport] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def original(self) -> Trial:
        """The uncompressed model."""
        return self.outcome.trials[0]

    @property
    def recommended(self) -> Trial:
        """What serving is to run."""
        return self.outcome.trial(self.outcome.recommended)

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other is better than in every respect."""
        return find_front(self.outcome.trials)

    @property
    def limit(self) -> float:
        """The worst score on the validation split that keeps the promise."""
        sign = 1 if METRICS[self.promise.metric].greater_is_better else -1
        scale = abs(self.original.score) if METRICS[self.promise.metric].is_relative else 1.0
        return self.original.score - sign * self.promise.max_drop * scale

    def ranked(self) -> list[Trial]:
        """Returns the trials as a table shows them: the original, those that keep the promise, the others, failures."""

        def place(trial: Trial) -> tuple[int, float]:
            if trial.failure is not None:
                return 3, 0.0
            if trial is self.original:
                return 0, 0.0
            return (1 if self.keeps(trial) else 2), trial.gzip_bytes

        return sorted(self.outcome.trials, key=place)

    def keeps(self, trial: Trial) -> bool:
        """Returns whether a trial keeps the promise on the validation split."""
        return trial.keeps(self.promise.max_drop)

    def explain(self, trial: Trial) -> str:
        """Returns the verdict on a trial: one word, and where there is one a reason."""
        return self.outcome.explain(trial, self.promise.max_drop, self.promise.metric)

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes; numbers that are not finite become None."""
        outcome, front = self.outcome, {trial.name for trial in self.front}
        document = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "promise": asdict(self.promise),
            "goal": self.goal,
            "recommended": outcome.recommended,
            "accepted_unproven": outcome.accepted,
            "best_on_validation": outcome.best,
            "best_per_goal": {
                goal: trial.name for goal, trial in choose_per_goal(outcome.trials, self.promise.max_drop).items()
            },
            "ending": self.ending,
            "trials": [
                {**trial.to_json(), "is_on_front": trial.name in front, "verdict": self.explain(trial)}
                for trial in outcome.trials
            ],
            "verdicts": {name: verdict.to_json() for name, verdict in outcome.verdicts.items()},
            "kernels": {name: asdict(kernels) for name, kernels in self.kernels.items()},
            "recipe": self.recipe,
            "facts": dict(self.facts),
        }
        return _without_odd_numbers(document)


def write_json(report: Report, path: Path) -> None:
    """Writes a report; `read_json` reads it."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote: the keys of `Report.to_json`.

    Raises:
        ArtifactError: There is none, or it cannot be understood.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError(
            f"There is no {path.name} in {path.parent}: the model was not compressed by a search."
        ) from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); it is damaged.") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {version}; this bmp reads version {SCHEMA_VERSION}. Compress the model again.",
            expected=str(SCHEMA_VERSION),
            received=str(version),
        )
    return document


def _without_odd_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_odd_numbers(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_odd_numbers(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
