"""Training by bmp against the same training by hand, side by side in one run (`make bench`).

Every training is a process of its own, and the sides take turns, so that a busy machine slows both. Absolute numbers
mean little; the ratios are the result. `--parts` chooses among:

  overhead  plain settings against `model.compile` and `model.fit` of the same network, data and optimizer
  auto      `jit: auto`, `steps_per_execution: auto` against plain `fit`: a small network, and a character GPT
  recipes   the shipped recipes that train a network, each as it is, against plain `fit`
  saving    a checkpoint every two seconds against none
  workers   two workers, a core each, against one on one core, and against two that are started by hand
  restart   from the kill of a worker to the next step
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import training_workers
from rich.console import Console
from rich.table import Table

from bmp.config import Recipe, list_recipes, load_recipe, write_recipe

CHILD = Path(__file__).with_name("one_training.py")
SPLIT = {"train": 0.8, "validation": 0.1, "test": 0.1}
PLAIN = {"jit": False, "steps_per_execution": 1}
LETTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Line:
    """One comparison.

    Args:
        name: Of what was compared.
        figure: What came out.
        aim: What it should be, `at least` or `at most`.
        rounds: What was measured, round by round.
    """

    name: str
    figure: float
    aim: str
    rounds: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """What every part is given: a directory for its files, rounds, the share of the steps, data, and which recipes."""

    directory: Path
    rounds: int
    scale: float
    text: Path
    pictures: Path
    recipes: tuple[str, ...]


def make_arrays(path: Path, shape: tuple[int, ...], count: int) -> None:
    """Writes clusters, a class each, with much noise; bytes where the shape is that of a picture."""
    random = np.random.default_rng(0)
    targets = np.arange(count) % 10
    centres = random.normal(size=(10, *shape)).astype(np.float32)
    examples = centres[targets] + 3 * random.normal(size=(count, *shape)).astype(np.float32)
    if len(shape) > 1:
        examples = np.clip(128 + 20 * examples, 0, 255).astype(np.uint8)
    np.savez(path, features=examples, y=targets)


def make_text(path: Path) -> None:
    """Writes 1.1 million of 65 letters."""
    random = np.random.default_rng(0)
    path.write_text("".join(random.choice(list(LETTERS), 1_115_394)), encoding="utf-8")


def make_pictures(directory: Path) -> None:
    """Writes 206 pictures of 100x100 pixels for each of ten classes."""
    random = np.random.default_rng(0)
    for label in range(10):
        folder = directory / str(label)
        folder.mkdir(parents=True)
        for number in range(206):
            pixels = random.integers(0, 256, (10, 10, 3), np.uint8)
            PIL.Image.fromarray(pixels).resize((100, 100)).save(folder / f"{number}.jpg")


def make_recipe(name: str, settings: Settings, model: dict[str, Any], train: dict[str, Any], batch: int) -> Recipe:
    """Returns a recipe over made-up arrays: numbers for a dense network, pictures for a convolutional one."""
    is_dense = model["build"] == "mlp"
    path = settings.directory / ("numbers.npz" if is_dense else "pictures.npz")
    if not path.is_file():
        make_arrays(path, (784,) if is_dense else (28, 28, 1), 30_000)
    data = {"source": "arrays", "args": {"path": str(path), "target": "y"}, "split": SPLIT, "batch_size": batch}
    return Recipe.model_validate(
        {
            "data": {**data, "transforms": []},
            "model": model,
            "train": train,
            "compress": {"chains": []},
            "publish": {"name": name, "root": str(settings.directory / "registry")},
        }
    )


def scale_steps(recipe: Recipe, scale: float) -> Recipe:
    """Returns a recipe of that share of its steps or epochs."""
    train = recipe.train
    if train.steps is None:
        return recipe.model_copy(
            update={"train": train.model_copy(update={"epochs": max(1, round(train.epochs * scale))})}
        )
    stretch = train.validate_every if isinstance(train.validate_every, int) else train.steps
    steps = max(1, round(train.steps * scale / stretch)) * stretch
    return recipe.model_copy(update={"train": train.model_copy(update={"steps": steps})})


def train_once(side: str, recipe: Recipe, settings: Settings) -> float:
    """Trains in a new process and returns the seconds it took."""
    with tempfile.TemporaryDirectory(dir=settings.directory) as name:
        file = Path(name) / "recipe.yaml"
        write_recipe(scale_steps(recipe, settings.scale), file)
        command = [sys.executable, str(CHILD), side, str(file), str(Path(name) / "run")]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"The training {recipe.publish.name} by {side} failed:\n{done.stderr[-4000:]}")
    pace = [line for line in done.stderr.splitlines() if line.startswith("pace")]
    duration_s = json.loads(done.stdout.splitlines()[-1])["duration_s"]
    print(f"  {recipe.publish.name} by {side}: {duration_s:.2f} s  {' '.join(pace)}", flush=True)
    return float(duration_s)


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Returns what each side took in each round; neither always goes first."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in sorted(sides, reverse=bool(turn % 2)):
            taken[side].append(sides[side]())
    return taken


def compare(recipe: Recipe, other: Recipe, settings: Settings, by: str = "plain") -> dict[str, list[float]]:
    """Returns the seconds of a recipe by bmp, and of another one by `by`, under `bmp` and `other`."""
    sides = {
        "bmp": lambda: train_once("bmp", recipe, settings),
        "other": lambda: train_once(by, other, settings),
    }
    return take_turns(sides, settings.rounds)


def divide(taken: Mapping[str, list[float]], over: str, under: str) -> float:
    """Returns the median of one side over the median of the other."""
    return statistics.median(taken[over]) / statistics.median(taken[under])


def measure_overhead(settings: Settings) -> list[Line]:
    networks = {
        "cnn-16-32": ({"build": "cnn", "args": {"filters": [16, 32], "dense": [64], "scale": 1 / 255}}, 1500),
        "784-128-10": ({"build": "mlp", "args": {"hidden": [128]}}, 6000),
    }
    lines = []
    for name, (model, steps) in networks.items():
        train = {"steps": steps, "validate_every": steps // 3, **PLAIN}
        recipe = make_recipe(name, settings, model, train, 128)
        taken = compare(recipe, recipe, settings)
        lines.append(Line(f"plain settings, {name}: time", divide(taken, "bmp", "other"), "at most 1.03", taken))
    return lines


def measure_auto(settings: Settings) -> list[Line]:
    train = {"steps": 9000, "validate_every": 3000}
    dense = make_recipe("784-128-10", settings, {"build": "mlp", "args": {"hidden": [128]}}, train, 128)
    gpt = load_recipe("shakespeare_char", [f"data.args.path={settings.text}", "train.jit=auto"])
    lines = []
    for recipe in (dense, gpt):
        taken = compare(recipe, recipe, settings)
        lines.append(Line(f"auto, {recipe.publish.name}: speed", divide(taken, "other", "bmp"), "at least 1.5", taken))
    return lines


def measure_recipes(settings: Settings) -> list[Line]:
    mnist = settings.directory / "pictures.npz"
    if not mnist.is_file():
        make_arrays(mnist, (28, 28, 1), 30_000)
    given = {
        "mnist": ["data.source=arrays", f"data.args={{path: {mnist}, target: y}}", "data.transforms=[]"],
        "signs": [f"data.args.path={settings.pictures}"],
        "shakespeare_char": [f"data.args.path={settings.text}"],
    }
    lines = []
    for name in settings.recipes:
        recipe = load_recipe(name, given.get(name, []))
        if recipe.model.build == "classical":  # fitted by scikit-learn
            continue
        taken = compare(recipe, recipe, settings)
        lines.append(Line(f"recipe {name}: speed", divide(taken, "other", "bmp"), "at least 0.98", taken))
    return lines


def measure_saving(settings: Settings) -> list[Line]:
    model = {"build": "mlp", "args": {"hidden": [2048, 1024]}}
    recipes = [
        make_recipe("784-2048-1024-10", settings, model, {"epochs": 10, "checkpoint": {"every": every}}, 128)
        for every in ("2 seconds", "1000 epochs")
    ]
    taken = compare(recipes[0], recipes[1], settings, by="bmp")
    return [
        Line("a checkpoint every 2 s, 3.7 M parameters: time", divide(taken, "bmp", "other"), "at most 1.05", taken)
    ]


def measure_workers(settings: Settings) -> list[Line]:
    """A convolutional network shows what a second core adds, dense ones what two workers lose that share cores."""
    model = {"build": "cnn", "args": {"filters": [16, 32], "dense": [64], "scale": 1 / 255}}
    epochs = max(2, round(6 * settings.scale))
    one, two = (make_recipe("cnn", settings, model, {"epochs": epochs, **PLAIN}, 512 * count) for count in (1, 2))
    small, large = (
        make_recipe(name, settings, {"build": "mlp", "args": {"hidden": hidden}}, {"epochs": 3, **PLAIN}, batch)
        for name, hidden, batch in (("784-256-256-10", [256, 256], 64), ("784-1024-1024-10", [1024, 1024], 256))
    )
    place = settings.directory
    sides = {
        "one": lambda: training_workers.run_one(one, place),
        "two": lambda: training_workers.run_launched(two, place),
        "two_by_hand": lambda: training_workers.run_by_hand(two, place),
        "small": lambda: training_workers.run_launched(small, place),
        "small_by_hand": lambda: training_workers.run_by_hand(small, place),
        "small_plain": lambda: training_workers.run_plain(small, place),
        "large": lambda: training_workers.run_launched(large, place),
        "large_plain": lambda: training_workers.run_plain(large, place),
    }
    rates = take_turns(sides, settings.rounds)
    by_hand = "bmp launch / 2 workers started by hand"
    return [
        Line(
            "2 workers, a core each: share of twice the rate of 1",
            divide(rates, "two", "one") / 2,
            "at least 0.85",
            rates,
        ),
        Line(f"{by_hand}, Keras script, 784-256-256-10", divide(rates, "small", "small_plain"), "at least 2"),
        Line(f"{by_hand}, Keras script, 784-1024-1024-10", divide(rates, "large", "large_plain"), "at least 1"),
        Line(f"{by_hand}, train.py, 784-256-256-10", divide(rates, "small", "small_by_hand"), "at least 1"),
        Line(f"{by_hand}, train.py, CNN", divide(rates, "two", "two_by_hand"), "at least 1"),
    ]


def measure_restart(settings: Settings) -> list[Line]:
    model = {"build": "cnn", "args": {"filters": [16, 32], "dense": [64], "scale": 1 / 255}}
    train = {"epochs": 1000, **PLAIN, "checkpoint": {"every": "20 steps"}}
    recipe = make_recipe("cnn", settings, model, train, 128)
    rounds = [training_workers.kill_one(recipe, settings.directory) for _ in range(settings.rounds)]
    besides_s = statistics.median(turn["again_s"] - turn["tensorflow_s"] for turn in rounds)
    left = max(turn["left_over"] for turn in rounds)
    return [
        Line("from kill to training, besides TensorFlow's start: s", besides_s, "at most 20", {"rounds": rounds}),
        Line("processes left over", left, "at most 0"),
    ]


PARTS: dict[str, Callable[[Settings], list[Line]]] = {
    "overhead": measure_overhead,
    "auto": measure_auto,
    "recipes": measure_recipes,
    "saving": measure_saving,
    "workers": measure_workers,
    "restart": measure_restart,
}


def report(lines: list[Line], output: Path, options: argparse.Namespace) -> None:
    table = Table("training", "", "aim", title=f"medians of {options.rounds} rounds")
    for line in lines:
        table.add_row(line.name, f"{line.figure:.3g}", line.aim)
    Console().print(table)
    figures = [{"name": line.name, "figure": line.figure, "aim": line.aim, "rounds": line.rounds} for line in lines]
    output.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(options).items()}
    output.write_text(json.dumps({"settings": settings, "figures": figures}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="turns each side takes")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps; less leaves more to the start")
    parser.add_argument("--recipes", nargs="+", choices=list_recipes(), default=list_recipes(), metavar="RECIPE")
    parser.add_argument("--text", type=Path, help="of the GPT; by default made up of as many letters")
    parser.add_argument("--pictures", type=Path, help="a folder a class, for signs; by default made up")
    parser.add_argument("--output", type=Path, default=Path("results/training.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bmp-bench-") as name:
        directory = Path(name)
        settings = Settings(
            directory,
            options.rounds,
            options.scale,
            (options.text or directory / "text.txt").absolute(),
            (options.pictures or directory / "pictures").absolute(),
            tuple(options.recipes),
        )
        if options.text is None:
            make_text(settings.text)
        if options.pictures is None:
            make_pictures(settings.pictures)
        lines = []
        for part in options.parts:
            print(f"{part}:", flush=True)
            lines += PARTS[part](settings)
    report(lines, options.output, options)


if __name__ == "__main__":
    main()
