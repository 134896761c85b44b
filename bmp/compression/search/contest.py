"""The contest: chains carried out, measured on the validation split, timed, and tested on the test split."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from bmp.artifact.proof import Export
from bmp.compression.chain import UNCOMPRESSED, Chain
from bmp.compression.evidence.measure import Measurer, time_all
from bmp.compression.gate import Promise, record
from bmp.compression.search.front import find_front
from bmp.compression.search.outcome import Outcome, cost_of, decide
from bmp.compression.search.search import Found, Search
from bmp.compression.search.trial import Trial
from bmp.compression.search.workbench import Made, Workbench
from bmp.config import CompressConfig
from bmp.errors import StoppedError
from bmp.pace import say_duration

_TIMED = 12
"""Finalists that are timed side by side."""


@dataclass(frozen=True)
class Contest:
    """What came out.

    Args:
        outcome: Every trial, and which is recommended.
        finalists: Names of those that were timed side by side: the original, what was asked for by name, the front.
        ending: Why the search ended; empty where none was asked for.
        exit_code: What a process that was asked to stop meanwhile should end with; None otherwise.
    """

    outcome: Outcome
    finalists: tuple[str, ...]
    ending: str = ""
    exit_code: int | None = None


def promise_of(config: CompressConfig) -> Promise:
    """Returns the promise that a recipe gives.

    Raises:
        ConfigError: A limit is out of its range.
    """
    return Promise(config.max_drop, config.metric, config.confidence, config.class_floor, config.min_agreement)


def hold_contest(
    original: Export,
    asked: Sequence[Made],
    measurer: Measurer,
    config: CompressConfig,
    console: Console,
    *,
    bench: Workbench,
    chains: Sequence[Chain] | None = None,
    seed: int = 0,
) -> Contest:
    """Measures what was asked for, searches for better where that is wanted, and tests the best.

    Args:
        original: The uncompressed model in its file.
        asked: Chains that the recipe names, carried out.
        measurer: Exports and measures.
        config: The promise and the goal.
        console: Where each trial is told.
        bench: Carries further chains out.
        chains: What a search may try; None does not search.
        seed: Of resamples.

    Raises:
        ProofError: The original's file does not do what the model does.
        TrainingError: The loss is no longer finite.
    """
    base = measurer.measure_original(original)
    is_timed = config.goal != "size"
    if is_timed or not original.is_litert:
        base = base.timed(time_all({UNCOMPRESSED: original.load()}, measurer.data)[UNCOMPRESSED])
    if not original.is_litert:  # LiteRT cannot hold the network, in no form
        return Contest(Outcome((base,), UNCOMPRESSED, None, {}), (UNCOMPRESSED,))
    teller = _Teller(console, config, cost_of(config.goal, base))
    trials = {Chain(): (1.0, base)}
    for made in asked:
        trial = measurer.measure(made, bench.digest(made.chain), is_timed=is_timed)
        trials[made.chain] = 1.0, trial
        teller.tell(trial)
    found = Found(tuple(trial for _, trial in trials.values()), "")
    if chains is not None:
        search = Search(
            _evaluator(bench, measurer, is_timed),
            chains,
            cost_of(config.goal, base),
            config.max_drop,
            config.time_s,
            config.max_trials,
            bench.fit_share(config.time_s),
            tell=teller.tell,
            forecast_s=bench.forecast_s,
            trials=trials,
        )
        found = search.run()
    return _conclude(found, [made.chain.name for made in asked], measurer, config, seed)


def _evaluator(bench: Workbench, measurer: Measurer, is_timed: bool) -> Callable[[Chain, float], Trial]:
    stop = bench.workshop.trainer.place.stop

    def evaluate(chain: Chain, share: float) -> Trial:
        if stop.exit_code is not None:  # what needs no training would not notice
            raise StoppedError("The search was asked to stop.", exit_code=stop.exit_code)
        key = bench.digest(chain, share)
        known = measurer.recall(key)
        if known is not None and (known.latency is not None or not is_timed):
            return replace(known, is_final=share >= 1)
        began = time.perf_counter()
        made = bench.make(chain, share)
        trial = measurer.measure(made, key, is_final=share >= 1, is_timed=is_timed)
        return replace(trial, duration_s=time.perf_counter() - began)

    return evaluate


def _conclude(found: Found, asked: Sequence[str], measurer: Measurer, config: CompressConfig, seed: int) -> Contest:
    """Times the finalists side by side, and decides."""
    names = _pick_finalists(found.trials[1:], asked, config)
    runners = {trial.name: measurer.load(trial) for trial in found.trials if trial.name in (UNCOMPRESSED, *names)}
    timed = time_all(runners, measurer.data)
    trials = [trial.timed(timed[trial.name]) if trial.name in timed else trial for trial in found.trials]
    finalists = [trial for trial in trials if trial.name in timed]
    outcome = decide(
        finalists,
        config.goal,
        promise_of(config),
        lambda trial: record(measurer.load(trial), measurer.data.test),
        accept=config.accept,
        seed=seed,
    )
    return Contest(replace(outcome, trials=tuple(trials)), tuple(timed), found.ending, found.exit_code)


def _pick_finalists(trials: Sequence[Trial], asked: Sequence[str], config: CompressConfig) -> list[str]:
    """Returns what was asked for, and those of the others than which none is better in all respects."""
    front = sorted(find_front(trials), key=lambda trial: (trial.drop > config.max_drop, trial.gzip_bytes))
    named = [trial.name for trial in trials if trial.name in asked and trial.failure is None]
    return list(dict.fromkeys([*named, *(trial.name for trial in front[:_TIMED])]))


class _Teller:
    """Says what each trial came to, and what is best so far."""

    def __init__(self, console: Console, config: CompressConfig, cost: Callable[[Trial], float]) -> None:
        self._console, self._config, self._cost = console, config, cost
        self._best: Trial | None = None
        self._count = 0

    def tell(self, trial: Trial, *_: object) -> None:
        """Writes a line."""
        self._count += 1
        if trial.failure is not None:
            self._write(f"trial {self._count}  {trial.name}: not possible: {trial.failure}")
            return
        keeps = trial.keeps(self._config.max_drop)
        if trial.name != UNCOMPRESSED and keeps and (self._best is None or self._cost(trial) < self._cost(self._best)):
            self._best = trial
        best = "" if self._best is None else f"; best so far {self._best.name}, {1 / self._cost(self._best):.1f} x"
        spent = f", {trial.epochs} epoch{'s' if trial.epochs > 1 else ''}" if trial.epochs else ""
        spent += f", {say_duration(trial.duration_s)}" if trial.duration_s >= 1 else ""
        self._write(
            f"trial {self._count}  {trial.name}: {trial.score:.4f} ({0 - trial.drop:+.4f}), {trial.gzip_bytes:,} bytes "
            f"gzipped{spent}{'' if keeps else ', breaks the promise'}{best}"
        )

    def _write(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
