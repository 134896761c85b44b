"""Random batches by number: TFRecord files with an offset index (bmp's records) against ArrayRecord.

Both hold the same serialized examples, one a group, and both are read into the same arrays. ArrayRecord is measured
here and nowhere needed: `pip install array-record` installs it.
"""

import importlib.util
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from bmp.data import Source, Target
from bmp.data.records import Options, RecordSource, convert
from bmp.data.records.example import decode, encode
from bmp.data.records.layout import plan_layout
from bmp.data.sources.memory import ArraySource
from bmp.transforms import Columns, Field

BATCH = 64
ROUNDS = 7
BATCHES = 150


def make_digits(count: int = 30_000) -> Source:
    """Images like handwritten digits: 28x28 bytes, four of five of them zero."""
    random = np.random.default_rng(0)
    images = random.integers(1, 256, (count, 28, 28), np.uint8) * (random.random((count, 28, 28)) < 0.2)
    labels = tuple(map(str, range(10)))
    fields = (Field("image", "tensor", "uint8", (28, 28)),)
    return ArraySource({"image": images.astype(np.uint8)}, fields, np.arange(count) % 10, Target("class", labels))


def make_photos(count: int = 8_000) -> Source:
    """JPEG files of about 4 KB each."""
    random = np.random.default_rng(0)
    files = np.empty(count, object)
    for number in range(count):
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (72, 72), np.uint8)).save(buffer, "JPEG", quality=70)
        files[number] = buffer.getvalue()
    return ArraySource({"image": files}, (Field("image", "image"),), np.arange(count) % 2, Target("class", ("a", "b")))


def open_records(source: Source, compression: str, directory: Path) -> Callable[[np.ndarray], Columns]:
    """Writes our records and returns what reads a batch of them."""
    convert(source, directory, Options(1, compression), description={})
    return RecordSource(directory).read


def open_array_record(source: Source, compression: str, path: Path) -> Callable[[np.ndarray], Columns]:
    """Writes an ArrayRecord file and returns what reads a batch of it."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

    fields = (*source.fields, Field("target", "tensor", "int64"))
    everything = np.arange(len(source))
    writer = ArrayRecordWriter(str(path), f"group_size:1,{'zstd:3' if compression == 'zstd' else 'uncompressed'}")
    for example in encode({**source.read(everything), "target": source.read_targets(everything)}, fields):
        writer.write(example)
    writer.close()
    # Without read-ahead and without threads of its own it is fastest for batches of this size.
    reader = ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")
    layout = plan_layout(fields)

    def read(index: np.ndarray) -> Columns:
        examples = reader.read(index.tolist())
        if layout is None:
            return decode(examples, source.fields)
        return layout.cut(np.frombuffer(b"".join(examples), np.uint8).reshape(-1, layout.size), source.fields)

    return read


def measure(readers: dict[str, Callable[[np.ndarray], Columns]], count: int) -> dict[str, float]:
    """Returns examples a second: the best of rounds that take turns, for other work only ever slows them."""
    random = np.random.default_rng(1)
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(ROUNDS):
        batches = random.integers(0, count, (BATCHES, BATCH))
        for name, read in readers.items():
            start = time.perf_counter()
            for index in batches:
                read(index)
            rates[name].append(batches.size / (time.perf_counter() - start))
    return {name: max(rate) for name, rate in rates.items()}


def main() -> None:
    if importlib.util.find_spec("array_record") is None:
        sys.exit("This measures against ArrayRecord: install it with 'pip install array-record'.")
    table = Table(
        "examples",
        "compression",
        "ours,\nexamples/s",
        "ArrayRecord,\nexamples/s",
        "ratio",
        "ours,\nMB",
        "ArrayRecord,\nMB",
    )
    figures = []
    for name, make in {"28x28 uint8 + label": make_digits, "JPEG of 4 KB": make_photos}.items():
        source = make()
        for compression in ("none", "zstd"):
            with tempfile.TemporaryDirectory(prefix="bmp-bench-") as place:
                ours, theirs = Path(place) / "ours", Path(place) / "theirs"
                readers = {
                    "ours": open_records(source, compression, ours),
                    "array_record": open_array_record(source, compression, theirs),
                }
                index = np.arange(0, len(source), 97)
                one, other = (read(index)["image"] for read in readers.values())
                assert np.array_equal(one, other)
                rates = measure(readers, len(source))
                sizes = [sum(file.stat().st_size for file in ours.iterdir()) / 1e6, theirs.stat().st_size / 1e6]
            ratio = rates["ours"] / rates["array_record"]
            figures.append({"examples": name, "compression": compression, **rates, "ratio": ratio})
            numbers = (
                f"{rates['ours']:,.0f}",
                f"{rates['array_record']:,.0f}",
                f"{ratio:.1f}",
                *map("{:.1f}".format, sizes),
            )
            table.add_row(name, compression, *numbers)
    Console().print(table)
    ahead = sum(figure["ratio"] >= 1 for figure in figures)
    print(f"TFRecord with an index is kept: quicker in {ahead} of {len(figures)}, read by every TensorFlow tool.")
    output = Path("results/records_format.json")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
