"""What compression reaches: the figures of small networks, each measured on the exported file.

Every network is trained, published, and given to the search of `bmp compress` with a promise; what it recommends stands
against the uncompressed network. The drop of accuracy is that on the test split, which neither training nor search has
seen. Figures are means over seeds; each seed draws its own splits, weights and order. `--parts` chooses among:

  lenet300     LeNet-300-100 on scikit-learn's digits: bytes of the plain .h5 over those of the file, gzipped
  lenet5       LeNet-5 on photographs of hands, 32x32, grey (`--signs`): the same
  mlp          784-2048-2048-10 on enlarged digits: median latency at batch 1, both files taking turns, one thread
  resnet       a small residual network on the photographs: the same
  transformer  a small encoder on digits, row by row: bytes of the .tflite file, neither packed; and latency
  chains       lenet300, lenet5 and resnet once more, by one chain of techniques: nothing is searched for or chosen
  student      a quarter of the parameters, distilled against trained alone
  pqat         [prune, qat] against [prune, int8] on each of these networks: test accuracy of the exported files
  search       the search against trying every combination of a small grid
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import compression_student as students
import numpy as np
from compression_cases import CASES, Case
from compression_runs import Result, answer_all, carry_out, open_bench, publish, search
from compression_search import compare_search
from rich.console import Console
from rich.table import Table

from bmp.compression.chain import read_chain
from bmp.errors import BmpError

PRUNED = {"prune": {"sparsity": 0.8}}
PQAT_EPOCHS = {"resnet": 40}  # after fewer it has not recovered from the pruning, and there is nothing to compare
PQAT_EPOCHS_OF_OTHERS = 10
NORMAL_95 = 1.96
ON_PHOTOGRAPHS = {"lenet5", "resnet"}
STUDENT_SEEDS, TEMPERATURE, ALPHA = 5, 2.0, 0.9
"""The defaults of `compression_student.py`."""


@dataclass(frozen=True)
class Line:
    """One figure.

    Args:
        name: Of it.
        figure: The mean over seeds.
        aim: In words.
        is_met: Whether the figure is what it should be.
        seeds: What each seed came to.
    """

    name: str
    figure: float
    aim: str
    is_met: bool
    seeds: Sequence[Any]


@dataclass(frozen=True)
class Settings:
    """What every part is given: a directory, seeds, photographs, the time of a search, networks of `pqat`, `chains`."""

    directory: Path
    seeds: tuple[int, ...]
    signs: Path
    time: str
    networks: tuple[str, ...]
    console: Console


def measure_case(name: str, settings: Settings) -> list[Line]:
    """Searches for a compressed form of a network, and compares the recommended one with the uncompressed one."""
    case = CASES[name](settings.signs)
    results = []
    for seed in settings.seeds:
        results.append(search(case, seed, settings.time, settings.directory, settings.console))
        settings.console.print(f"{name}, seed {seed}: {results[-1]}", highlight=False, soft_wrap=True)
    lines = compare(case, results)
    if name == "transformer":
        seeds = [asdict(result) for result in results]
        lines.append(at_least("Transformer encoder: latency", [result.latency for result in results], 1, seeds))
    return lines


def measure_chains(settings: Settings) -> list[Line]:
    """Carries out one chain for each network that has one, and compares the result with the uncompressed network."""
    lines = []
    for name in settings.networks:
        case = CASES[name](settings.signs)
        if not case.chain:
            continue
        results = []
        for seed in settings.seeds:
            results.append(carry_out(case, seed, settings.directory))
            settings.console.print(f"{name}, seed {seed}: {results[-1]}", highlight=False, soft_wrap=True)
        lines += compare(case, results, "by one chain, ")
    return lines


def compare(case: Case, results: Sequence[Result], how: str = "") -> list[Line]:
    """Returns the figure of a network and the drop that it costs."""
    seeds = [asdict(result) for result in results]
    name = case.title.partition(":")[0]
    return [
        at_least(how + case.title, [getattr(result, case.figure) for result in results], case.aim, seeds),
        at_most(f"{how}{name}: drop, points", [result.drop for result in results], case.max_drop, seeds),
    ]


def at_least(name: str, figures: Sequence[float], aim: float, seeds: Sequence[Any]) -> Line:
    mean = statistics.mean(figures)
    return Line(name, mean, f"at least {aim:g}", mean >= aim, seeds)


def at_most(name: str, drops: Sequence[float], aim: float, seeds: Sequence[Any]) -> Line:
    """Returns the mean of drops, given as shares, in points."""
    mean = 100 * statistics.mean(drops)
    return Line(name, mean, f"at most {100 * aim:g}", mean <= 100 * aim + 1e-9, seeds)


def measure_student(settings: Settings) -> list[Line]:
    """Compares a student that learns from its teacher with one that learns from the targets alone; see that file."""
    rows = []
    for seed in range(students.FIRST_SEED, students.FIRST_SEED + STUDENT_SEEDS):
        rows.append(students.run(students.DIGITS, seed, TEMPERATURE, ALPHA))
        settings.console.print(f"  {rows[-1]}", highlight=False, soft_wrap=True)
    mean, low, high = students.paired_interval([row["taught"] - row["alone"] for row in rows])
    aim = f"at least {100 * students.AIM:g} ({100 * low:+.2f} to {100 * high:+.2f})"
    return [Line("student: gain by its teacher, points", 100 * mean, aim, mean >= students.AIM, rows)]


def measure_pqat(settings: Settings) -> list[Line]:
    """Compares training for the rounding of a pruned network with rounding it afterwards, on the same examples."""
    lines = []
    for name in settings.networks:
        gains = []
        for seed in settings.seeds:
            gains.append(gain_by_training(name, seed, settings))
            settings.console.print(f"{name}, seed {seed}: {gains[-1].mean():+.2f} points", highlight=False)
        pooled = np.concatenate(gains)
        half = NORMAL_95 * float(pooled.std(ddof=1)) / len(pooled) ** 0.5
        mean = float(pooled.mean())
        aim = f"not below 0 beyond noise ({mean - half:+.2f} to {mean + half:+.2f})"
        lines.append(Line(f"{name}: PQAT, points", mean, aim, mean + half >= 0, [float(gain.mean()) for gain in gains]))
    return lines


def gain_by_training(name: str, seed: int, settings: Settings) -> np.ndarray:
    """Returns, by test example, 100 where only [prune, qat] is right, -100 where only [prune, int8] is, and else 0."""
    case = CASES[name](settings.signs)
    published = publish(case, seed, settings.directory)
    epochs = PQAT_EPOCHS.get(name, PQAT_EPOCHS_OF_OTHERS)
    bench = open_bench(published, case.to_overrides(epochs=epochs), settings.directory / f"pqat-{name}-{seed}")
    by_rounding, by_training = read_chain([PRUNED, "int8"]), read_chain([PRUNED, "qat"])
    right = answer_all(bench, [by_rounding, by_training])
    return 100.0 * (right[by_training].astype(float) - right[by_rounding].astype(float))


def measure_search(settings: Settings) -> list[Line]:
    """Compares what the search finds with the best of all chains."""
    found = []
    for seed in settings.seeds:
        found.append(compare_search(seed, settings.directory, settings.console))
        settings.console.print(f"  {found[-1]}", highlight=False, soft_wrap=True)
    seeds = [asdict(comparison) for comparison in found]
    excess = statistics.mean(comparison.excess for comparison in found)
    share = statistics.mean(comparison.share for comparison in found)
    return [
        Line("search: larger than the best of all, %", 100 * excess, "at most 3", excess <= 0.03, seeds),
        Line("search: share of all chains it tries, %", 100 * share, "at most 40", share <= 0.4, seeds),
    ]


PARTS: dict[str, Callable[[Settings], list[Line]]] = {
    **{name: partial(measure_case, name) for name in CASES},
    "chains": measure_chains,
    "student": measure_student,
    "pqat": measure_pqat,
    "search": measure_search,
}


def report(lines: Sequence[Line], output: Path, options: argparse.Namespace) -> None:
    table = Table("compression", "mean", "aim", "met", title=f"seeds {', '.join(map(str, options.seeds))}")
    for line in lines:
        table.add_row(line.name, f"{line.figure:.3g}", line.aim, "yes" if line.is_met else "no")
    Console().print(table)
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(options).items()}
    figures = [asdict(line) for line in lines]
    output.write_text(json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--signs", type=Path, default=Path("sign-digits"), help="a folder a class, of photographs")
    parser.add_argument("--time", default="120s", help="of each search")
    parser.add_argument("--networks", nargs="+", choices=list(CASES), default=list(CASES), help="of pqat and chains")
    parser.add_argument("--directory", type=Path, help="kept, and taken up again; by default a new one, for the time")
    parser.add_argument("--output", type=Path, default=Path("results/compression.json"))
    options = parser.parse_args()
    asked = {*options.parts, *(options.networks if {"pqat", "chains"} & {*options.parts} else ())}
    if asked & ON_PHOTOGRAPHS and not options.signs.is_dir():
        parser.error(
            f"there is no folder {options.signs}; give --signs one of photographs, a folder a class, or leave "
            f"{' and '.join(sorted(ON_PHOTOGRAPHS))} out of --parts, and of --networks"
        )
    with tempfile.TemporaryDirectory(prefix="bmp-bench-") as name:
        settings = Settings(
            options.directory or Path(name),
            tuple(options.seeds),
            options.signs.absolute(),
            options.time,
            tuple(options.networks),
            Console(),
        )
        settings.directory.mkdir(parents=True, exist_ok=True)
        lines = []
        try:
            for part in options.parts:
                print(f"{part}:", flush=True)
                lines += PARTS[part](settings)
        except BmpError as error:
            sys.exit(error.message)
    report(lines, options.output, options)


if __name__ == "__main__":
    main()
