"""The search: which chain serves a goal best and keeps a promise, found without trying them all.

First every way to store numbers is measured, which needs no training. Then each technique by itself climbs: from its
middle level up while the promise is kept, or down until it is. What was measured so far says what is expected of the
other chains: effects of steps are taken to add up. From then on, in rounds, the chains that promise most, by what they
are expected to save and how likely they keep the promise, get a short fine-tuning, and the best third of them a whole
one. The search ends when nothing that is left is expected to be better, or when the time is over; what it has found by
then is its result.

Reference:
    Jamieson and Talwalkar: Non-stochastic best arm identification and hyperparameter optimization, 2016, section 3
    (successive halving, of which a round is one with two rungs).
    Gardner et al.: Bayesian optimization with inequality constraints, 2014, section 3 (the saving that counts is the
    one expected times the chance that the constraint holds).
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bmp.compression.chain import Chain, Step
from bmp.compression.search.space import Expectation, Forecaster, Observation
from bmp.compression.search.trial import Trial
from bmp.compression.technique import Stage
from bmp.errors import StoppedError
from bmp.training.stop import TIME_OVER

_ROUND = 6
"""Chains a round begins with."""
_KEPT = 3
"""One of how many gets all its epochs."""
_SHORT = 0.25
"""Share of the epochs that a chain of a round begins with."""
_DOUBT, _EARLY_DOUBT = 6.0, 0.0
"""By how many standard deviations a drop may be less than expected, for a chain to be worth a try; and the same while
all chains are yet to get more epochs, which is the better try."""
_LEAST_DOUBT = 0.1
"""The least standard deviation of a drop, as a share of the promise."""
_LEAST_PROMISE = 0.001
"""What drops are measured by where none at all is allowed."""
_MORE = 3.0
"""How many times as many epochs a whole fine-tuning gets when nothing is left at those it has."""
_MOST = 9.0
"""Up to how many times as many as were asked for, where there is time."""
_WORTHWHILE = 0.02
"""What a chain must be expected to save, as a share, to be tried."""


@dataclass(frozen=True)
class Found:
    """What a search ends with.

    Args:
        trials: The last of each chain, in the order in which they were first tried.
        ending: Why it ended; a whole sentence.
        exit_code: What a process that was asked to stop meanwhile should end with; None otherwise.
    """

    trials: tuple[Trial, ...]
    ending: str
    exit_code: int | None = None


@dataclass
class Search:
    """Looks for the chain that costs least among those that keep a promise.

    Args:
        evaluate: Makes and measures what a chain yields when its fine-tunings have a share of their epochs.
        chains: All that may be tried.
        cost: A trial to what is to be small, such as gzipped bytes.
        max_drop: The promise.
        time_s: How long it may take; None as long as it needs.
        max_trials: How many chains may be tried; the original does not count.
        whole: Share of its epochs that a whole fine-tuning begins with; while there is time, it becomes more. A short
            time is better spent on many tries than on one, a long one on what many epochs alone can do.
        tell: Is told of each trial as it is there.
        forecast_s: Seconds that a chain with a share of its epochs will take.
        clock: For tests.
    """

    evaluate: Callable[[Chain, float], Trial]
    chains: Sequence[Chain]
    cost: Callable[[Trial], float]
    max_drop: float
    time_s: float | None = None
    max_trials: int | None = None
    whole: float = 1.0
    tell: Callable[[Trial, "Search"], None] = lambda *_: None
    forecast_s: Callable[[Chain, float], float] = lambda *_: 0.0
    clock: Callable[[], float] = time.monotonic
    trials: dict[Chain, tuple[float, Trial]] = field(default_factory=dict)
    """The share of epochs and the result of each chain tried so far."""

    def run(self) -> Found:
        """Searches until nothing better is expected, or the time is over, or a signal comes."""
        self._began_s = self.clock()
        try:
            ending = self._search()
        except StoppedError as error:
            is_late = error.exit_code == TIME_OVER
            ending = "The time is over." if is_late else "It was stopped."
            return Found(self._results(), ending, None if is_late else error.exit_code)
        return Found(self._results(), ending)

    def best(self) -> Trial | None:
        """Returns the cheapest trial so far that keeps the promise on the validation split."""
        kept = [trial for _, trial in self.trials.values() if self._keeps(trial)]
        return min(kept, key=lambda trial: (self.cost(trial), trial.drop), default=None)

    def _search(self) -> str:
        self._try(Chain(), 1.0)
        stored = [chain for chain in self.chains if chain.steps and not _trains(chain)]
        if not self._try_all(stored, 1.0):
            return self._why_ended()
        while self._pass():
            most = 1.0 if self.time_s is None else _MOST
            if self.whole >= most:
                return "Nothing that is left is expected to be better."
            self.whole = min(most, self.whole * _MORE)
        return self._why_ended()

    def _pass(self) -> bool:
        """Searches with the epochs that a whole fine-tuning has now; returns whether the budget allowed it."""
        if not all(map(self._climb, self._ladders())):
            return False
        while contestants := self._propose():
            if not self._halve(contestants):
                return False
        return True

    def _ladders(self) -> list[list[Chain]]:
        """Returns, for each technique that trains, its levels by themselves, stored in the way that is best so far.

        Those of an earlier stage come first: a smaller network saves most, and makes all that follows quicker.
        """
        best = self.best()
        storage = next((chain for chain, (_, trial) in self.trials.items() if trial is best), Chain())
        found: dict[str, list[Chain]] = {}
        for chain in self.chains:
            training = [step for step in chain.steps if step.build().trains]
            settled = bool(training) and training[0].build().stage == Stage.TRAINED
            rest = tuple(step for step in chain.steps if not step.build().trains)
            if len(training) == 1 and rest == (() if settled else storage.steps):
                found.setdefault(training[0].name, []).append(chain)
        return sorted(found.values(), key=lambda ladder: min(step.build().stage for step in ladder[0].steps))

    def _climb(self, ladder: list[Chain]) -> bool:
        """Finds the highest level that keeps the promise; returns whether the budget allowed it."""
        level = len(ladder) // 2
        direction = 0
        while 0 <= level < len(ladder):
            if not self._try(ladder[level], self.whole):
                return False
            keeps = self._keeps(self.trials[ladder[level]][1])
            if direction and keeps != (direction > 0):
                return True
            direction = 1 if keeps else -1
            level += direction
        return True

    def _halve(self, contestants: list[Chain]) -> bool:
        """Gives all a short fine-tuning, the best a whole one; returns whether the budget allowed it."""
        fresh = [chain for chain in contestants if chain not in self.trials]
        if not self._try_all(fresh, _SHORT * self.whole):
            return False
        return self._try_all(self._rank(contestants)[: math.ceil(len(contestants) / _KEPT)], self.whole)

    def _propose(self) -> list[Chain]:
        """Returns chains that did not have all their epochs and promise most; of those trained alike, one."""
        open_ = [c for c in self.chains if c not in self.trials or self._is_short(*self.trials[c])]
        proposed: dict[tuple[Step, ...], Chain] = {}
        for chain in self._rank(open_, _WORTHWHILE):
            proposed.setdefault(tuple(step for step in chain.steps if step.build().trains), chain)
        return list(proposed.values())[:_ROUND]

    def _rank(self, chains: Sequence[Chain], worthwhile: float = 0.0) -> list[Chain]:
        """Returns those that may save more than the best so far, by the saving times the chance of keeping the promise.

        Args:
            chains: Any.
            worthwhile: The share that must be saved.
        """
        base = self.trials[Chain()][1]
        limit = math.log(self.cost(self.best() or base) / self.cost(base)) + math.log(1 - worthwhile)
        hopes = self._expect(chains)
        promise = {chain: (limit - hope.log_cost) * self._chance(hope) for chain, hope in hopes.items()}
        return sorted((chain for chain in chains if promise[chain] > 0), key=promise.__getitem__, reverse=True)

    def _expect(self, chains: Sequence[Chain]) -> dict[Chain, Expectation]:
        """Returns what is expected of chains, drops as `_weigh` has them."""
        base = self.trials[Chain()][1]
        observed = [
            Observation(chain, share, math.log(self.cost(trial) / self.cost(base)), self._weigh(trial.drop))
            for chain, (share, trial) in self.trials.items()
            if trial.failure is None and math.isfinite(trial.drop)
        ]
        forecaster = Forecaster(observed)
        return {chain: forecaster.expect(chain) for chain in chains}

    def _weigh(self, drop: float) -> float:
        """Returns a drop in promises, a large one by its logarithm: far too much tells little about a little.

        What a fine-tuning gains makes up for no loss: gains do not add up.
        """
        return math.log1p(max(drop, 0.0) / (self.max_drop or _LEAST_PROMISE))

    def _chance(self, expected: Expectation) -> float:
        """Returns how likely the promise is kept; 0 where that is beyond hope."""
        doubts = (expected.drop - self._weigh(self.max_drop)) / max(expected.doubt, _LEAST_DOUBT)
        most = _EARLY_DOUBT if self.whole < 1 else _DOUBT
        return 0.5 * math.erfc(doubts / math.sqrt(2)) if doubts <= most else 0.0

    def _is_short(self, share: float, trial: Trial) -> bool:
        return share < self.whole and trial.failure is None

    def _try_all(self, chains: Sequence[Chain], share: float) -> bool:
        return all(self._try(chain, share) for chain in chains)

    def _try(self, chain: Chain, share: float) -> bool:
        """Tries a chain; returns whether the budget allowed it. The original is always tried."""
        if chain in self.trials and self.trials[chain][0] >= share:
            return True
        if chain.steps and self._is_spent(chain, share):
            return False
        trial = self.evaluate(chain, share)
        is_news = chain not in self.trials or self.trials[chain][1].epochs != trial.epochs
        before = self.trials.get(chain)
        if before is not None and self._keeps(before[1]) and not self._keeps(trial):
            trial = before[1]  # more epochs may also spoil
        self.trials[chain] = share, trial
        if is_news:
            self.tell(trial, self)
        return True

    def _is_spent(self, chain: Chain, share: float) -> bool:
        if self._is_used_up() and chain not in self.trials:
            return True
        left_s = math.inf if self.time_s is None else self.time_s - (self.clock() - self._began_s)
        return self.forecast_s(chain, share) > left_s or left_s <= 0

    def _why_ended(self) -> str:
        if self._is_used_up():
            return f"All {self.max_trials} trials are used up."
        return "The time is over: what comes next would take longer than is left."

    def _is_used_up(self) -> bool:
        return self.max_trials is not None and len(self.trials.keys() - {Chain()}) >= self.max_trials

    def _keeps(self, trial: Trial) -> bool:
        return trial.keeps(self.max_drop)

    def _results(self) -> tuple[Trial, ...]:
        return tuple(trial for _, trial in self.trials.values())


def _trains(chain: Chain) -> bool:
    return any(step.build().trains for step in chain.steps)
