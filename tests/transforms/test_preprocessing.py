import numpy as np
import pytest
from transform_cases import CASES, FIELDS, make_image, to_column

from bmp.errors import ArtifactError, ConfigError, DataError, UnknownNameError
from bmp.transforms import TRANSFORMS, Field, Preprocessing, Step, build_steps

AGE, SEX, GRID = Field("age", "number"), Field("sex", "category"), Field("grid", "tensor", "float32", (2,))
COLUMNS = {
    "sex": to_column(["m", "f", "m", ""]),
    "grid": np.ones((4, 2), np.float32),
    "age": np.array([1, 2, 3, np.nan], np.float32),
}


def test_auto_leaves_tensors_and_makes_one_row_of_numbers_and_categories():
    fields = (SEX, GRID, AGE)
    fitted = Preprocessing(fields, build_steps("auto", fields)).fit(lambda: iter([COLUMNS]))
    assert [str(spec) for spec in fitted.outputs] == ["float32 (B, 2)", "float32 (B, 4)"]
    out = fitted.run(COLUMNS)
    assert list(out) == ["grid", "features"]
    np.testing.assert_allclose(out["features"][:, :3], [[0, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert out["features"][3, 3] == 0  # filled with the mean
    assert build_steps("auto", (GRID,)) == ()


@pytest.mark.parametrize(
    ("kind", "line"), [("image", "kind: image, field: x"), ("audio", "kind: log_mel"), ("text", "kind: tokenize")]
)
def test_auto_shows_the_line_to_write_for_what_it_cannot_choose(kind, line):
    with pytest.raises(ConfigError, match=line):
        build_steps("auto", (AGE, Field("x", kind)))


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        ({"kind": "standardize", "fields": ["age"]}, UnknownNameError, "Did you mean 'standardise'"),
        ({"fields": ["age"]}, ConfigError, "needs its kind, one of augment, fill"),
        ({"kind": "fill", "feilds": ["age"]}, ConfigError, "takes no argument 'feilds'.*Did you mean 'fields'"),
        ({"kind": "fill"}, ConfigError, "needs the argument 'fields'"),
        ({"kind": "fill", "fields": "age"}, ConfigError, "argument 'fields' is 'age'"),
        ({"kind": "fill", "fields": []}, ConfigError, "argument 'fields' is"),
        ({"kind": "fill", "fields": ["aeg"]}, ConfigError, "Did you mean 'age'"),
        ({"kind": "one_hot", "fields": ["age"]}, ConfigError, "category, but 'age' is of kind number"),
        ({"kind": "tokenize", "field": "note"}, ConfigError, "needs the argument 'length'"),
        ({"kind": "tokenize", "field": "note", "length": 3, "tokenizer": "bpe"}, ConfigError, "vocabulary_size must"),
        ({"kind": "tokenize", "field": "note", "length": True}, ConfigError, "'length' is True"),
        ({"kind": "augment", "field": "grid"}, ConfigError, "nothing is to be done"),
        ({"kind": "augment", "field": "grid", "crop": 1.5}, ConfigError, "'crop' is 1.5"),
        (
            {"kind": "image", "field": "photo", "height": 3, "width": 3, "mean": [1, 2]},
            ConfigError,
            "mean has 2 numbers",
        ),
        ({"kind": "image", "field": "photo", "height": 3, "width": 3, "std": [0]}, ConfigError, "std must be greater"),
        ({"kind": "log_mel", "field": "sound", "bands": 400}, ConfigError, "bands is too high"),
        ({"kind": "log_mel", "field": "sound", "seconds": 0.01}, ConfigError, "frame_ms is longer than seconds"),
        ({"kind": "log_mel", "field": "sound", "hop_ms": 0.01}, ConfigError, "shorter than a sample"),
        ({"kind": "log_mel", "field": "sound", "high_hz": 9000}, ConfigError, "half the sample rate"),
    ],
)
def test_a_wrong_step_is_refused_in_plain_words(step, error, message):
    with pytest.raises(error, match=message):
        build_steps([step], FIELDS)


def test_only_images_of_floats_are_flipped_and_cropped():
    step = {"kind": "augment", "field": "x", "crop": 3}
    with pytest.raises(ConfigError, match=r"flips and crops images.*\(3,\)"):
        build_steps([step], (Field("x", "tensor", "float32", (3,)),))
    with pytest.raises(ConfigError, match="tensor of floats, but 'x' is uint8"):
        build_steps([step], (Field("x", "tensor", "uint8", (8, 8)),))


def test_a_recipe_may_give_what_would_be_fitted():
    steps = build_steps(
        [{"kind": "standardise", "fields": ["age"], "mean": {"age": [2]}, "deviation": {"age": [4]}}], (AGE,)
    )
    ready = Preprocessing((AGE,), steps)
    assert ready.is_fitted
    assert ready.run({"age": np.array([10], np.float32)})["age"].tolist() == [2.0]


def test_a_step_is_fitted_to_what_earlier_steps_leave_and_to_nothing_it_does_not_need():
    fields = (AGE, Field("photo", "image"))
    steps = [
        {"kind": "image", "field": "photo", "height": 4, "width": 4},
        {"kind": "fill", "fields": ["age"], "value": 5},
        {"kind": "standardise", "fields": ["age"]},
    ]
    columns = {"age": np.array([5, np.nan, np.nan, 5], np.float32), "photo": to_column([b"broken"] * 4)}
    fitted = Preprocessing(fields, build_steps(steps, fields)).fit(lambda: iter([columns]))
    assert fitted.steps[2].mean == {"age": (5.0,)}

    later = [*steps, {"kind": "standardise", "fields": ["photo"]}]
    unfitted = Preprocessing(fields, build_steps(later, fields))
    with pytest.raises(DataError, match="'photo' of example 0"):
        unfitted.fit(lambda: iter([columns]))
    photos = {**columns, "photo": to_column([make_image(np.random.default_rng(i)) for i in range(4)])}
    out = unfitted.fit(lambda: iter([photos])).run({**photos, "age": np.ones(4, np.float32)})["photo"]
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-5)


def test_a_missing_feature_is_named_and_more_than_needed_is_left_aside():
    ready = Preprocessing((GRID,))
    assert list(ready.run({"grid": np.ones((1, 2), np.float32), "other": np.ones(1)})) == ["grid"]
    with pytest.raises(DataError, match="'grid' is missing"):
        ready.run({"other": np.ones(1)})


def spoil(change):
    data = CASES["join"]["row"].fit().to_dict()
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("steps"), "steps"),
        (lambda data: data["steps"][0].update(kind="magic"), "magic"),
        (lambda data: data["steps"][0].pop("kind"), "kind"),
        (lambda data: data["steps"][0].update(more=1), "more"),
        (lambda data: data["steps"][0].update(fitted={"age": [float("nan")]}), "fitted"),
        (lambda data: data["steps"][2].update(fields=["gone"]), "gone"),
        (lambda data: data["steps"].insert(0, 3), "int"),
        (lambda data: data["fields"][0].pop("name"), "name"),
        (lambda data: data.update(fields=None), "None"),
    ],
)
def test_a_damaged_description_is_refused(change, message):
    with pytest.raises(ArtifactError, match=message):
        Preprocessing.from_dict(spoil(change))


def test_a_damaged_tokenizer_is_refused():
    data = CASES["tokenize"]["bpe"].fit().to_dict()
    data["steps"][0]["bpe"] = data["steps"][0]["bpe"][:500]
    with pytest.raises(ArtifactError, match="no description of a tokenizer"):
        Preprocessing.from_dict(data)


def test_a_step_of_the_users_own():
    class Double(Step):
        kind: str = "double"
        fields: tuple[str, ...]

        def plan(self, fields):
            return fields

        def run(self, columns):
            return columns | {name: columns[name] * 2 for name in self.fields}

    TRANSFORMS.register("double", Double)
    try:
        steps = (Double(fields=("age",)),)
        assert Preprocessing((AGE,), steps).run({"age": np.ones(1, np.float32)})["age"].tolist() == [2.0]
    finally:
        TRANSFORMS._entries.pop("double")
