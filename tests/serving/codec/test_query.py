"""The query: read strictly, refused with a reason."""

import pytest

from bmp.errors import RequestError
from serving.codec.query import Query, decode_query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("", Query()),
        ("model=digits", Query(model="digits")),
        ("model=digits&version=3&top_k=5", Query("digits", 3, 5)),
        ("top_k=05", Query(top_k=5)),
        ("alias=canary", Query(alias="canary")),
        ("model=a%20b", Query(model="a b")),
        ("model=", Query(model="")),
    ],
)
def test_reads_what_it_knows(text: str, query: Query) -> None:
    assert decode_query(text) == query


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("topk=3", "unknown parameter 'topk'; known are model, version, alias, quality, top_k. Did you mean 'top_k'?"),
        ("x", "unknown parameter 'x'"),
        ("top_k=3&top_k=3", "says 'top_k' twice"),
        ("top_k=", "'top_k' is ''; expected a whole number"),
        ("top_k=-1", "'top_k' is '-1'"),
        ("top_k=1.0", "'top_k' is '1.0'"),
        ("top_k=1e1", "'top_k' is '1e1'"),
        ("top_k=%D9%A3", "expected a whole number"),  # an Arabic three
        ("top_k=" + "9" * 5000, "expected a whole number"),
        ("version=production", "'version' is 'production'"),
    ],
)
def test_refuses_the_rest(text: str, says: str) -> None:
    with pytest.raises(RequestError) as raised:
        decode_query(text)
    assert says in raised.value.message and len(raised.value.message) < 300
