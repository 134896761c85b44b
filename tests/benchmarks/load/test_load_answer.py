"""Whether an answer is the right one."""

import pytest

from benchmarks.load.answer import Answer

RIGHT = b'{"prediction": [[0.25, 1.0], [3, 0.5]], "top_k": [{"label": "a", "n": null}]}'


@pytest.mark.parametrize(
    "body",
    [
        RIGHT,
        RIGHT.replace(b" ", b""),
        RIGHT.replace(b"0.25", b"0.2500001"),
        b'{"top_k": [{"n": null, "label": "a"}], "prediction": [[0.25, 1.0], [3, 0.5]]}',
    ],
)
def test_the_same_numbers(body: bytes) -> None:
    answer = Answer(RIGHT)
    assert answer.is_same(body) and answer.is_same(body)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"0.25", b"0.2501"),
        (b"0.25", b"NaN"),
        (b"3", b"4"),
        (b'"a"', b'"b"'),
        (b"null", b"0"),
        (b", [3, 0.5]", b""),
        (b", 1.0]", b"]"),
        (b'"top_k"', b'"top"'),
        (b"}]}", b"}]"),
    ],
)
def test_something_else(old: bytes, new: bytes) -> None:
    answer = Answer(RIGHT)
    body = RIGHT.replace(old, new)
    assert body != RIGHT
    assert not answer.is_same(body) and not answer.is_same(body) and answer.is_same(RIGHT)


def test_what_differs_a_little_from_what_differs_a_little_is_compared_with_the_first() -> None:
    answer = Answer(b"[0.5]")
    drifting = [b"[%.6f]" % (0.5 + step * 0.000008) for step in range(4)]
    assert [answer.is_same(body) for body in drifting] == [True, True, False, False]
