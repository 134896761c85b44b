"""Written and read back: every kind of example, every packing, every way to be damaged."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_sets import KEY, make_mixed, make_tensors, same

from bmp.data.records import Options, RecordSource, convert, load_records
from bmp.data.records.keys import KEY_VARIABLE
from bmp.data.scan import scan_source
from bmp.errors import ConfigError, DataError

PACKINGS = [(compression, key) for compression in ("none", "gzip", "zstd") for key in (None, KEY)]
OTHER_KEY = bytes(32)


def write(source, directory, *, shards=3, compression="none", key=None):
    convert(source, directory, Options(shards, compression, key), description={"source": "test"})
    return directory


@pytest.mark.parametrize(("compression", "key"), PACKINGS)
@pytest.mark.parametrize("make", [make_tensors, make_mixed])
def test_any_example_is_read_by_its_number(make, compression, key, tmp_path):
    source = make(20)
    records = RecordSource(write(source, tmp_path, compression=compression, key=key), key, verify=True)
    assert len(records) == 20
    assert (records.fields, records.target, records.given) == (source.fields, source.target, {})
    for index in ([7], [19, 0, 7, 7], list(range(20)), list(range(19, -1, -1)), []):
        index = np.array(index, np.int64)
        assert same(records.read(index), source.read(index))
        found, wanted = records.read_targets(index), source.read_targets(index)
        assert found.dtype == wanted.dtype and found.tobytes() == wanted.tobytes()
    scan = scan_source(source, [type("Fill", (), {"kind": "fill", "fields": ["age"]})])
    np.testing.assert_array_equal(records.read_hashes(np.arange(20)), scan.hashes)
    assert records.where(7) == f"{tmp_path}/all-00001-of-00003.tfrecord, record 1"


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_what_is_written_comes_back_whatever_the_numbers(tmp_path_factory, data):
    count, shards = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 40))
    compression, key = data.draw(st.sampled_from(PACKINGS))
    source = data.draw(st.sampled_from([make_tensors, make_mixed]))(count)
    directory = tmp_path_factory.mktemp("records")
    records = RecordSource(write(source, directory, shards=shards, compression=compression, key=key), key)
    assert len(list(directory.glob("*.tfrecord"))) == min(shards, count)
    index = np.array(data.draw(st.lists(st.integers(0, count - 1), max_size=50)), np.int64)
    assert same(records.read(index), source.read(index))
    assert records.read_targets(index).tobytes() == source.read_targets(index).tobytes()


@pytest.mark.parametrize("number", [-1, 20])
def test_a_number_that_is_not_there_is_refused(number, tmp_path):
    with pytest.raises(IndexError, match="only examples 0 to 19"):
        RecordSource(write(make_tensors(20), tmp_path)).read(np.array([number]))


@pytest.mark.parametrize(("compression", "key"), [("none", None), ("zstd", KEY)])
def test_many_threads_read_at_once(compression, key, tmp_path):
    source = make_mixed(50)
    records = RecordSource(write(source, tmp_path, compression=compression, key=key), key)
    orders = [np.random.default_rng(seed).permutation(50) for seed in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(records.read, orders), strict=True):
            assert same(found, source.read(order))


def test_given_splits_stay_given(tmp_path):
    numbers = {"train": np.array([0, 2, 4, 6, 8]), "test": np.array([1, 3]), "validation": np.array([], int)}
    source = make_tensors(10, given=numbers)
    records = RecordSource(write(source, tmp_path, shards=2))
    assert {name: index.tolist() for name, index in records.given.items()} == {"train": [0, 1, 2, 3, 4], "test": [5, 6]}
    assert same(records.read(np.arange(7)), source.read(np.array([0, 2, 4, 6, 8, 1, 3])))
    assert sorted(path.name for path in tmp_path.glob("*.tfrecord")) == [
        "test-00000-of-00002.tfrecord",
        "test-00001-of-00002.tfrecord",
        "train-00000-of-00002.tfrecord",
        "train-00001-of-00002.tfrecord",
    ]


def test_tensorflow_reads_the_records_too(tmp_path):
    import tensorflow as tf

    source = make_mixed(7)
    write(source, tmp_path, shards=2)
    spec = {
        name: tf.io.FixedLenFeature([], tf.string) for name in ("age", "place", "review", "photo", "target", "target_")
    }
    files = sorted(str(path) for path in tmp_path.glob("*.tfrecord"))
    batch = next(iter(tf.data.TFRecordDataset(files).batch(10)))
    theirs = tf.io.parse_example(batch, spec)
    ours = source.read(np.arange(7))
    assert [text.decode() for text in theirs["review"].numpy()] == ours["review"].tolist()
    assert theirs["photo"].numpy().tolist() == ours["photo"].tolist()
    np.testing.assert_array_equal(tf.io.decode_raw(theirs["age"], tf.float32)[:, 0], ours["age"])
    np.testing.assert_array_equal(
        tf.io.decode_raw(theirs["target"], tf.float64).numpy().reshape(7, 2, 2), ours["target"]
    )
    np.testing.assert_array_equal(tf.io.decode_raw(theirs["target_"], tf.float32), source.read_targets(np.arange(7)))


def test_tensorflow_unpacks_gzip_records(tmp_path):
    import tensorflow as tf

    source = make_tensors(5)
    write(source, tmp_path, shards=1, compression="gzip")
    packed = next(iter(tf.data.TFRecordDataset(str(tmp_path / "all-00000-of-00001.tfrecord")).batch(5)))
    examples = [tf.io.decode_compressed(one, "GZIP") for one in packed]
    theirs = tf.io.parse_example(examples, {"image": tf.io.FixedLenFeature([], tf.string)})
    np.testing.assert_array_equal(
        tf.io.decode_raw(theirs["image"], tf.uint8).numpy().reshape(5, 4, 3), source.read(np.arange(5))["image"]
    )


# --- damage ---


@pytest.fixture(
    scope="module", params=[(make, *packing) for make in (make_tensors, make_mixed) for packing in PACKINGS]
)
def written(request, tmp_path_factory):
    make, compression, key = request.param
    return write(make(6), tmp_path_factory.mktemp("set"), shards=2, compression=compression, key=key), key


def read_everything(directory, key):
    records = RecordSource(directory, key)
    index = np.arange(len(records))
    return records.read(index), records.read_targets(index), records.read_hashes(index)


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_no_flipped_byte_goes_unnoticed(written, tmp_path_factory, data):
    directory, key = written
    copy = tmp_path_factory.mktemp("damaged")
    name = data.draw(st.sampled_from(sorted(path.name for path in directory.iterdir())))
    shutil.copytree(directory, copy, dirs_exist_ok=True)
    content = bytearray((copy / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (copy / name).write_bytes(content)
    wanted = read_everything(directory, key)
    try:
        found = read_everything(copy, key)
    except DataError as error:
        assert str(copy) in str(error)
    else:  # whitespace of dataset.json
        assert name == "dataset.json"
        assert same(found[0], wanted[0]) and json.loads(content) == json.loads((directory / name).read_bytes())


@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_file_that_was_cut_off_is_named(written, tmp_path_factory, data):
    directory, key = written
    copy = tmp_path_factory.mktemp("cut")
    shutil.copytree(directory, copy, dirs_exist_ok=True)
    path = copy / data.draw(
        st.sampled_from(sorted(path.name for path in directory.iterdir() if path.suffix != ".json"))
    )
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])
    with pytest.raises(DataError, match=f"{path} has .* it was cut off or altered"):
        RecordSource(copy, key)
    path.unlink()
    with pytest.raises(DataError, match=f"{path} is missing"):
        RecordSource(copy, key)


def test_a_damaged_record_is_named_and_the_others_still_read(tmp_path):
    write(make_tensors(6), tmp_path, shards=2)
    path = tmp_path / "all-00001-of-00002.tfrecord"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    records = RecordSource(tmp_path)
    assert len(records.read(np.array([0, 1, 2, 3, 5]))["image"]) == 5
    with pytest.raises(
        DataError, match=r"all-00001-of-00002\.tfrecord, record 1: its checksum is wrong\. The file was"
    ):
        records.read(np.array([0, 4]))
    with pytest.raises(DataError, match="its SHA-256 is another"):
        RecordSource(tmp_path, verify=True)


def test_encrypted_records_cannot_be_swapped_even_with_the_checksums_right(tmp_path):
    write(make_tensors(6), tmp_path, shards=1, key=KEY)
    path = tmp_path / "all-00000-of-00001.tfrecord"
    content = path.read_bytes()
    size = len(content) // 6
    path.write_bytes(content[size : 2 * size] + content[:size] + content[2 * size :])
    records = RecordSource(tmp_path, KEY)
    records.read(np.arange(2, 6))
    for number in (0, 1):
        with pytest.raises(DataError, match=rf"record {number}: it was altered or moved after it was encrypted"):
            records.read(np.array([number]))


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_without_the_right_key_nothing_is_read(compression, tmp_path):
    write(make_mixed(6), tmp_path, compression=compression, key=KEY)
    with pytest.raises(DataError, match=r"not the one the records in .* were written with"):
        RecordSource(tmp_path, OTHER_KEY)
    with pytest.raises(DataError, match=f"are encrypted.*{KEY_VARIABLE}"):
        RecordSource(tmp_path)


def test_nothing_readable_of_encrypted_examples_is_on_the_disk(tmp_path):
    source = make_mixed(6)
    write(source, tmp_path, key=KEY)
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    columns, hashes = source.read(np.arange(6)), write_plainly(source, tmp_path / "plain").read_hashes(np.arange(6))
    for secret in [
        *(text.encode() for text in columns["review"]),
        *columns["photo"],
        *(array.tobytes() for array in columns["target"]),
        *(array.tobytes() for array in source.read_targets(np.arange(6))),
        *(digest.tobytes() for digest in hashes),
        KEY,
        KEY.hex().encode(),
    ]:
        assert secret not in everything


def write_plainly(source, directory):
    return RecordSource(write(source, directory))


def test_each_record_has_a_nonce_of_its_own(tmp_path):
    write(make_tensors(40), tmp_path, shards=1, key=KEY)
    content = (tmp_path / "all-00000-of-00001.tfrecord").read_bytes()
    size = len(content) // 40
    assert len({content[start + 12 : start + 24] for start in range(0, len(content), size)}) == 40


# --- as an entry of the catalog ---


def test_load_records_takes_the_key_from_a_file_or_the_environment(tmp_path, monkeypatch):
    source = make_tensors(6)
    write(source, tmp_path / "set", key=KEY)
    (tmp_path / "key").write_text(KEY.hex() + "\n")
    for records in (
        load_records(path=str(tmp_path / "set"), key_file=str(tmp_path / "key"), verify=True),
        monkeypatch.setenv(KEY_VARIABLE, KEY.hex()) or load_records(path=str(tmp_path / "set")),
    ):
        assert same(records.read(np.arange(6)), source.read(np.arange(6)))


def test_load_records_says_what_is_wrong(tmp_path):
    write(make_tensors(6), tmp_path / "set")
    with pytest.raises(ConfigError, match="say themselves what they hold; remove features, target"):
        load_records(path=str(tmp_path / "set"), features={}, target="x")
    with pytest.raises(ConfigError, match=r"There are no records at .*nowhere"):
        load_records(path=str(tmp_path / "nowhere"))
    (tmp_path / "key").write_text(KEY.hex())
    with pytest.raises(ConfigError, match="are not encrypted, though key_file"):
        load_records(path=str(tmp_path / "set"), key_file=str(tmp_path / "key"))
    (tmp_path / "set" / "dataset.json").rename(tmp_path / "set" / "plan.json")
    with pytest.raises(DataError, match=r"plan\.json|is not finished"):
        load_records(path=str(tmp_path / "set"))


def test_labels_that_were_changed_by_hand_are_noticed(tmp_path):
    write(make_tensors(6), tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text().replace('"a"', '"z"'))
    with pytest.raises(DataError, match=r"dataset\.json was altered"):
        RecordSource(tmp_path)
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(DataError, match=r"has format version 2; this bmp reads version 1"):
        RecordSource(tmp_path)
