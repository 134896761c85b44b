"""Heads that are read again: the same verdict as the first time, whatever came in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.worker.framing import Limits, Refusal
from serving.worker.head import Head, HeadReader

LIMITS = Limits(line_bytes=4096, num_headers=50, header_bytes=4096, head_bytes=8192)
GOOD = b"POST /predict?top_k=2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\n"


def reader(max_body_bytes: int = 1000) -> HeadReader:
    return HeadReader(LIMITS, max_body_bytes)


def describe(head: Head | None) -> object:
    if head is None:
        return None
    return head.environ, head.length, head.method, head.is_modern, head.keeps_alive, head.awaits_go, head.size


def test_what_a_head_says() -> None:
    head = reader().read(GOOD + b"{}", 0)
    assert head is not None
    assert head.environ == {
        "HTTP_HOST": "a",
        "CONTENT_LENGTH": "2",
        "HTTP_X_A": "1, 2",
        "REQUEST_METHOD": "POST",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "RAW_URI": "/predict?top_k=2",
        "PATH_INFO": "/predict",
        "QUERY_STRING": "top_k=2",
    }
    assert (head.length, head.size, head.keeps_alive, head.awaits_go) == (len(GOOD), 2, True, False)


def test_the_same_bytes_are_the_same_head() -> None:
    heads = reader()
    first = heads.read(GOOD + b"{}", 0)
    assert heads.read(GOOD + b"[]" + GOOD, 0) is first
    assert heads.read(GOOD.replace(b": 2\r\nX", b": 3\r\nX") + b"{ }", 0) is not first


def test_long_heads_and_too_many_are_read_anew() -> None:
    heads = reader()
    first, long = heads.read(GOOD, 0), GOOD.replace(b"X-A: 1", b"X-A: " + b"1" * 3000)
    assert heads.read(long, 0) is not heads.read(long, 0)
    for number in range(300):
        heads.read(GOOD.replace(b"Host: a", b"Host: a%d" % number), 0)
    assert describe(heads.read(GOOD, 0)) == describe(first)


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (GOOD.replace(b"Host: a\r\n", b""), "bad_request"),
        (GOOD.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\n"), "bad_request"),
        (GOOD.replace(b": 2", b": 2000"), "body_too_large"),
        (GOOD.replace(b"X-A: 1", b"Transfer-Encoding: chunked"), "bad_request"),
    ],
)
def test_what_was_refused_is_refused_again(head: bytes, code: str) -> None:
    heads = reader()
    for _ in range(2):
        with pytest.raises(Refusal, match=code):
            heads.read(head, 0)


PIECES = st.sampled_from(
    [
        b"POST / HTTP/1.1\r\n",
        b"GET /x HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 1\r\n",
        b"\r\n",
        b"\n",
        b"x",
        b": ",
    ]
)


@given(st.lists(st.lists(PIECES, max_size=7).map(b"".join), max_size=6))
def test_a_reader_that_remembers_says_what_a_new_one_says(requests: list[bytes]) -> None:
    old = reader()
    for data in [*requests, *requests]:
        assert verdict(old, data) == verdict(reader(), data)


def verdict(heads: HeadReader, data: bytes) -> object:
    try:
        return describe(heads.read(data, 0))
    except Refusal as refusal:
        return refusal.status, refusal.body
