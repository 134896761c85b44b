"""What `compression.py` does with a network: trains and publishes it, searches, carries chains out, measures files."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from compression_cases import Case
from rich.console import Console

import bmp.run
from bmp.artifact.artifact import export_variant
from bmp.artifact.manifest import Measurement
from bmp.compress import compress, open_version
from bmp.compression.chain import UNCOMPRESSED, Chain, read_chain
from bmp.compression.evidence.measure import Measurer, time_all
from bmp.compression.gate import measure_metric, record
from bmp.compression.search.trial import Trial
from bmp.compression.search.workbench import Workbench, open_workbench
from bmp.data import Dataset
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.registry import Registry, Version
from bmp.training import Trainer


@dataclass(frozen=True)
class Result:
    """The recommended variant of one seed, against the uncompressed network; every figure is of an exported file.

    Args:
        chain: How it was made.
        accuracy: Of the uncompressed network on the test split.
        drop: How much less the recommended one has there.
        h5_over_gzip: Bytes of the plain `.h5`, raw, over those of the recommended file, gzipped.
        raw_size: Bytes of the uncompressed `.tflite` file over those of the recommended one, neither packed.
        latency: Median milliseconds at batch 1 of the uncompressed `.tflite` file over those of the recommended one,
            taken in turns.
        trials: That the search made.
        bytes_: Of the recommended file, gzipped.
    """

    chain: str
    accuracy: float
    drop: float
    h5_over_gzip: float
    raw_size: float
    latency: float
    trials: int
    bytes_: int


@dataclass(frozen=True)
class Published:
    """A network that was trained and published: its registry, its version, the bytes of its plain `.h5`, its splits."""

    registry: Path
    version: Version
    h5_bytes: int
    splits: str


@dataclass(frozen=True)
class Bench:
    """What carries chains out for a published network, and measures them; and what the network itself measures."""

    workbench: Workbench
    measurer: Measurer
    data: Dataset
    original: Trial


def publish(case: Case, seed: int, directory: Path) -> Published:
    """Trains a network and publishes it, uncompressed; what an earlier call has published is taken as it is."""
    registry = directory / f"{case.name}-{seed}"
    if not (registry / case.name).is_dir():
        bmp.run.run(case.to_recipe(seed, registry), run_dir=directory / f"run-{case.name}-{seed}", console=_quiet())
    version = Registry(registry).resolve(case.name, "1")
    data = open_version(Registry(registry), f"{case.name}/1", (), None, _quiet()).data
    splits = f"{len(data.train)} / {len(data.validation)} / {len(data.test)}"
    return Published(registry, version, weigh_plain_h5(version.path / "model.h5", registry / "plain.h5"), splits)


def weigh_plain_h5(packed: Path, plain: Path) -> int:
    """Saves a network the way people do, and returns the bytes."""
    import tf_keras as keras

    import bmp.models.layers  # noqa: F401 - registers bmp's own layers

    model = keras.models.load_model(packed, compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.save(plain, include_optimizer=False)
    return plain.stat().st_size


def search(case: Case, seed: int, time: str, directory: Path, console: Console) -> Result:
    """Publishes a network, lets `bmp.compress` search, and returns what it recommends."""
    published = publish(case, seed, directory)
    console.print(f"{case.name}, seed {seed}: splits {published.splits}, plain .h5 {published.h5_bytes:,} bytes")
    done = compress(
        f"{case.name}/1",
        case.to_overrides(time=time),
        registry=str(published.registry),
        work_dir=str(directory / f"work-{case.name}-{seed}"),
        console=console,
    )
    trials = len(done.contest.outcome.trials) - 1  # the first is the uncompressed network
    if done.version is None:  # the promise could not be met: what is recommended is the uncompressed network
        base = published.version.read_manifest().variant(UNCOMPRESSED).measured
        return _compare(UNCOMPRESSED, base, base, published, trials)
    manifest = done.version.read_manifest()
    base, best = manifest.variant(UNCOMPRESSED).measured, manifest.variant(manifest.recommended).measured
    return _compare(manifest.recommended, base, best, published, trials)


def _compare(chain: str, base: Measurement, best: Measurement, published: Published, trials: int) -> Result:
    return Result(
        chain=chain,
        accuracy=base.test_score,
        drop=base.test_score - best.test_score,
        h5_over_gzip=published.h5_bytes / best.gzip_bytes,
        raw_size=base.size_bytes / best.size_bytes,
        latency=base.latency_batch1_ms / best.latency_batch1_ms,
        trials=trials,
        bytes_=best.gzip_bytes,
    )


def open_bench(published: Published, overrides: Sequence[str], directory: Path) -> Bench:
    """Returns what carries chains out for a published network.

    Args:
        published: By `publish`.
        overrides: Of the section `compress` of its recipe.
        directory: For exported files.
    """
    reference = f"{published.version.name}/{published.version.number}"
    opened = open_version(Registry(published.registry), reference, overrides, None, _quiet())
    recipe, data = opened.recipe, opened.data
    trainer = Trainer(
        data,
        STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=opened.build.optimizer,
        batch_size=recipe.data.batch_size,
        seed=recipe.seed,
        console=_quiet(),
        config=recipe.train,
    )
    workbench = open_workbench(opened.model, recipe, trainer)
    (directory / "variants").mkdir(parents=True, exist_ok=True)
    measurer = Measurer(data, workbench.workshop, recipe.compress.metric, directory)
    original = measurer.measure_original(export_variant(UNCOMPRESSED, opened.model, data.signature, directory))
    return Bench(workbench, measurer, data, original)


def answer_all(bench: Bench, chains: Sequence[Chain]) -> dict[Chain, np.ndarray]:
    """Carries chains out and returns, for each, which examples of the test split its exported file gets right."""
    answers = {}
    for chain in chains:
        trial = bench.measurer.measure(bench.workbench.make(chain), bench.workbench.digest(chain))
        if trial.failure is not None:
            raise SystemExit(f"{chain.name}: {trial.failure}")
        found = record(bench.measurer.load(trial), bench.data.test)
        answers[chain] = found.decisions == found.targets
    return answers


def carry_out(case: Case, seed: int, directory: Path) -> Result:
    """Returns what the case's own chain comes to: nothing is chosen, so validation examples play no part."""
    published = publish(case, seed, directory)
    bench = open_bench(published, case.to_overrides(), directory / f"chain-{case.name}-{seed}")
    chain = read_chain(list(case.chain))
    trial = bench.measurer.measure(bench.workbench.make(chain), bench.workbench.digest(chain))
    if trial.failure is not None:
        raise SystemExit(f"{chain.name}: {trial.failure}")
    runners = {kind: bench.measurer.load(one) for kind, one in (("before", bench.original), ("after", trial))}
    accuracy = {kind: measure_metric(record(runner, bench.data.test), "accuracy") for kind, runner in runners.items()}
    latency = {kind: times[1].p50_ms for kind, times in time_all(runners, bench.data).items()}
    return Result(
        chain=chain.name,
        accuracy=accuracy["before"],
        drop=accuracy["before"] - accuracy["after"],
        h5_over_gzip=published.h5_bytes / trial.gzip_bytes,
        raw_size=bench.original.raw_bytes / trial.raw_bytes,
        latency=latency["before"] / latency["after"],
        trials=1,
        bytes_=trial.gzip_bytes,
    )


def _quiet() -> Console:
    return Console(quiet=True)
