import io

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from bmp.config import DataConfig
from bmp.data import SOURCES
from bmp.data.describe import draw, gather_facts, show
from bmp.data.source import Target
from bmp.data.sources.memory import ArraySource
from bmp.errors import DataError
from bmp.transforms import Field

FIELDS = (Field("age", "number"), Field("town", "category"), Field("pair", "tensor", "float32", (2,)))


def make_source(count=60, given=None, target=None, targets=None, **changes):
    columns = {
        "age": np.arange(count, dtype=np.float32),
        "town": np.array([("Bonn", "Bonn", "Köln", "")[number % 4] for number in range(count)], object),
        "pair": np.stack([np.arange(count) * 2.0, -np.arange(count)], axis=1).astype(np.float32),
    }
    target = target or Target("class", ("no", "yes"))
    targets = np.arange(count) % 2 if targets is None else targets
    return ArraySource(columns | changes, FIELDS, targets, target, given=given)


def gather(source, **config):
    return gather_facts(source, DataConfig(source="any", **config), 0)


def render(facts) -> str:
    out = io.StringIO()
    show(facts, Console(file=out, width=120))
    return out.getvalue()


def test_counts_and_balance_of_each_split():
    facts = gather(make_source())
    assert {name: len(index) for name, index in facts.splits.items()} == {"train": 44, "validation": 8, "test": 8}
    assert facts.balance.tolist() == [[22, 22], [4, 4], [4, 4]] and facts.examples == 60


def test_ranges_missing_values_and_the_most_frequent():
    ages = np.arange(60, dtype=np.float32)
    ages[[3, 5]] = np.nan
    facts = {feature.field.name: feature for feature in gather(make_source(age=ages)).features}
    known = ages[~np.isnan(ages)]
    age = facts["age"]
    assert (age.missing, age.low, age.high) == (2, 0, 59)
    assert (age.mean, age.std) == pytest.approx((known.mean(), known.std()))
    assert (facts["town"].missing, facts["town"].counts) == (15, (("Bonn", 30), ("Köln", 15)))
    assert (facts["pair[1]"].low, facts["pair[0]"].high) == (-59, 118)


def test_moments_do_not_depend_on_the_batches(monkeypatch):
    from bmp.data.describe import facts as module

    whole = gather(make_source()).features
    monkeypatch.setattr(module, "chunk_size", lambda source: 7)
    for one, other in zip(whole, gather(make_source()).features, strict=True):
        assert (one.mean, one.std, one.low) == pytest.approx((other.mean, other.std, other.low), nan_ok=True)


def test_bad_examples_are_listed_and_do_not_stop():
    ages = np.arange(60, dtype=np.float32)
    ages[[3, 5]] = np.inf
    facts = gather(make_source(age=ages))
    assert [bad.number for bad in facts.bad] == [3, 5]
    text = render(facts)
    assert "60 examples, 2 of them bad" in text and "example 3: 'age' holds inf; expected finite numbers" in text


def test_copies_leaks_and_contradictions_are_counted():
    source = make_source(
        age=np.array([*range(40), *range(10), *range(100, 110)], np.float32),
        town=np.array([""] * 60, object),
        pair=np.zeros((60, 2), np.float32),
        given={"train": np.arange(40), "validation": np.arange(50, 60), "test": np.arange(40, 50)},
        targets=np.array([0] * 40 + [1] * 20),
    )
    facts = gather(source)
    assert facts.leaks == {"train": 10, "validation": 0, "test": 0}
    assert facts.contradictions == 10 and len(facts.splits["train"]) == 30
    assert "10 examples stand in a later split as well" in render(facts)
    doubled = gather(
        make_source(
            age=np.repeat(np.arange(30), 2).astype(np.float32),
            town=np.array([""] * 60, object),
            pair=np.zeros((60, 2), np.float32),
            targets=np.zeros(60, np.int64),
        )
    )
    assert sum(doubled.copies.values()) == 30 and sum(doubled.leaks.values()) == 0


def test_too_few_examples_for_a_split_are_described_all_the_same():
    facts = gather(make_source(4))
    assert list(facts.splits) == ["all"] and "too few" in facts.how and "too few" in render(facts)


def test_nothing_usable_is_an_error():
    with pytest.raises(DataError, match="None of the 60 examples can be used"):
        gather(make_source(age=np.full(60, np.inf, np.float32)))


def test_an_image_folder_without_transforms_is_described(tmp_path):
    for number in range(30):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        size = (20, 10) if number else (40, 40)
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number}.png")
    facts = gather(SOURCES.bind("image_folder", {"path": str(tmp_path)})())
    assert facts.features[0].counts == (("10 × 20 RGB", 29), ("40 × 40 RGB", 1))


CASES = {
    "class": lambda: make_source(),
    "many classes": lambda: make_source(
        400, target=Target("class", tuple(f"c{n}" for n in range(100))), targets=np.arange(400) % 100
    ),
    "strange labels": lambda: make_source(target=Target("class", ("$x_{$", "狗" * 30))),
    "number": lambda: make_source(target=Target("number"), targets=np.arange(60, dtype=np.float32)[:, None]),
    "multilabel": lambda: make_source(
        target=Target("multilabel", ("u", "v"), 2), targets=(np.arange(120) % 3 > 0).reshape(60, 2).astype(np.float32)
    ),
    "nothing but missing": lambda: make_source(age=np.full(60, np.nan, np.float32)),
    "few": lambda: make_source(4),
    "tensor images": SOURCES.bind("sklearn", {"name": "digits"}),
    "wide": SOURCES.bind("synthetic", {"examples": 90, "features": 200}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_is_shown_and_drawn(case, tmp_path):
    facts = gather(CASES[case]())
    assert "split" in render(facts)
    draw(facts, tmp_path / "data.png", case)
    with PIL.Image.open(tmp_path / "data.png") as image:
        assert image.width == 1440 and len(set(image.convert("L").resize((90, 60)).tobytes())) > 10


def test_a_text_and_sounds_are_drawn(tmp_path):
    import soundfile

    (tmp_path / "poem.txt").write_text("the cat sat on the mat\n" * 60)
    text = gather(SOURCES.bind("text", {"path": str(tmp_path / "poem.txt"), "context": 8})())
    draw(text, tmp_path / "text.png", "text")
    for number in range(20):
        (tmp_path / "sounds" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).uniform(-0.5, 0.5, 800)
        soundfile.write(tmp_path / "sounds" / "ab"[number % 2] / f"{number}.wav", noise, 8000)
    sounds = gather(SOURCES.bind("audio_folder", {"path": str(tmp_path / "sounds")})())
    assert sounds.features[0].counts == (("8,000 Hz", 20),) and sounds.features[0].high == pytest.approx(0.1)
    draw(sounds, tmp_path / "sounds.png", "sounds")
    assert (tmp_path / "text.png").stat().st_size > 5000 < (tmp_path / "sounds.png").stat().st_size
