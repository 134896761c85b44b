"""The search against trying every combination: what each finds, and after how many trials."""

from dataclasses import dataclass, replace
from pathlib import Path

from compression_cases import make_lenet300
from compression_runs import Bench, open_bench, publish
from rich.console import Console

from bmp.compression.chain import Chain, Step
from bmp.compression.search.outcome import cost_of
from bmp.compression.search.search import Search
from bmp.compression.search.space import list_chains
from bmp.compression.search.trial import Trial

STEPS = (
    *(Step("channels", {"remove": share}) for share in (0.25, 0.5, 0.75)),
    *(Step("prune", {"sparsity": share}) for share in (0.5, 0.7, 0.9)),
    Step("cluster", {"clusters": 16}),
    Step("dynamic"),
    Step("int8"),
)
"""Each combination of these is a chain."""
EPOCHS = 10


@dataclass(frozen=True)
class Comparison:
    """One seed: how much larger what the search has found is than the best there is, and the share of trials it took.

    Args:
        excess: 0 where it has found the best.
        share: Of all chains, that the search has tried.
        evaluations: Files that it has measured, those of a chain on a short budget counted by themselves.
        chains: All there are.
        best: The smallest that keeps the promise.
        found: By the search.
    """

    excess: float
    share: float
    evaluations: int
    chains: int
    best: str
    found: str


def compare_search(seed: int, directory: Path, console: Console) -> Comparison:
    """Tries every chain on LeNet-300-100, then searches as if nothing were known."""
    case = make_lenet300(directory)
    published = publish(case, seed, directory)
    bench = open_bench(published, case.to_overrides(epochs=EPOCHS), directory / f"every-{seed}")
    chains = list_chains(STEPS)
    known = {chain: _measure(bench, chain, 1.0) for chain in chains if chain.steps}
    known[Chain()] = bench.original
    cost = cost_of("size", bench.original)
    kept = [trial for trial in known.values() if trial.failure is None and trial.drop <= case.max_drop + 1e-9]
    best = min(kept, key=lambda trial: (cost(trial), trial.drop))
    console.print(f"  seed {seed}: {len(chains)} chains, {len(kept)} keep the promise, the smallest is {best.name}")
    counted: list[str] = []

    def evaluate(chain: Chain, share: float) -> Trial:
        counted.append(chain.name)
        return known[chain] if share >= 1 else replace(_measure(bench, chain, share), is_final=False)

    search = Search(evaluate, chains, cost, case.max_drop, trials={Chain(): (1.0, bench.original)})
    search.run()
    found = search.best()
    assert found is not None, "the original keeps the promise"
    return Comparison(
        excess=cost(found) / cost(best) - 1,
        share=len(search.trials) / len(chains),
        evaluations=len(counted),
        chains=len(chains),
        best=best.name,
        found=found.name,
    )


def _measure(bench: Bench, chain: Chain, share: float) -> Trial:
    made = bench.workbench.make(chain, share)
    return bench.measurer.measure(made, bench.workbench.digest(chain, share), is_final=share >= 1).trial
