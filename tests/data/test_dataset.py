import numpy as np
import pytest

from bmp.config import DataConfig
from bmp.data import Split, load_data
from bmp.data import dataset as dataset_module
from bmp.data.source import Source, Target
from bmp.data.sources.memory import ArraySource
from bmp.errors import ConfigError, DataError
from bmp.signature import TensorSpec
from bmp.transforms import Field, Preprocessing, build_steps

SPLITS = ("train", "validation", "test")
AGE, TOWN = Field("age", "number"), Field("town", "category")


def make_source(count=60, **changes) -> Source:
    columns = {
        "age": np.arange(count, dtype=np.float32),
        "town": np.array([("Bonn", "Köln", "")[number % 3] for number in range(count)], object),
    }
    columns |= changes
    return ArraySource(columns, (AGE, TOWN), np.arange(count) % 2, Target("class", ("no", "yes")))


def configure(**changes) -> DataConfig:
    return DataConfig(source="any", **changes)


@pytest.fixture
def data():
    return load_data(make_source, configure(), 0)


def test_the_splits_are_disjoint_and_complete(data):
    numbers = np.concatenate([getattr(data, name).index for name in SPLITS])
    assert sorted(numbers) == list(range(60))


def test_what_a_split_reads_fits_the_signature(data):
    for name in SPLITS:
        batch = getattr(data, name).load()
        assert data.signature.check_inputs(batch.inputs) == len(batch) == len(batch.targets)


def test_the_signature_says_what_is_learned(data):
    assert data.signature.inputs == (TensorSpec("features", "float32", (4,)),)
    assert (data.signature.objective, data.signature.outputs[0].shape) == ("binary", (1,))
    assert data.labels == ("no", "yes") == data.target.labels


def test_the_objective_of_the_recipe_is_taken_or_refused():
    data = load_data(make_source, configure(objective="multiclass"), 0)
    assert (data.signature.objective, data.signature.outputs[0].shape) == ("multiclass", (2,))
    with pytest.raises(ConfigError, match=r"data\.objective is regression"):
        load_data(make_source, configure(objective="regression"), 0)


def test_steps_are_fitted_on_the_training_split_alone(data):
    fill = next(step for step in data.preprocessing.steps if step.kind == "fill")
    assert fill.fitted["age"] == pytest.approx((data.train.index.mean(),))


def test_steps_of_another_model_are_taken_as_they_are(data):
    again = load_data(make_source, configure(), 1, steps=data.preprocessing.steps)
    assert again.preprocessing == data.preprocessing
    assert (again.train.index != data.train.index).any()


def test_mistakes_of_the_recipe_are_told_before_an_example_is_read():
    source = make_source()
    source.read = None
    with pytest.raises(ConfigError, match="standardize"):
        load_data(lambda: source, configure(transforms=[{"kind": "standardize", "fields": ["age"]}]), 0)


def test_the_bad_are_left_out_and_reported():
    ages = np.arange(60, dtype=np.float32)
    ages[7] = np.inf
    with pytest.raises(DataError, match="example 7: 'age' holds inf"):
        load_data(lambda: make_source(age=ages), configure(), 0)
    data = load_data(lambda: make_source(age=ages), configure(on_bad_example="skip", max_bad_fraction=0.05), 0)
    assert [bad.number for bad in data.report.bad] == [7] and data.report.examples == 60
    assert 7 not in np.concatenate([getattr(data, name).index for name in SPLITS])


def test_the_report_counts_copies():
    ages = np.repeat(np.arange(30, dtype=np.float32), 2)
    towns = np.array(["Bonn"] * 60, object)
    data = load_data(lambda: make_source(age=ages, town=towns), configure(stratify=False), 0)
    assert (data.report.duplicates, data.report.dropped) == (30, 0)
    contents = [set(getattr(data, name).index // 2) for name in SPLITS]
    assert not contents[0] & (contents[1] | contents[2])


def test_the_digest_knows_the_data_and_not_the_split(data):
    assert load_data(make_source, configure(), 1).digest == data.digest
    ages = np.arange(60, dtype=np.float32)[::-1]
    assert load_data(lambda: make_source(age=ages), configure(), 0).digest != data.digest


def test_what_serving_runs_starts_from_what_people_send():
    source = make_source()
    source.serving_fields = (AGE,)
    source.serving_steps = build_steps([{"kind": "fill", "fields": ["age"], "value": 3.0}], (AGE,))
    data = load_data(lambda: source, configure(), 0)
    assert data.preprocessing.fields == (AGE,)
    assert data.preprocessing.steps == (*source.serving_steps, *data.train.preprocessing.steps)


# --- Split ---


@pytest.fixture
def split():
    source = make_source(20)
    return Split(source, np.array([5, 3, 8, 1, 0]), Preprocessing((AGE,), ()))


def test_a_split_reads_in_its_own_order(split):
    assert split.read(np.array([2, 0])).inputs["age"].tolist() == [8, 5]
    assert split.read(slice(1, 3)).inputs["age"].tolist() == [3, 8]
    assert split.read(slice(1, 3)).targets.tolist() == [1, 0]
    assert split.targets().tolist() == [1, 1, 0, 1, 0] and len(split) == 5


def test_batches_hold_every_example_once(split):
    batches = list(split.batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert np.concatenate([batch.inputs["age"] for batch in batches]).tolist() == [5, 3, 8, 1, 0]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_loading_everything_is_the_same_in_any_chunks(split, size, monkeypatch):
    monkeypatch.setattr(dataset_module, "chunk_size", lambda source: size)
    batch = split.load()
    assert batch.inputs["age"].tolist() == [5, 3, 8, 1, 0] and batch.targets.tolist() == [1, 1, 0, 1, 0]


def test_taking_examples_keeps_inputs_and_targets_together(split):
    taken = split.take(np.array([3, 0])).load()
    assert (taken.inputs["age"].tolist(), taken.targets.tolist()) == ([1, 5], [1, 1])
    assert split.take(slice(2)).targets().tolist() == [1, 1]
