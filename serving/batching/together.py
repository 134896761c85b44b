"""Runs requests together: merges what fits, splits the answers, and keeps a bad example from its neighbours."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bmp.errors import InferenceError
from bmp.signature import Arrays, Signature
from serving.batching.plan import Plan
from serving.batching.policy import Policy, Ran
from serving.batching.work import Work
from serving.engines import Engine

if TYPE_CHECKING:
    from serving.models.model import LoadedModel


def run_together(model: LoadedModel, works: Sequence[Work]) -> None:
    """Runs requests to one model, as many together as its plan allows; each has outputs or an error afterwards.

    Nothing is raised, and nobody is waited for: this is for callers that have a queue of their own, such as an event
    loop. Threads call `LoadedModel.predict`, which bounds how many of them run at the same time.

    Args:
        model: Answers.
        works: In the order they came; their inputs have passed `LoadedModel.check`.
    """
    model.together.run(works)


class Together:
    """A model as a batch sees it; any number of threads may use it.

    Args:
        name: Of the model.
        version: Its number.
        signature: What the engine takes: requests of the same shapes go together.
        engine: Runs the model.
        plan: How many examples go together.
        policy: Whom to tell of it.
    """

    def __init__(
        self, name: str, version: int, signature: Signature, engine: Engine, plan: Plan, policy: Policy
    ) -> None:
        self.name = name
        self.version = version
        self.plan = plan
        self._engine = engine
        self._observe = policy.observe
        self._is_free = any(None in spec.shape for spec in signature.inputs)

    def run(self, works: Sequence[Work]) -> None:
        """Runs what is not too late; each has outputs or an error afterwards, and nothing is raised."""
        now = time.monotonic()
        left = [work for work in works if work.begin(now)]
        for batch in [left] if len(left) == 1 else self._arrange(left):
            self._run_batch(batch)

    def fits(self, work: Work, other: Work) -> bool:
        """Tells whether two requests may go together, as far as their shapes go."""
        return not self._is_free or _shapes(work) == _shapes(other)

    def _arrange(self, works: Sequence[Work]) -> list[list[Work]]:
        """Returns batches, the earliest first."""
        batches: list[list[Work]] = []
        filling: dict[object, tuple[list[Work], int]] = {}  # by shapes: the last batch of them, and its examples
        for work in works:
            key = _shapes(work) if self._is_free else None
            batch, count = filling.get(key, ([], 0))
            if not batch or count + work.count > self.plan.max_together:
                batch, count = [], 0
                batches.append(batch)
            batch.append(work)
            filling[key] = batch, count + work.count
        return batches

    def _run_batch(self, batch: Sequence[Work]) -> None:
        start = time.perf_counter()
        if len(batch) == 1:
            self._run_alone(batch[0])
        else:
            self._run_merged(batch)
        if self._observe is not None:
            self._observe(Ran(self.name, self.version, batch, _count(batch), time.perf_counter() - start))

    def _run_merged(self, batch: Sequence[Work]) -> None:
        """Runs several at once. Whoever's answer is not good then is asked alone: a neighbour may have spoiled it."""
        names = batch[0].inputs
        try:
            outputs = self._run({name: np.concatenate([work.inputs[name] for work in batch]) for name in names})
        except Exception:  # of one of them, and only alone it is known of which
            outputs = {}
        start, is_good = 0, bool(outputs) and self._find_bad(outputs) is None
        for work in batch:
            part = {name: rows[start : start + work.count] for name, rows in outputs.items()}
            start += work.count
            if is_good or (part and self._find_bad(part) is None):
                work.outputs = part
            else:
                self._run_alone(work)

    def _run_alone(self, work: Work) -> None:
        try:
            outputs = self._run(work.inputs)
            bad = self._find_bad(outputs)
            if bad is not None:
                raise InferenceError(f"Model '{self.name}' answered with a number that is not finite in '{bad}'.")
            work.outputs = outputs
        except Exception as error:  # it goes to whoever asked
            work.error = error

    def _run(self, inputs: Arrays) -> Arrays:
        """Runs a batch in the sizes that the engine is set up for."""
        count = len(next(iter(inputs.values())))
        pieces = self.plan.pieces(count)
        if pieces == (count,):
            return self._engine.run(inputs)
        answers, start = [], 0
        for size in pieces:
            answers.append(self._engine.run({name: _cut(rows, start, size) for name, rows in inputs.items()}))
            start += size
        return {name: np.concatenate([answer[name] for answer in answers])[:count] for name in answers[0]}

    def _find_bad(self, outputs: Arrays) -> str | None:
        """Returns the name of an output with a number that is not finite, if there is one."""
        return next((name for name, rows in outputs.items() if not np.isfinite(rows).all()), None)


def _cut(rows: np.ndarray, start: int, size: int) -> np.ndarray:
    """Returns so many rows; where they come to an end the last one is repeated, for it is known to be valid."""
    piece = rows[start : start + size]
    missing = size - len(piece)
    return np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)]) if missing else piece


def _shapes(work: Work) -> tuple[tuple[int, ...], ...]:
    return tuple(work.inputs[name].shape[1:] for name in sorted(work.inputs))


def _count(works: Sequence[Work]) -> int:
    return sum(work.count for work in works)
