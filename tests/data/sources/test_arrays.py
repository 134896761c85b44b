import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bmp.config import DataConfig
from bmp.data import SOURCES, load_data
from bmp.data.source import BadExampleError, Target
from bmp.data.sources.memory import ArraySource, Stacked
from bmp.errors import ConfigError, DataError
from bmp.transforms import Field

X = np.arange(24, dtype=np.float64).reshape(6, 4)
Y = np.array([0, 1, 0, 1, 0, 1])


@pytest.fixture
def read(tmp_path):
    def read(save=np.savez, arguments=None, **arrays):
        save(tmp_path / "data.npz", **arrays)
        return SOURCES.bind("arrays", {"path": str(tmp_path / "data.npz"), **(arguments or {})})()

    return read


def everything(source):
    return source.read(np.arange(len(source)))


def test_inputs_become_float32_and_targets_classes(read):
    source = read(x=X, y=Y)
    assert source.fields == (Field("x", "tensor", "float32", (4,)),)
    assert everything(source)["x"].tolist() == X.tolist() and source.target == Target("class", ("0", "1"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_as_it_lies_is_mapped_and_a_compressed_one_read(read, save):
    source = read(save, x=np.asfortranarray(X), y=Y)
    assert everything(source)["x"].tolist() == X.tolist()
    assert isinstance(source._columns["x"], np.memmap) == (save is np.savez)


def test_files_are_mapped(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", Y)
    path = {"x": str(tmp_path / "a.npy"), "y": str(tmp_path / "b.npy")}
    source = SOURCES.bind("arrays", {"path": path})()
    assert isinstance(source._columns["x"], np.memmap) and everything(source)["x"].tolist() == X.tolist()


def test_several_inputs_of_every_kind(read):
    town = np.array(["Bonn", "Köln", "Bonn", "", "x", "y"])
    tokens = np.arange(12, dtype=np.int64).reshape(6, 2)
    source = read(x=X, n=X[:, 0], town=town, t=tokens, y=Y, arguments={"vocabulary": {"t": 12}})
    assert source.fields == (
        Field("x", "tensor", "float32", (4,)),
        Field("n", "number"),
        Field("town", "category"),
        Field("t", "tensor", "int32", (2,), 12),
    )
    assert everything(source)["town"].tolist() == town.tolist()


def test_inputs_target_and_labels_can_be_named(read):
    arguments = {"inputs": ["b"], "target": "c", "labels": ["no", "yes"]}
    source = read(a=X, b=X, c=Y, arguments=arguments)
    assert [field.name for field in source.fields] == ["b"] and source.target.labels == ("no", "yes")


@pytest.mark.parametrize("ends", [("_train", "_val", "_test"), ("_train", "_test"), ("_train", "_validation", "_test")])
def test_ends_of_names_are_splits(read, ends):
    arrays = {
        f"{name}{end}": array[: 6 - place] for place, end in enumerate(ends) for name, array in (("x", X), ("y", Y))
    }
    source = read(**arrays)
    assert sum(map(len, source.given.values())) == len(source)
    assert set(source.given) == {"_val": {"train", "validation", "test"}}.get("", set(source.given))
    assert everything(source)["x"][source.given["test"]].tolist() == arrays["x_test"].tolist()
    assert source.read_targets(source.given["train"]).tolist() == arrays["y_train"].tolist()


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"x": X, "z": Y}, {}, "Which of the arrays x, z is to be predicted"),
        ({"x": X, "y": Y}, {"inputs": ["X"]}, "no array 'X'; there are x, y"),
        ({"x": X, "y": Y}, {"target": "yy"}, "no array 'yy'"),
        ({"x": X, "y": Y[:5]}, {}, "'x' has 6 examples, but there are 5 targets"),
        ({"y": Y}, {}, "no array to learn from"),
        ({"x": np.float32(3), "y": Y}, {}, "a single value"),
        ({"x": X.astype(complex), "y": Y}, {}, "complex128"),
        ({"x": np.array([{}] * 6), "y": Y}, {}, "Python objects, which bmp never unpickles"),
        ({"x_train": X, "y_train": Y, "x_test": X}, {}, "do not come in the same splits"),
        ({"x_train": X, "y_train": Y, "z": X}, {}, "do not come in the same splits"),
        ({"x_train": X, "y_train": Y[:3]}, {}, "6 examples in one array and 3"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, {}, "examples of one shape"),
        ({"x": X, "y": Y + 5}, {"labels": ["a"]}, None),
    ],
)
def test_what_does_not_fit_is_told(read, arrays, arguments, message):
    if message is None:
        source = read(**arrays, arguments=arguments)
        with pytest.raises(BadExampleError, match="the target is 5; expected 0 to 0"):
            source.read_targets(np.arange(6))
        return
    with pytest.raises((ConfigError, DataError), match=message):
        read(**arrays, arguments=arguments)


@pytest.mark.parametrize("size", [0, 10, 200])
def test_a_damaged_file_is_told(tmp_path, size):
    np.savez(tmp_path / "whole.npz", x=X, y=Y)
    (tmp_path / "data.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:size])
    with pytest.raises(DataError, match=r"data\.npz cannot be read as NumPy arrays"):
        SOURCES.bind("arrays", {"path": str(tmp_path / "data.npz")})()


def test_missing_files_and_a_single_array_are_told(tmp_path):
    for path in ("nowhere.npz", {"x": "nowhere.npy", "y": "nowhere.npy"}):
        with pytest.raises(DataError, match="There is no file nowhere"):
            SOURCES.bind("arrays", {"path": path})()
    with pytest.raises(ConfigError, match="is one array"):
        SOURCES.bind("arrays", {"path": "x.npy"})()
    with pytest.raises(DataError, match=r"holds no \.npy file"):
        SOURCES.bind("arrays", {"path": str(tmp_path)})()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_stops_or_is_skipped(read, value):
    x = np.random.default_rng(0).normal(size=(60, 2))
    x[13, 1] = value
    y = np.arange(60) % 2
    with pytest.raises(DataError, match=rf"data\.npz, example 13: 'x' holds {value}"):
        load_data(lambda: read(x=x, y=y), DataConfig(source="arrays"), 0)
    config = DataConfig(source="arrays", on_bad_example="skip", max_bad_fraction=0.02)
    assert [bad.number for bad in load_data(lambda: read(x=x, y=y), config, 0).report.bad] == [13]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_stacked_arrays_are_as_one(lengths, seed):
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(length, 2)) for length in lengths]
    stacked, whole = Stacked(arrays, "x"), np.concatenate(arrays)
    index = random.integers(0, len(whole), 7)
    assert len(stacked) == len(whole) and stacked.shape == whole.shape
    assert (stacked[index] == whole[index]).all() and (stacked[:] == whole).all()


def test_a_bad_example_of_an_array_source_is_never_read():
    source = ArraySource(
        {"x": X}, (Field("x", "tensor", "float32", (4,)),), Y, Target("class", ("0", "1")), bad={2: "it is odd"}
    )
    for read in (source.read, source.read_targets):
        with pytest.raises(BadExampleError, match="example 2: it is odd") as caught:
            read(np.array([1, 2]))
        assert caught.value.number == 2
        read(np.array([0, 1, 3]))


# --- python ---


@pytest.fixture
def call(tmp_path):
    def call(body: str, **arguments):
        (tmp_path / "mine.py").write_text(f"import numpy as np\ndef make(**args):\n    {body}\n")
        return SOURCES.bind("python", {"function": f"{tmp_path / 'mine.py'}:make", **arguments})()

    return call


def test_a_function_returns_inputs_and_targets(call):
    source = call("return np.ones((4, args['width'])), [1.5, 2.5, 3.5, 4.5]", args={"width": 3})
    assert source.fields == (Field("features", "tensor", "float32", (3,)),) and source.target == Target("number")
    named = call("return {'a': [1, 2, 3, 4], 'b': ['u', 'v', 'u', 'v']}, ['x', 'y', 'x', 'y']")
    kinds = [
        field.kind for field in call("return {'a': ['u', 'v'] * 2, 'b': ['x', 'y'] * 2}, [0.5] * 4", texts=["a"]).fields
    ]
    assert kinds == ["text", "category"]
    assert [field.kind for field in named.fields] == ["number", "category"] and named.target.labels == ("x", "y")


def test_a_function_returns_a_source(call):
    source = call("from bmp.data import SOURCES\n    return SOURCES['sklearn'](name='iris')")
    assert len(source) == 150


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3", r"mine\.py:make returned int; expected a Source, or \(inputs, targets\)"),
        ("return args['width']", r"mine\.py, line 3: KeyError: 'width'"),
        ("return {'a': np.array(['x', None], object)}, [1, 2]", "Example 1 of the array 'a' is None; expected a text"),
        ("return np.ones((3, 2)), [1, 2]", "'features' has 3 examples, but there are 2 targets"),
    ],
)
def test_what_a_function_does_wrong_is_told(call, body, message):
    with pytest.raises(DataError, match=message):
        call(body)


def test_a_missing_function_gets_a_guess(call, tmp_path):
    call("return np.ones((4, 1)), [1.5] * 4")
    with pytest.raises(ConfigError, match=r"no function 'mak'.*Did you mean 'make'"):
        SOURCES.bind("python", {"function": f"{tmp_path / 'mine.py'}:mak"})()


# --- synthetic ---


def synthetic(**arguments):
    return SOURCES.bind("synthetic", {"examples": 3000, **arguments})()


@pytest.mark.parametrize("kind", ["class", "binary", "number", "multilabel"])
def test_what_is_made_up_can_be_learned(kind):
    source = synthetic(kind=kind, features=5, seed=3)
    x = np.c_[source.read(np.arange(3000))["features"], np.ones(3000)]
    y = source.read_targets(np.arange(3000)).reshape(3000, -1).astype(float)
    y = y if kind == "number" else 2 * y - 1
    plane, *_ = np.linalg.lstsq(x[:2000], y[:2000], rcond=None)
    found = x[2000:] @ plane
    if kind == "number":
        assert 1 - np.square(found - y[2000:]).mean() / y.var() > 0.95
    else:
        assert (np.sign(found) == y[2000:]).mean() > 0.9


def test_what_is_made_up_is_standard_normal_and_independent():
    x = synthetic(kind="number", features=6).read(np.arange(3000))["features"]
    assert abs(x.mean(axis=0)).max() < 0.1 and abs(x.std(axis=0) - 1).max() < 0.1
    assert abs(np.corrcoef(x.T) - np.eye(6)).max() < 0.1
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 0.1


def test_each_seed_has_examples_of_its_own_and_size_changes_none():
    index = np.array([5, 6, 7, 1, 2999])
    first = synthetic(seed=1).read(index)["features"]
    assert (synthetic(seed=1, examples=10**12).read(index)["features"] == first).all()
    assert not (synthetic(seed=2).read(index)["features"] == first).any()


def test_a_shape_in_place_of_features():
    source = synthetic(shape=[4, 3, 1], outputs=10)
    assert source.fields[0].shape == (4, 3, 1) and len(source.target.labels) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": 3, "shape": [3]}, "remove one"),
        ({"outputs": 1}, "nothing to learn from one class"),
        ({"kind": "binary", "outputs": 3}, "always two classes"),
        ({"examples": 0}, "greater than 0"),
    ],
)
def test_what_cannot_be_made_up_is_told(arguments, message):
    with pytest.raises(ConfigError, match=message):
        synthetic(**arguments)
