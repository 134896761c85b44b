from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bmp.data.records.tfrecord import find_records, frame, map_file, unframe, unframe_alike
from bmp.errors import DataError


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_a_frame_gives_its_data_back(data):
    assert unframe(frame(data)) == data


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=40), st.data())
def test_every_flipped_bit_is_noticed(data, draw):
    record = bytearray(frame(data))
    bit = draw.draw(st.integers(0, len(record) * 8 - 1))
    record[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError):
        unframe(bytes(record))
    _, whole = unframe_alike(frame(data) + bytes(record) + frame(data), len(data))
    assert whole.tolist() == [True, False, True]


@pytest.mark.parametrize("length", [0, 5, 15, 18])
def test_a_record_that_is_cut_off_is_noticed(length):
    with pytest.raises(ValueError):
        unframe(frame(b"abc")[:length])


def test_the_frame_is_the_one_that_tensorflow_writes(tmp_path):
    import tensorflow as tf

    data = [b"", b"a", bytes(range(256)) * 40]
    with tf.io.TFRecordWriter(str(tmp_path / "file")) as writer:
        for one in data:
            writer.write(one)
    written = (tmp_path / "file").read_bytes()
    assert written == b"".join(map(frame, data))
    places = find_records(written, tmp_path / "file")
    assert [unframe(written[start:stop]) for start, stop in pairwise(places)] == data


def test_places_are_found_in_a_mapped_file(tmp_path):
    (tmp_path / "file").write_bytes(frame(b"abc") + frame(b"") + frame(b"de"))
    assert find_records(map_file(tmp_path / "file"), tmp_path / "file").tolist() == [0, 19, 35, 53]


def test_an_empty_file_has_no_records(tmp_path):
    np.testing.assert_array_equal(find_records(b"", tmp_path), [0])


@pytest.mark.parametrize("cut", [1, 11, 13, 20])
def test_a_cut_off_tail_is_one_more_record_that_ends_behind_the_file(cut, tmp_path):
    whole, tail = frame(b"abc"), frame(b"defgh")[:cut]
    places = find_records(whole + tail, tmp_path)
    assert len(places) == 3
    assert places[1] == len(whole) and places[2] > len(whole + tail)


def test_a_damaged_length_names_the_byte(tmp_path):
    damaged = bytearray(frame(b"abc") * 2)
    damaged[19] ^= 1
    with pytest.raises(DataError, match=r"file, byte 19: the length of record 1 is damaged.* 19 bytes"):
        find_records(bytes(damaged), tmp_path / "file")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"PK\x03\x04 something else", "is no TFRecord file"), (b"\x1f\x8b" + bytes(20), "gunzip --keep data.gz")],
)
def test_a_file_of_something_else_is_named(data, message, tmp_path):
    with pytest.raises(DataError, match=message):
        find_records(data, tmp_path / "data.gz")
