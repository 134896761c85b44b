"""The contract of every source: each entry of the catalog, with data of its own."""

import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.data.content import check_form, find_bad_features, find_bad_targets
from bmp.data.records import Options, convert
from bmp.data.scan import scan_source
from bmp.data.split import SPLITS

COUNT = 48
LABELS = ("left", "right")
IMAGE = [{"kind": "image", "field": "image", "height": 8, "width": 8}]
SOUND = [{"kind": "log_mel", "field": "audio", "sample_rate": 8000, "seconds": 0.1}]
TOKENS = [{"kind": "tokenize", "field": "text", "tokenizer": "words", "length": 6}]


def make_arrays(folder: Path) -> dict:
    random = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=random.normal(size=(COUNT, 3)), y=np.arange(COUNT) % 3)
    return {"path": str(folder / "data.npz")}


def make_array_splits(folder: Path) -> dict:
    random = np.random.default_rng(1)
    for name, count in (("train", COUNT), ("test", 12)):
        np.save(folder / f"x_{name}.npy", random.normal(size=(count, 4, 4)).astype(np.float32))
        np.save(folder / f"y_{name}.npy", np.array(LABELS)[np.arange(count) % 2])
    return {"path": str(folder)}


def make_rows() -> list[dict]:
    random = np.random.default_rng(2)
    return [
        {"age": round(random.normal(), 6), "town": ("Bonn", "Köln")[number % 2], "class": LABELS[number % 2]}
        for number in range(COUNT)
    ]


def make_csv(folder: Path) -> dict:
    rows = make_rows()
    lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
    (folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    return {"path": str(folder / "rows.csv"), "target": "class"}


def make_parquet(folder: Path) -> dict:
    pq.write_table(pa.Table.from_pylist(make_rows()), folder / "rows.parquet")
    return {"path": str(folder / "rows.parquet"), "target": "class"}


def make_image_folder(folder: Path) -> dict:
    random = np.random.default_rng(3)
    for number in range(COUNT):
        place = folder / "images" / LABELS[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (10, 12, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(place / f"{number}.{('png', 'jpg')[number % 2]}")
    return {"path": str(folder / "images")}


def make_sounds(folder: Path) -> None:
    random = np.random.default_rng(4)
    for number in range(COUNT):
        place = folder / LABELS[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{number % 3}_{number}.wav", random.uniform(-0.5, 0.5, 800), 8000)


def make_audio_folder(folder: Path) -> dict:
    make_sounds(folder)
    return {"path": str(folder)}


def make_named_sounds(folder: Path) -> dict:
    make_sounds(folder)
    return {"path": str(folder), "label": "file_name", "pattern": r"^(\d)_"}


def make_text(folder: Path) -> dict:
    random = np.random.default_rng(5)
    words = ["".join(random.choice(list("abcdef"), 4)) for _ in range(400)]
    (folder / "poem.txt").write_text("\n".join(" ".join(words[start : start + 5]) for start in range(0, 400, 5)))
    return {"path": str(folder / "poem.txt"), "context": 8, "validation": 0.1, "test": 0.1}


def make_text_csv(folder: Path) -> dict:
    lines = [f'"sentence {number}, of\na poem",{LABELS[number % 2]}' for number in range(COUNT)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *lines]))
    return {"path": str(folder / "texts.csv")}


def make_text_jsonl(folder: Path) -> dict:
    for name, count in (("train", COUNT), ("test", 12)):
        rows = [{"text": f"{name} {number} é", "label": number % 3} for number in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"path": {name: str(folder / f"{name}.jsonl") for name in ("train", "test")}}


def make_python(folder: Path) -> dict:
    (folder / "mine.py").write_text(
        "import numpy as np\ndef make(count):\n    x = np.random.default_rng(6).normal(size=(count, 2))\n"
        "    return {'x': x, 'n': x[:, 0] + 1}, x.sum(axis=1)\n"
    )
    return {"function": f"{folder / 'mine.py'}:make", "args": {"count": COUNT}}


def make_records(folder: Path) -> dict:
    source = SOURCES.bind("synthetic", {"examples": COUNT, "seed": 7})()
    convert(source, folder / "records", Options(shards=2), description={})
    return {"path": str(folder / "records")}


def make_fashion(home: Path) -> None:
    """A small Fashion-MNIST where Keras keeps its downloads, in the form of its files."""
    folder = home / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    random = np.random.default_rng(8)
    for name, count in (("train", 100), ("t10k", 30)):
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + labels.tobytes()))
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(16) + images.tobytes()))


CASES = {
    "arrays": ("arrays", make_arrays, "auto"),
    "arrays in splits": ("arrays", make_array_splits, "auto"),
    "csv": ("csv", make_csv, "auto"),
    "parquet": ("parquet", make_parquet, "auto"),
    "image_folder": ("image_folder", make_image_folder, IMAGE),
    "audio_folder": ("audio_folder", make_audio_folder, SOUND),
    "audio_folder by name": ("audio_folder", make_named_sounds, SOUND),
    "text": ("text", make_text, "auto"),
    "text_table csv": ("text_table", make_text_csv, TOKENS),
    "text_table jsonl": ("text_table", make_text_jsonl, TOKENS),
    "python": ("python", make_python, "auto"),
    "records": ("records", make_records, "auto"),
    "keras": ("keras", lambda folder: {"name": "fashion_mnist"}, "auto"),
    **{
        f"sklearn {name}": ("sklearn", lambda folder, name=name: {"name": name}, "auto")
        for name in ("digits", "breast_cancer", "iris", "wine", "diabetes")
    },
    **{
        f"synthetic {kind}": ("synthetic", lambda folder, kind=kind: {"examples": COUNT, "kind": kind}, "auto")
        for kind in ("class", "binary", "number", "multilabel")
    },
}


@pytest.fixture(scope="module")
def builders(tmp_path_factory):
    """Every case, ready to be opened, its files made."""
    made = {}
    for number, (case, (name, make, transforms)) in enumerate(CASES.items()):
        folder = tmp_path_factory.mktemp(f"case{number}")
        made[case] = (SOURCES.bind(name, make(folder)), DataConfig(source=name, transforms=transforms))
    return made


@pytest.fixture(autouse=True)
def keras_home(tmp_path_factory, monkeypatch):
    home = tmp_path_factory.getbasetemp() / "keras"
    if not home.exists():
        make_fashion(home)
    monkeypatch.setenv("KERAS_HOME", str(home))


@pytest.fixture(params=CASES)
def case(request, builders):
    return builders[request.param]


@pytest.fixture
def source(case):
    return case[0]()


def everything(source) -> np.ndarray:
    return np.arange(len(source))


def test_every_source_is_tried():
    assert {name for name, _, _ in CASES.values()} == set(SOURCES)


def test_features_are_what_the_fields_say(source):
    columns = source.read(everything(source))
    check_form(columns, source.fields, len(source))
    assert find_bad_features(columns, source.fields, frozenset()) == {}
    assert len({field.name for field in source.fields}) == len(source.fields) > 0 < len(source)


def test_targets_are_what_the_target_says(source):
    targets = source.read_targets(everything(source))
    assert find_bad_targets(targets, source.target) == {}
    if source.target.kind == "class":
        assert set(targets) == set(range(len(source.target.labels)))
    assert len(set(source.target.labels)) == len(source.target.labels)


def test_examples_are_read_in_the_order_asked_for(source):
    index = np.random.default_rng(0).integers(0, len(source), 20)  # some twice
    batch, targets = source.read(index), source.read_targets(index)
    for position, number in enumerate(index):
        single = source.read(np.array([number]))
        assert all(np.array_equal(single[name][0], column[position]) for name, column in batch.items())
        assert np.array_equal(source.read_targets(np.array([number]))[0], targets[position])


def test_several_threads_read_the_same_as_one(source):
    parts = [everything(source)[start::7] for start in range(7)]
    alone = [source.read(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(source.read, parts))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(column, other[name]) for name, column in one.items())


def test_every_example_has_a_place_of_its_own(source):
    places = [source.where(number) for number in range(min(len(source), 300))]
    assert len(set(places)) == len(places) and all(places)


def test_given_splits_hold_each_example_once(source):
    if source.given:
        numbers = np.concatenate(list(source.given.values()))
        assert sorted(numbers) == list(range(len(source))) and set(source.given) <= set(SPLITS)


def test_opening_again_gives_the_same_examples(case):
    assert scan_source(case[0]()).digest == scan_source(case[0]()).digest


def test_each_has_a_digest_of_its_own(builders):
    # A Parquet file of the rows of a CSV file holds the same, and is the same; so are records of a source.
    digests = {name: scan_source(build()).digest for name, (build, _) in builders.items()}
    assert digests["csv"] == digests["parquet"]
    assert len(set(digests.values())) == len(digests) - 1


def test_it_becomes_a_dataset(case):
    build, config = case
    data = load_data(build, config, 0)
    for name in SPLITS:
        split = getattr(data, name)
        batch = split.read(slice(0, 8))
        assert data.signature.check_inputs(batch.inputs) == len(batch.targets) > 0
    assert data.preprocessing.outputs == data.signature.inputs
    assert data.report.bad == ()


def test_digits_are_images_of_pixels_0_to_16():
    source = SOURCES.bind("sklearn", {"name": "digits"})()
    image = source.read(everything(source))["image"]
    assert (image.dtype, image.shape, image.min(), image.max()) == (np.float32, (1797, 8, 8), 0, 16)


def test_an_image_is_the_bytes_of_its_file(builders):
    source = builders["image_folder"][0]()
    data = source.read(np.array([0]))["image"][0]
    assert data == Path(source.where(0)).read_bytes()
    assert PIL.Image.open(io.BytesIO(data)).size == (12, 10)


def test_builders_are_partials_that_do_nothing_yet(builders):
    assert all(isinstance(build, partial) for build, _ in builders.values())
