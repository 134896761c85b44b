"""A student a quarter of its teacher's size: taught, against trained alone, on the same examples.

Both begin with the same weights and see the same batches in the same order; each ends with the weights of its best
validation. What differs from seed to seed is everything: the split, the teacher, the first weights. Half of the
examples are kept for the test, so that half a point is more than chance. The seeds are not those that temperature,
alpha and epochs were chosen with.
"""

import argparse
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

import bmp  # noqa: F401 - selects Keras 2
from bmp.compression.technique import Form, Workshop
from bmp.compression.techniques.student import Student
from bmp.config import DataConfig, SplitConfig, TrainConfig
from bmp.data import SOURCES, Dataset, Split, load_data
from bmp.distribution import STRATEGIES
from bmp.distribution.cluster import Cluster
from bmp.models import build_model, look_up_model
from bmp.training import OPTIMIZERS, Trainer
from bmp.training.callbacks import KeepBest

SPLIT = SplitConfig(train=0.4, validation=0.1, test=0.5)
FIRST_SEED = 5
AIM = 0.005


@dataclass(frozen=True)
class Setting:
    """What is learned, and by whom.

    Args:
        source: An entry of SOURCES, and its arguments.
        teacher: A network of the shelf, and its arguments.
        student: The same.
        teacher_epochs: Of the teacher.
        student_epochs: Of the student, taught or not.
        transforms: Of the examples.
    """

    source: tuple[str, dict[str, Any]]
    teacher: tuple[str, dict[str, Any]]
    student: tuple[str, dict[str, Any]]
    teacher_epochs: int
    student_epochs: int
    transforms: list[dict[str, Any]] = field(default_factory=list)


DIGITS = Setting(
    ("sklearn", {"name": "digits"}),
    ("cnn", {"filters": [32, 64], "dense": [64], "dropout": 0.3, "scale": 0.0625}),
    ("mlp", {"hidden": [88, 32], "scale": 0.0625}),
    teacher_epochs=40,
    student_epochs=300,
)


def describe_signs(path: str) -> Setting:
    """Photographs of hands in grey, 32x32: a convolutional student half as wide as its teacher."""
    pixels = {"kind": "image", "field": "image", "height": 32, "width": 32, "channels": 1, "mean": [0.5], "std": [0.25]}
    return Setting(
        ("image_folder", {"path": path}),
        ("cnn", {"filters": [16, 32, 64], "dense": [64], "dropout": 0.4}),
        ("cnn", {"filters": [8, 16, 32], "dense": [32]}),
        teacher_epochs=60,
        student_epochs=100,
        transforms=[pixels],
    )


def make_trainer(data: Dataset, seed: int) -> Trainer:
    """Decides nothing by the clock: the same seed gives the same figures."""
    return Trainer(
        data,
        STRATEGIES["one_device"](Cluster(), None).strategy,
        build_optimizer=OPTIMIZERS["adam"],
        batch_size=32,
        seed=seed,
        console=Console(file=io.StringIO()),
        config=TrainConfig(jit=False, steps_per_execution=16),
    )


def train_teacher(setting: Setting, trainer: Trainer, seed: int) -> Any:
    import tf_keras as keras

    keras.utils.set_random_seed(seed)
    with trainer.strategy.scope():
        model = build_model(look_up_model(*setting.teacher), trainer.data.signature, trainer.data.train)
    trainer.fit(model, epochs=setting.teacher_epochs, learning_rate=1e-3, callbacks=[KeepBest(trainer.objective.score)])
    return model


def measure(model: Any, split: Split) -> float:
    """Returns the accuracy."""
    batch = split.load()
    (inputs,) = batch.inputs.values()
    parts = [np.asarray(model(part, training=False)) for part in np.array_split(inputs, max(1, len(inputs) // 500))]
    return float(np.mean(np.concatenate(parts).argmax(axis=-1) == batch.targets))


def run(setting: Setting, seed: int, temperature: float, alpha: float) -> dict[str, Any]:
    """Returns the test accuracy of all three, and how large they are."""
    name, args = setting.source
    config = DataConfig(source=name, args=args, split=SPLIT, transforms=setting.transforms)
    data = load_data(SOURCES.bind(name, args), config, seed)
    workshop = Workshop(make_trainer(data, seed), epochs=setting.student_epochs, learning_rate=1e-3, seed=seed)
    teacher = train_teacher(setting, workshop.trainer, seed)
    build, network = setting.student
    taught, alone = (
        Student(build=build, args=network, temperature=temperature, alpha=share).apply(Form(teacher), workshop).model
        for share in (alpha, 0.0)
    )
    return {
        "seed": seed,
        "examples": [len(data.train), len(data.validation), len(data.test)],
        "parameters": [teacher.count_params(), taught.count_params()],
        "teacher": measure(teacher, data.test),
        "alone": measure(alone, data.test),
        "taught": measure(taught, data.test),
    }


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Returns the mean, and the interval of Student's t around it."""
    mean = float(np.mean(differences))
    low, high = stats.t.interval(confidence, len(differences) - 1, loc=mean, scale=stats.sem(differences))
    return mean, float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--signs", metavar="DIR", help="a folder a class of photographs, in place of the digits")
    parser.add_argument("--seeds", type=int, default=5, help="how many; at least 2 for an interval")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--alpha", type=float, default=0.9)
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds is {options.seeds}; an interval takes at least 2")
    setting = describe_signs(options.signs) if options.signs else DIGITS
    start, rows = time.perf_counter(), []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        rows.append(run(setting, seed, options.temperature, options.alpha))
        row = rows[-1]
        print(
            f"seed {seed}: {', '.join(f'{key} {row[key]:.4f}' for key in ('teacher', 'alone', 'taught'))}", flush=True
        )
    mean, low, high = paired_interval([row["taught"] - row["alone"] for row in rows])
    report(setting, options, rows, (mean, low, high), time.perf_counter() - start)


def report(
    setting: Setting,
    options: argparse.Namespace,
    rows: list[dict[str, Any]],
    gain: tuple[float, float, float],
    duration_s: float,
) -> None:
    """Prints the figures, and writes them down."""
    train, validation, test = rows[0]["examples"]
    large, small = rows[0]["parameters"]
    title = (
        f"{setting.source[0]}: {train} training, {validation} validation, {test} test examples; a {setting.student[0]} "
        f"of {small:,} parameters, {small / large:.1%} of its teacher, a {setting.teacher[0]}; temperature "
        f"{options.temperature:g}, alpha {options.alpha:g}"
    )
    table = Table("seed", "teacher", "alone", "taught", "gain, points", title=title)
    for row in rows:
        figures = (f"{row[key]:.4f}" for key in ("teacher", "alone", "taught"))
        table.add_row(str(row["seed"]), *figures, f"{100 * (row['taught'] - row['alone']):+.2f}")
    means = (f"{np.mean([row[key] for row in rows]):.4f}" for key in ("teacher", "alone", "taught"))
    table.add_row("mean", *means, f"{100 * gain[0]:+.2f}")
    Console().print(table)
    print(
        f"gain {100 * gain[0]:+.2f} points, 95 % interval {100 * gain[1]:+.2f} to {100 * gain[2]:+.2f} (paired t, "
        f"{len(rows)} seeds); aim at least {100 * AIM:+.2f}; {duration_s:.0f} s"
    )
    output = Path("results/compression_student.json")
    output.parent.mkdir(exist_ok=True)
    figures = {"rows": rows, "gain": gain[0], "interval": gain[1:], "aim": AIM, "duration_s": duration_s}
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
