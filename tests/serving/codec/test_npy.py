"""Files of numpy: what it writes is read, and nothing else; no pickle, no evaluation."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmp.errors import RequestError
from serving.codec.npy import decode_npy

DTYPES = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(),
    hnp.floating_dtypes(sizes=(16, 32, 64)),
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)


def save(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


@given(hnp.arrays(DTYPES, SHAPES), st.sampled_from("CF"), st.sampled_from([None, (1, 0), (2, 0)]))
@settings(max_examples=200, deadline=None)
def test_what_numpy_writes_comes_back(array: np.ndarray, order: str, version: tuple[int, int] | None) -> None:
    array = np.asarray(array, order=order)  # type: ignore[call-overload]
    back = decode_npy(save(array, version))
    assert back.dtype.isnative and back.dtype == array.dtype.newbyteorder("=")
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f") and back.flags.c_contiguous


GOOD = save(np.arange(6, dtype=np.float32).reshape(2, 3))


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_with_any_byte_changed_it_is_read_or_refused(position: int, byte: int) -> None:
    try:
        assert decode_npy(GOOD[:position] + bytes([byte]) + GOOD[position + 1 :]).nbytes == 24
    except RequestError as error:
        assert "numpy.save" in error.message and len(error.message) < 300


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_other_bytes_are_refused(data: bytes) -> None:
    for body in (data, GOOD[:8] + data, GOOD[:10] + data):
        with pytest.raises(RequestError):
            decode_npy(body)


def with_header(header: str, data: bytes = b"\0" * 24) -> bytes:
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + data


def described(descr: str = "'<f4'", shape: str = "(2, 3)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def test_headers_are_read_as_other_writers_write_them() -> None:
    assert decode_npy(with_header(described() + " " * 40 + "\n")).shape == (2, 3)
    assert decode_npy(with_header(described(shape="(6,)"))).shape == (6,)


@pytest.mark.parametrize(
    "body",
    [
        save(np.array([1, "a", None], object)),
        save(np.array(["a"])),
        save(np.array([b"a"])),
        save(np.array([(1, 2.0)], [("a", "i4"), ("b", "f4")])),
        save(np.array([1j])),
        save(np.array(["2020-01-01"], "datetime64[D]")),
        save(np.zeros((0, 3), np.float32)),
        with_header(described("'<f1'")),
        with_header(described("'|b2'")),
        with_header(described("'|O'")),
        with_header(described("__import__('os').abort()")),
        with_header(described(shape="(2, 4)")),
        with_header(described(shape="(2, 2)")),
        with_header(described(shape="(-2, -3)")),
        with_header(described(shape="(9999999999999999, 9999999999999999)")),
        with_header(described(shape="(2, 3, 1" + ", 1" * 40 + ")")),
        with_header(described(shape="[2, 3]")),
        with_header(described(order="0")),
        with_header("[" * 3000),
        with_header(" " * 60_000),
        with_header(described("'|b1'"), b"\0\1\2\0\0\0"),
        GOOD[:6] + b"\4\0" + GOOD[8:],
        GOOD + b"\0",
        GOOD[:-1],
        GOOD[:9],
        b"\x93NUMPY\2\0\xff\xff\xff\xff",
        b"\x93NUMPY\1\0",
        b"PK\3\4",
        b"",
    ],
)
def test_what_is_no_array_of_numbers_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match=r"numpy\.save"):
        decode_npy(body)
