"""The input pipeline: records on disk, shuffled by number, against what people use instead.

Four questions, each answered side by side in one run: how much of the step rate of one cached batch is left; how many
examples a second against tf.data's TFRecordDataset with a shuffle buffer on the same files; what starting at step
1,000,000 costs; and how much memory ten times as much data as memory takes.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import bmp  # noqa: F401 - selects Keras 2
from bmp.data import Split
from bmp.data.records import Options, convert, load_records
from bmp.data.sources.memory import ArraySource
from bmp.objectives import OBJECTIVES, Target
from bmp.signature import Signature
from bmp.transforms import Field, Preprocessing

LABELS = tuple("0123456789")
BATCH_SIZE = 64
FAR_STEP = 1_000_000


def write_images(directory: Path, count: int, shape: tuple[int, ...]) -> None:
    """Writes random pictures as records, drawn in pieces so that this process stays small too."""
    convert(RandomImages(count, shape), directory, Options(shards=4), description={"source": "random images"})


class RandomImages(ArraySource):
    """Pictures that are drawn when they are read."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self._shape = shape
        targets = np.random.default_rng(0).integers(10, size=count)
        fields = (Field("image", "tensor", "uint8", shape),)
        super().__init__({"image": targets}, fields, targets, Target("class", LABELS))

    def read(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Draws some pictures: each is told by its number."""
        pixels = np.random.default_rng(int(index[0])).integers(256, size=(len(index), *self._shape), dtype=np.uint8)
        pixels.reshape(len(index), -1)[:, :8] = index.astype("<i8")[:, None].view(np.uint8)
        return {"image": pixels}


def open_split(directory: Path) -> Split:
    source = load_records(path=str(directory))
    return Split(source, np.arange(len(source)), Preprocessing(source.fields, ()))


def build_model(split: Split):
    import tf_keras as keras

    from bmp.models import MODELS

    keras.utils.set_random_seed(0)
    signature = Signature(
        split.preprocessing.outputs, (OBJECTIVES["multiclass"].output(split.source.target),), "multiclass"
    )
    model = MODELS.bind("cnn", {"filters": [6, 16], "kernel_size": 5, "dense": [120, 84], "scale": 1 / 255})(signature)
    model.compile("adam", OBJECTIVES["multiclass"].make_loss())
    return model


def compare_step_rates(directory: Path, *, rounds: int, steps: int) -> list[float]:
    """Returns, for each round, the step rate from records over that of one cached batch."""
    import tensorflow as tf

    from bmp.data.pipeline import Pipeline

    split = open_split(directory)
    model = build_model(split)
    batch = next(iter(Pipeline(split, BATCH_SIZE).shuffled(0)))
    cached = tf.data.Dataset.from_tensors(batch).repeat().prefetch(tf.data.AUTOTUNE)
    sources = {"cached": cached, "records": Pipeline(split, BATCH_SIZE).shuffled(0)}
    model.fit(cached, steps_per_epoch=20, verbose=0)  # compiles
    ratios = []
    for turn in range(rounds):
        rate = {}
        for name in sorted(sources, reverse=bool(turn % 2)):  # neither always goes first
            clock = StepClock(skip=20)
            model.fit(sources[name], steps_per_epoch=steps + 20, verbose=0, callbacks=[clock.callback()])
            rate[name] = clock.rate()
        ratios.append(rate["records"] / rate["cached"])
    return ratios


class StepClock:
    """Counts steps a second, the first few left out."""

    def __init__(self, skip: int) -> None:
        self._skip, self._steps, self._start_s, self._end_s = skip, 0, 0.0, 0.0

    def callback(self):
        """Returns what Keras calls after each step."""
        import tf_keras as keras

        return keras.callbacks.LambdaCallback(on_batch_end=self._tick)

    def _tick(self, batch: int, logs: object) -> None:
        self._end_s = time.perf_counter()
        if batch == self._skip:
            self._start_s, self._steps = self._end_s, 0
        self._steps += 1

    def rate(self) -> float:
        """Returns steps a second."""
        return (self._steps - 1) / (self._end_s - self._start_s)


def compare_readers(directory: Path, *, rounds: int, seconds: float) -> tuple[list[float], list[float]]:
    """Returns examples a second of each round: ours, and TFRecordDataset's with a shuffle buffer."""
    import tensorflow as tf

    from bmp.data.pipeline import Pipeline

    split = open_split(directory)
    (field,) = split.source.fields
    description = {name: tf.io.FixedLenFeature([], tf.string) for name in find_features(directory)}

    def parse(records: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        columns = tf.io.parse_example(records, description)
        (target,) = set(description) - {"image"}
        image = tf.reshape(tf.io.decode_raw(columns["image"], tf.uint8), (-1, *field.shape))
        return {"image": image}, tf.io.decode_raw(columns[target], tf.int64)[:, 0]

    files = sorted(map(str, directory.glob("*.tfrecord")))
    theirs = (
        tf.data.TFRecordDataset(files, num_parallel_reads=tf.data.AUTOTUNE)
        .shuffle(10_000)
        .repeat()
        .batch(BATCH_SIZE)
        .map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    ours, rates = Pipeline(split, BATCH_SIZE).shuffled(0), {"ours": [], "theirs": []}
    for turn in range(rounds):
        for name, dataset in sorted({"ours": ours, "theirs": theirs}.items(), reverse=bool(turn % 2)):
            rates[name].append(count_examples(dataset, seconds))
    return rates["ours"], rates["theirs"]


def find_features(directory: Path) -> list[str]:
    """Returns the names of the features in the first record."""
    import tensorflow as tf

    record = next(iter(tf.data.TFRecordDataset(str(next(directory.glob("*.tfrecord"))))))
    return list(tf.train.Example.FromString(record.numpy()).features.feature)


def count_examples(dataset, seconds: float) -> float:
    """Returns examples a second, after the first batches."""
    batches = iter(dataset)
    for _ in islice(batches, 20):
        pass
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        for _, targets in islice(batches, 50):
            count += len(targets)
    return count / elapsed


def compare_starts(directory: Path, *, rounds: int) -> tuple[list[float], list[float]]:
    """Returns seconds to the first batch of each round: from step 0, and from a million."""
    from bmp.data.pipeline import Pipeline

    split = open_split(directory)
    times: dict[int, list[float]] = {0: [], FAR_STEP: []}
    next(iter(Pipeline(split, BATCH_SIZE).shuffled(0)))
    for _ in range(rounds):
        for step in times:
            start = time.perf_counter()
            next(iter(Pipeline(split, BATCH_SIZE).shuffled(0, first_step=step)))
            times[step].append(time.perf_counter() - start)
    return times[0], times[FAR_STEP]


def train_large(directory: Path, warm_up: int) -> None:
    """In a process of its own: trains one epoch and prints the growth of its memory after each tenth, in MB."""
    import tf_keras as keras

    from bmp.data.pipeline import Pipeline

    split = open_split(directory)
    pipeline = Pipeline(split, BATCH_SIZE)
    inputs = keras.Input(split.source.fields[0].shape, dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(keras.layers.AveragePooling2D(8)(keras.layers.Rescaling(1.0)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x)))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(pipeline.shuffled(0), steps_per_epoch=warm_up, verbose=0)
    base_mb = read_anonymous_mb()
    steps = max(1, pipeline.steps_per_epoch // 10)
    growth = []
    for tenth in range(10):
        model.fit(pipeline.shuffled(0, first_step=tenth * steps), steps_per_epoch=steps, verbose=0)
        growth.append(read_anonymous_mb() - base_mb)
    print(json.dumps(growth))


def read_anonymous_mb() -> float:
    """Returns this process's own memory; pages of files, which the kernel takes back at will, are not counted."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure_memory(directory: Path, allowed_mb: int) -> tuple[float, list[float]]:
    """Returns the size of a set ten times as large as the memory allowed, and the growth while training on it."""
    shape = (64, 64, 3)
    write_images(directory, math.ceil(allowed_mb * 1e6 * 10 / math.prod(shape)), shape)
    size_mb = sum(path.stat().st_size for path in directory.iterdir()) / 1e6
    command = [sys.executable, __file__, "--train-large", str(directory)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return size_mb, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000, help="of 28x28 pixels, for the rates")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--allowed-mb", type=int, default=200, help="memory that training may grow by")
    parser.add_argument("--train-large", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train_large:
        train_large(options.train_large, warm_up=200)
        return
    table = Table("records on disk", "", "aim", title="the input pipeline, LeNet-size images")
    with tempfile.TemporaryDirectory(prefix="bmp-bench-") as name:
        directory = Path(name) / "small"
        write_images(directory, options.images, (28, 28))
        rates = compare_step_rates(directory, rounds=options.rounds, steps=400)
        ours, theirs = compare_readers(directory, rounds=options.rounds, seconds=1.5)
        near_s, far_s = compare_starts(directory, rounds=options.rounds)
        size_mb, growth_mb = measure_memory(Path(name) / "large", options.allowed_mb)
    ratio = statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))
    late_s = statistics.median(far - near for near, far in zip(near_s, far_s, strict=True))
    figures = {
        "step_rate_ratio": statistics.median(rates),
        "examples_per_s": statistics.median(ours),
        "tfrecorddataset_examples_per_s": statistics.median(theirs),
        "examples_ratio": ratio,
        "late_start_extra_s": late_s,
        "large_set_mb": size_mb,
        "allowed_mb": options.allowed_mb,
        "growth_mb": growth_mb,
    }
    table.add_row("step rate / that of one cached batch", f"{figures['step_rate_ratio']:.3f}", "≥ 0.95")
    table.add_row("examples/s, shuffled by number", f"{figures['examples_per_s']:,.0f}", "")
    table.add_row("examples/s, TFRecordDataset + shuffle", f"{figures['tfrecorddataset_examples_per_s']:,.0f}", "")
    table.add_row("ratio", f"{ratio:.2f}", "≥ 1.0")
    table.add_row(f"start at step {FAR_STEP:,} against step 0, s", f"{late_s:+.3f}", "within 1 s")
    table.add_row(f"growth over an epoch of {size_mb:,.0f} MB, MB", f"{max(growth_mb):.0f}", f"≤ {options.allowed_mb}")
    Console().print(table)
    print("growth after each tenth of the epoch, MB:", ", ".join(f"{value:.0f}" for value in growth_mb))
    output = Path("results/data.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
