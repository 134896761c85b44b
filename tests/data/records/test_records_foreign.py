"""TFRecord files that others wrote."""

import gzip
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_sets import make_png

from bmp.data.records import Options, RecordSource, convert, load_records
from bmp.data.records.tfrecord import frame
from bmp.data.source import BadExampleError
from bmp.errors import ConfigError, DataError


def serialize(**features) -> bytes:
    import tensorflow as tf

    made = {}
    for name, values in features.items():
        values = values if isinstance(values, list) else [values]
        if isinstance(values[0], bytes):
            made[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        elif isinstance(values[0], float):
            made[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
        else:
            made[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def write(path, examples):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    return path


@pytest.fixture
def folder(tmp_path):
    """Three files of ten examples each, and a file of another kind."""
    for file in range(3):
        numbers = range(file * 10, file * 10 + 10)
        examples = [
            serialize(
                image=make_png(number),
                pixels=bytes([number] * 6),
                weights=[number * 0.5, 1.0],
                size=number,
                name=f"näme {number}".encode(),
                label=number % 4,
            )
            for number in numbers
        ]
        write(tmp_path / f"part-{file}.tfrecord", examples)
    (tmp_path / "README").write_text("about the data")
    return tmp_path


FEATURES = {
    "pixels": {"dtype": "uint8", "shape": [2, 3]},
    "weights": {"kind": "tensor", "shape": [2]},
    "size": {"kind": "number"},
    "name": {"kind": "text"},
    "image": {"kind": "image"},
}


@pytest.mark.parametrize("pattern", ["", "*.tfrecord", "part-[012].tf*"])
def test_examples_are_read_by_number_over_all_files(folder, pattern, caplog):
    source = load_records(path=str(folder / pattern), features=FEATURES)
    assert len(source) == 30 and source.target.labels == ("0", "1", "2", "3")
    index = np.array([29, 0, 11, 11])
    columns = source.read(index)
    assert list(columns) == list(FEATURES)
    assert columns["pixels"].dtype == np.uint8
    np.testing.assert_array_equal(columns["pixels"], np.tile(index[:, None, None], (1, 2, 3)))
    np.testing.assert_array_equal(columns["weights"], np.stack([index * 0.5, np.ones(4)], axis=1))
    assert columns["size"].tolist() == [29.0, 0.0, 11.0, 11.0]
    assert columns["name"].tolist() == ["näme 29", "näme 0", "näme 11", "näme 11"]
    assert columns["image"].tolist() == [make_png(number) for number in index.tolist()]
    assert source.read_targets(index).tolist() == [1, 0, 3, 3]
    assert source.where(10) == f"{folder}/part-1.tfrecord, byte 0"
    assert not caplog.records
    assert sorted(path.name for path in folder.iterdir()) == ["README", *(f"part-{file}.tfrecord" for file in range(3))]


def test_features_are_taken_from_the_first_record_and_said(folder, caplog):
    with caplog.at_level(logging.WARNING):
        source = load_records(path=str(folder))
    kinds = {field.name: (field.kind, field.shape) for field in source.fields}
    assert kinds == {
        "image": ("image", ()),
        "name": ("text", ()),
        "pixels": ("text", ()),  # six zero bytes are a text as well: this is why it is said
        "size": ("number", ()),
        "weights": ("tensor", (2,)),
    }
    assert "taken from the first record: features: {image: {kind: image}, name: {kind: text}" in caplog.text
    assert "weights: {kind: tensor, dtype: float32, shape: [2]}" in caplog.text


@pytest.mark.parametrize(
    ("labels", "targets", "kind", "found"),
    [
        (None, [b"cat", b"dog", b"ant"], "class", [1, 2, 0]),
        (["dog", "cat", "ant"], [b"cat", b"dog", b"ant"], "class", [1, 0, 2]),
        (["zero", "one", "two"], [2, 0, 1], "class", [2, 0, 1]),
        (None, [1.5, -2.0, 0.0], "number", [[1.5], [-2.0], [0.0]]),
        (None, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "number", [[1, 2], [3, 4], [5, 6]]),
    ],
)
def test_targets_are_classes_or_numbers(labels, targets, kind, found, tmp_path):
    write(tmp_path / "a.tfrecord", [serialize(x=1.0, y=target) for target in targets])
    source = load_records(path=str(tmp_path), features={"x": {"kind": "number"}}, target="y", labels=labels)
    assert source.target.kind == kind and source.target.width == len(np.atleast_2d(found)[0]) ** (kind == "number")
    np.testing.assert_array_equal(source.read_targets(np.arange(3)), found)


@settings(deadline=None, max_examples=40)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
    wholes=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=2, max_size=2),
    text=st.text(max_size=9),
)
def test_any_example_of_tensorflow_is_read(numbers, wholes, text, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "a.tfrecord"
    path.write_bytes(frame(serialize(f=numbers, i=wholes, t=text.encode(), label=0)))
    features = {"f": {"shape": [3]}, "i": {"dtype": "int64", "shape": [2]}, "t": {"kind": "category"}}
    columns = load_records(path=str(path), features=features).read(np.array([0]))
    assert columns["f"].tolist() == [numbers] and columns["i"].tolist() == [wholes] and columns["t"].tolist() == [text]


def test_what_is_absent_is_missing_or_bad(tmp_path):
    write(tmp_path / "a.tfrecord", [serialize(label=0, x=1.0, c=b"a", v=[1.0, 2.0]), serialize(label=1)])
    numbers = load_records(path=str(tmp_path), features={"x": {"kind": "number"}, "c": {"kind": "category"}})
    columns = numbers.read(np.arange(2))
    np.testing.assert_array_equal(columns["x"], [1, np.nan])
    assert columns["c"].tolist() == ["a", ""]
    tensors = load_records(path=str(tmp_path), features={"v": {"kind": "tensor", "shape": [2]}})
    with pytest.raises(BadExampleError, match=r"a\.tfrecord, byte \d+: 'v' has 0 values where 2 were expected"):
        tensors.read(np.arange(2))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"x": {"kind": "tensor", "shape": [2]}}, "'x' has 1 values where 2"),
        ({"t": {"kind": "tensor", "dtype": "int32", "shape": [2]}}, "'t' has 2 bytes where 8"),
        ({"t": {"kind": "number"}}, "'t' has 1 values of bytes_list where one number"),
        ({"x": {"kind": "image"}}, "'x' has 1 values of float_list where one of bytes_list"),
        ({"t": {"kind": "text"}}, "'t' is no UTF-8 text"),
        ({"big": {"kind": "tensor", "dtype": "uint8"}}, "'big' holds whole numbers that uint8 cannot hold"),
    ],
)
def test_an_example_that_is_not_as_described_is_bad(features, message, tmp_path):
    write(tmp_path / "a.tfrecord", [serialize(label=0, x=1.0, t=b"\xff\xfe", big=300)])
    with pytest.raises(BadExampleError, match=message):
        load_records(path=str(tmp_path), features=features).read(np.array([0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "labl"}, r"no feature 'labl' to predict; it has .* Did you mean 'label'"),
        ({"features": {"x": {"kind": "imge"}}}, r"features\.x\.kind is 'imge'.* Did you mean 'image'"),
        ({"features": {"x": {"shap": [1]}}}, r"not 'shap'\. Did you mean 'shape'"),
        ({"features": {"x": {"dtype": "flot"}}}, r"features\.x cannot be read"),
        ({"features": {"label": {"kind": "number"}}}, "is what is to be predicted"),
        ({"target": "weights"}, "has 2 values; expected one class"),
        ({"key_file": "key"}, "no encrypted records"),
    ],
)
def test_a_wrong_description_is_refused(arguments, message, tmp_path):
    write(tmp_path / "a.tfrecord", [serialize(label=0, x=1.0, weights=[1, 2])])
    with pytest.raises(ConfigError, match=message):
        load_records(path=str(tmp_path), **{"features": {"x": {"kind": "number"}}, **arguments})


def test_a_cut_off_tail_is_one_bad_example(folder):
    path = folder / "part-2.tfrecord"
    path.write_bytes(path.read_bytes()[:-7])
    source = load_records(path=str(folder), features=FEATURES)
    assert len(source.read(np.arange(29))["size"]) == len(source.read_targets(np.arange(29))) == 29
    for read in (source.read, source.read_targets):
        with pytest.raises(BadExampleError, match=r"part-2\.tfrecord, byte \d+: the file ends inside the record"):
            read(np.array([29]))
    with pytest.raises(DataError, match="ends inside the record"):
        load_records(path=str(folder), features=FEATURES, verify=True)
    options = Options(2, on_bad_example="skip", max_bad_fraction=0.05)
    assert convert(source, folder / "set", options, description={}).num_bad == 1
    records = RecordSource(folder / "set")
    assert records.read(np.arange(29))["name"].tolist() == source.read(np.arange(29))["name"].tolist()


def test_a_damaged_record_is_one_bad_example(folder):
    path = folder / "part-1.tfrecord"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    source = load_records(path=str(folder), features=FEATURES)
    with pytest.raises(BadExampleError, match=r"part-1\.tfrecord, byte 0: its checksum is wrong"):
        source.read(np.array([3, 10]))
    assert source.read(np.array([9, 11]))["size"].tolist() == [9, 11]


def test_a_damaged_length_ends_it(folder):
    path = folder / "part-1.tfrecord"
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"part-1\.tfrecord is no TFRecord file"):
        load_records(path=str(folder), features=FEATURES)


def test_files_of_another_kind_are_refused(folder):
    path = folder / "part-1.tfrecord"
    path.with_name("packed.tfrecord.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"compressed as a whole \(gzip\).* gunzip --keep"):
        load_records(path=str(folder / "packed.tfrecord.gz"))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="holds no record"):
        load_records(path=str(path))
    path.write_bytes(frame(b"no example at all"))
    with pytest.raises(BadExampleError, match=r"byte 0: it is no tf\.train\.Example"):
        load_records(path=str(path))
