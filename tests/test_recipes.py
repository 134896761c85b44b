"""Every shipped recipe runs, is published, and answers what a person would send."""

import io
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from flask.testing import FlaskClient
from rich.console import Console

from bmp.artifact.manifest import check_files
from bmp.artifact.proof import measure_latency
from bmp.config import RECIPES_DIR, list_recipes, load_recipe
from bmp.run import Run, run
from bmp.transforms import Columns
from serving.app import create_app
from serving.models.model import load_model
from serving.settings import Settings

STEPS = ("train.steps=3", "train.validate_every=null", "train.jit=false")
PRUNING = "{prune: {sparsity: 0.8, epochs: 1}}"
QUANTIZATION = "{int8: {calibration_examples: 16}}"
PRUNED, QUANTIZED = f"compress.chains=[[{PRUNING}]]", f"compress.chains=[[{QUANTIZATION}]]"
BOTH = f"compress.chains=[[{PRUNING}, {QUANTIZATION}]]"
UNCOMPRESSED = "compress.chains=[]"  # where another recipe of such layers is compressed here
SMALL_SPLITS = ("data.split={train: 0.9, validation: 0.05, test: 0.05}",)  # what every variant is measured on


@dataclass(frozen=True)
class Case:
    """A recipe made a matter of seconds, and what its model is asked with.

    Args:
        overrides: Fewer steps, fewer examples, fewer layers of a kind.
        asked: `tensor`: what the model itself takes; `row`: features by name; `text` or `png`: one as the body.
        make_data: Puts a stand-in for data that is not shipped into a folder, and returns the overrides that name it.
    """

    overrides: tuple[str, ...]
    asked: str
    make_data: Callable[[Path, pytest.MonkeyPatch], list[str]] = lambda folder, monkeypatch: []


def make_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of letters, with what a play has of capitals, colons and empty lines."""
    random = np.random.default_rng(1)
    lines = [" ".join(random.choice(["thou", "art", "my", "king", "speak", "no"], 7)) for _ in range(200)]
    (folder / "play.txt").write_text("".join(f"ROMEO:\n{line}.\n\n" for line in lines))
    return [f"data.args.path={folder / 'play.txt'}"]


def make_hands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two classes of small pictures."""
    random = np.random.default_rng(2)
    for label in ("0", "1"):
        (folder / "hands" / label).mkdir(parents=True)
        for number in range(20):
            pixels = random.integers(0, 256, (30, 30, 3), np.uint8)
            PIL.Image.fromarray(pixels).save(folder / "hands" / label / f"{number}.png")
    return [f"data.args.path={folder / 'hands'}"]


def make_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A small MNIST where Keras keeps its downloads, in the form of its file."""
    from tf_keras.src.utils import data_utils

    random = np.random.default_rng(3)
    arrays = {}
    for split, count in (("train", 400), ("test", 50)):
        arrays[f"x_{split}"] = random.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"y_{split}"] = (np.arange(count) % 10).astype(np.uint8)
    (folder / "datasets").mkdir()
    np.savez(folder / "datasets" / "mnist.npz", **arrays)
    monkeypatch.setenv("KERAS_HOME", str(folder))
    # Keras compares the file with the digest of the real one.
    monkeypatch.setattr(data_utils, "validate_file", lambda *arguments, **options: True)
    return []


CASES = {
    "breast_cancer": Case((*STEPS, PRUNED), "row"),
    "diabetes": Case((*STEPS, BOTH), "row"),
    "digits": Case((*STEPS, UNCOMPRESSED, "data.batch_size=128"), "tensor"),
    "digits_lstm": Case((*STEPS, QUANTIZED, *SMALL_SPLITS, "model.args.units=[16]"), "tensor"),
    "docstrings": Case((*STEPS, QUANTIZED, *SMALL_SPLITS, "model.args.layers=1"), "text"),
    "lenet5": Case((*STEPS, PRUNED, "data.batch_size=256"), "tensor"),
    "mnist": Case((*STEPS, BOTH), "tensor", make_mnist),
    "random_forest": Case((), "tensor"),
    "shakespeare_char": Case(
        (*STEPS, "train.schedule_args.warmup_steps=1", UNCOMPRESSED, "model.args.layers=1"), "text", make_text
    ),
    "signs": Case((*STEPS, UNCOMPRESSED, "model.args.filters=[4, 8]"), "png", make_hands),
    "subclassed": Case(("data.args.examples=400", *STEPS, QUANTIZED), "tensor"),
    "svm": Case((QUANTIZED,), "row"),
    "wide_binary": Case(("data.args.examples=400", *STEPS, UNCOMPRESSED), "tensor"),
}


def test_every_recipe_has_its_case() -> None:
    assert sorted(CASES) == list_recipes()


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_says_how_to_run_it_how_long_that_takes_and_what_comes_of_it(name: str) -> None:
    lines = (RECIPES_DIR / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert re.match(rf"# python train\.py {name}\b.*\b\d+ (s|min)\b", lines[0]), lines[0]
    assert re.search(r"^# Expect: .*\d", "\n".join(lines), re.MULTILINE)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_ends_in_a_model_that_answers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure_latency.__kwdefaults__, "runs", 2)  # how exact the times are is no matter here
    case = CASES[name]
    given = case.make_data(tmp_path, monkeypatch)
    recipe = load_recipe(name, [*given, *case.overrides, f"publish.root={tmp_path / 'registry'}"])
    finished = run(recipe, run_dir=tmp_path / "run", console=Console(file=io.StringIO()))
    check_files(finished.version.path, finished.manifest)

    client = open_client(tmp_path / "registry")
    example = take_example(finished)
    body, content_type = to_body(case.asked, example)
    reply = client.post("/predict", data=body, content_type=content_type)
    assert reply.status_code == 200, reply.text
    assert reply.headers["Bmp-Model"] == f"{recipe.publish.name}/1"
    expected = answer_without_the_door(finished, example)
    np.testing.assert_allclose(reply.get_json()["prediction"], expected, atol=1e-5, rtol=1e-5)

    labels = finished.manifest.labels
    if labels:
        reply = client.post("/predict?top_k=2", data=body, content_type=content_type)
        ((first, _),) = reply.get_json()["top_k"]
        likeliest = int(expected.argmax()) if len(labels) > 2 else int(expected[0, 0] > 0.5)
        assert first["label"] == labels[likeliest]


def take_example(finished: Run) -> Columns:
    """Returns one test example as a person has it; of a language model a text to go on from."""
    source = finished.data.test.source
    if source.serving_fields:
        return {source.serving_fields[0].name: np.array(["ROMEO:\nspeak no"], object)}
    return source.read(finished.data.test.index[:1])


def to_body(asked: str, example: Columns) -> tuple[bytes, str]:
    """Returns the body and the Content-Type that an example is sent as."""
    ((name, (value,)),) = example.items()
    if asked == "text":
        return value.encode(), "text/plain"
    if asked == "png":
        return value, "image/png"
    one = value.tolist() if asked == "tensor" else {name: value.tolist()}
    return json.dumps({"instances": [one]}).encode(), "application/json"


def open_client(registry: Path) -> FlaskClient:
    """Returns a client of a server whose models are loaded."""
    app = create_app(Settings(registry=registry))
    deadline = time.monotonic() + 60
    while not app.is_started() and time.monotonic() < deadline:
        time.sleep(0.01)
    return app.test_client()


def answer_without_the_door(finished: Run, example: Columns) -> np.ndarray:
    """Returns what the published file says of an example, prepared as training prepared it, `(1, *shape)`."""
    inputs = finished.data.preprocessing.run(example)
    (output,) = load_model(finished.version).predict(inputs).values()
    if finished.data.signature.objective != "next_token":
        return output
    (tokens,) = inputs.values()
    return output[:, int(np.count_nonzero(tokens)) - 1]
