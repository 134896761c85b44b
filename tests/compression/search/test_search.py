"""The search: held against trying everything, on landscapes that are known."""

import itertools
import math
import random

import pytest

from bmp.compression.chain import Chain
from bmp.compression.search.search import Search
from bmp.compression.search.space import Forecaster, Observation, list_chains, list_steps
from bmp.compression.search.trial import Trial
from bmp.errors import ConfigError, StoppedError, UnknownNameError
from bmp.training.stop import TIME_OVER

NAMES = ("channels", "prune", "cluster", "float16", "dynamic", "int8")
SAVES = {"channels": 0.9, "prune": 0.7, "cluster": 0.5, "float16": 0.6, "dynamic": 1.2, "int8": 1.25}
HURTS = {"channels": 0.003, "prune": 0.004, "cluster": 0.002, "float16": 0.0, "dynamic": 0.0005, "int8": 0.001}


class Landscape:
    """A made-up world: what each step saves and costs, alone and together, with some noise."""

    def __init__(self, seed: int) -> None:
        draw = random.Random(seed)
        steps = list_steps(NAMES, "size")
        self.saving, self.hurt = {}, {}
        for name, group in itertools.groupby(steps, key=lambda step: step.name):
            saving, hurt = SAVES[name] * draw.uniform(0.6, 1.4), HURTS[name] * draw.uniform(0.3, 2.0)
            for level, step in enumerate(group, start=1):
                self.saving[str(step)] = saving * level * draw.uniform(0.9, 1.1)
                self.hurt[str(step)] = hurt * level**1.5
        self.seed, self.tried = seed, []
        self.chains = list_chains(steps)

    def measure(self, chain: Chain, share: float = 1.0) -> Trial:
        noise = random.Random(f"{self.seed} {chain.name}")
        trains = sum(step.build().trains for step in chain.steps)
        together = 1.0 - 0.06 * max(len(chain.steps) - 1, 0)
        saving = sum(self.saving[str(step)] for step in chain.steps) * together * noise.uniform(0.97, 1.03)
        hurt = sum(self.hurt[str(step)] for step in chain.steps) + 0.004 * trains * (1 - share)
        drop = hurt + noise.gauss(0, 0.001) * bool(chain.steps)
        return Trial(chain.name, gzip_bytes=round(1e6 / math.exp(saving)), drop=drop, epochs=round(9 * share) * trains)

    def evaluate(self, chain: Chain, share: float) -> Trial:
        self.tried.append((chain, share))
        return self.measure(chain, share)

    def search(self, **settings: object) -> Search:
        return Search(self.evaluate, self.chains, lambda trial: trial.gzip_bytes, 0.01, **settings)

    def best_bytes(self) -> int:
        return min(t.gzip_bytes for t in map(self.measure, self.chains) if t.drop <= 0.01)


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_nearly_the_best_in_a_part_of_the_trials(seed: int) -> None:
    world = Landscape(seed)
    search = world.search()
    found = search.run()
    best = search.best()
    assert best is not None
    assert best.drop <= 0.01
    assert best.gzip_bytes <= 1.25 * world.best_bytes()
    assert len(found.trials) <= 0.4 * len(world.chains)
    assert found.ending == "Nothing that is left is expected to be better."


def test_on_average_it_is_within_three_percent() -> None:
    ratios = []
    for seed in range(5):
        world = Landscape(seed)
        search = world.search()
        search.run()
        ratios.append(search.best().gzip_bytes / world.best_bytes())
    assert sum(ratios) / len(ratios) <= 1.03


def test_the_budget_is_kept_and_the_best_so_far_returned() -> None:
    world = Landscape(0)
    found = world.search(max_trials=7).run()
    assert len(found.trials) == 1 + 7, "the original is none of them"
    assert found.ending == "All 7 trials are used up."
    now = itertools.count()
    slow = world.search(time_s=10.0, clock=lambda: float(next(now)), forecast_s=lambda chain, share: 1.0)
    ended = slow.run()
    assert 1 < len(ended.trials) <= 10
    assert ended.ending.startswith("The time is over")
    assert slow.best() is not None


@pytest.mark.parametrize(
    ("code", "ending", "left"), [(130, "It was stopped.", 130), (TIME_OVER, "The time is over.", None)]
)
def test_a_signal_in_the_middle_of_a_trial_loses_nothing(code: int, ending: str, left: int | None) -> None:
    world = Landscape(1)

    def interrupted(chain: Chain, share: float) -> Trial:
        if len(world.tried) == 9:
            raise StoppedError("asked to stop", exit_code=code)
        return world.evaluate(chain, share)

    search = Search(interrupted, world.chains, lambda trial: trial.gzip_bytes, 0.01)
    found = search.run()
    assert len(found.trials) == 9
    assert (found.ending, found.exit_code) == (ending, left)


def test_most_get_a_short_fine_tuning_and_few_a_whole_one() -> None:
    world = Landscape(2)
    world.search().run()
    trained = [(chain, share) for chain, share in world.tried if sum(step.build().trains for step in chain.steps) > 1]
    short, whole = ([chain for chain, share in trained if share == rung] for rung in (0.25, 1.0))
    assert len(short) >= len(whole) > 0
    assert set(whole) <= set(short)
    assert len(set(trained)) == len(trained)  # nothing twice


def test_a_technique_climbs_to_the_highest_level_that_keeps_the_promise() -> None:
    world = Landscape(4)
    world.search().run()
    alone = {c.steps[0].args["sparsity"]: world.measure(c).drop for c, share in world.tried if _is_pruning_alone(c)}
    kept = [level for level, drop in alone.items() if drop <= 0.01]
    lost = [level for level, drop in alone.items() if drop > 0.01]
    assert 0.8 in alone
    assert not kept or not lost or max(kept) < min(lost)


def _is_pruning_alone(chain: Chain) -> bool:
    return [step.name for step in chain.steps if step.build().trains] == ["prune"]


def test_a_chain_that_is_not_possible_is_passed_over() -> None:
    world = Landscape(3)

    def failing(chain: Chain, share: float) -> Trial:
        if any(step.name == "cluster" for step in chain.steps):
            return Trial(chain.name, failure="no kernel to share values in")
        return world.evaluate(chain, share)

    search = Search(failing, world.chains, lambda trial: trial.gzip_bytes, 0.01)
    search.run()
    assert search.best() is not None
    assert "cluster" not in search.best().name


def test_effects_of_steps_add_up_in_a_forecast() -> None:
    steps = {str(step): step for step in list_steps(["prune", "int8"], "size")}
    prune, int8 = Chain((steps["prune-0.8-sensitive"],)), Chain((steps["int8"],))
    seen = [
        Observation(Chain(), 1.0, 0.0, 0.0),
        Observation(prune, 1.0, -1.0, 0.004),
        Observation(int8, 1.0, -1.3, 0.001),
    ]
    forecaster = Forecaster(seen)
    both = forecaster.expect(Chain((*prune.steps, *int8.steps)))
    assert both.log_cost == pytest.approx(-2.3, abs=0.03)
    assert both.drop == pytest.approx(0.005, abs=1e-4)
    kin = forecaster.expect(Chain((steps["prune-0.9-sensitive"],)))  # never tried: as its like
    assert kin.log_cost == pytest.approx(-1.0, abs=0.02)
    assert both.doubt > 0.002  # each step was seen once: it fits what was seen, and says nothing of how it errs


def test_where_all_levels_break_the_promise_on_few_epochs_they_get_more() -> None:
    tried: list[tuple[str, float]] = []

    def evaluate(chain: Chain, share: float) -> Trial:
        tried.append((chain.name, share))
        trains = any(step.build().trains for step in chain.steps)
        drop = 0.3 * (1 - share) if trains else 0.0
        return Trial(chain.name, gzip_bytes=round(1e6 / (1 + len(chain.steps) + 9 * trains)), drop=drop)

    chains = list_chains(list_steps(["channels", "dynamic", "int8"], "size"))
    search = Search(evaluate, chains, lambda trial: trial.gzip_bytes, 0.01, whole=0.1)
    search.run()
    assert search.best().name.startswith("channels")
    in_vain = [name for name, share in tried if share < 0.3 and name.startswith("channels")]
    assert len(in_vain) <= 4  # the way down the ladder, and no round of what cannot be


def test_chains_have_one_step_of_a_stage_at_most_and_a_useful_one_for_the_goal() -> None:
    chains = list_chains(list_steps(["channels", "prune", "two_of_four", "dynamic", "int8"], "size"))
    assert len(chains) == 5 * 7 * 3
    assert len({chain.name for chain in chains}) == len(chains)
    assert {step.name for step in list_steps(["prune", "channels", "dynamic"], "latency")} == {"channels", "dynamic"}
    with pytest.raises(ConfigError, match="The goal is latency, but prune, cluster save bytes and no time"):
        list_steps(["prune", "cluster"], "latency")
    with pytest.raises(UnknownNameError, match="Did you mean 'int8'"):
        list_chains(list_steps(["int7"], "size"))
