"""The open loop: what is due when, what an answer is, and what becomes of a request that gets none."""

import time

import pytest
from small_server import serve_small, write_answer

from benchmarks.load.open_loop import (
    Offered,
    OpenLoop,
    Outcome,
    Phase,
    measure_peak,
    percentile,
    read_field,
    write_request,
)

REQUEST = write_request("/ask", b"{}", "text/plain")
GOOD = write_answer(b"yes")


def is_yes(_: int, head: bytes, body: bytes) -> bool:
    return body == b"yes"


@pytest.mark.parametrize(
    ("figures", "share", "expected"),
    [([], 0.5, 0.0), ([7.0], 0.99, 7.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([*map(float, range(101))], 0.99, 99.0)],
)
def test_percentile(figures: list[float], share: float, expected: float) -> None:
    assert percentile(figures, share) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [(b"retry-after", b"1"), (b"bmp-model", b"n/2"), (b"model", b""), (b"nothing", b"")]
)
def test_fields_of_a_head(name: bytes, expected: bytes) -> None:
    assert read_field(b"HTTP/1.1 503 No\r\nRetry-After:  1 \r\nBmp-Model: n/2", name) == expected


def test_a_request_is_whole() -> None:
    head, _, body = REQUEST.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body) == (b"POST /ask HTTP/1.1", b"{}")
    assert read_field(head, b"content-length") == b"2" and read_field(head, b"content-type") == b"text/plain"


def test_what_was_due_in_a_part_of_the_time() -> None:
    offered = Offered([Outcome(due_s, 0.1, 200, True) for due_s in (3.0, 1.0, 2.0)])
    assert [outcome.due_s for outcome in offered.within(1.0, 3.0)] == [1.0, 2.0]


@pytest.mark.parametrize("busy_s", [0.0, 0.3])
def test_requests_come_at_the_rate_of_each_phase(busy_s: float) -> None:
    def judge(*_: object) -> bool:
        nonlocal busy_s
        time.sleep(busy_s)  # the generator itself is late, once: over the end of a phase
        busy_s = 0.0
        return True

    with serve_small(REQUEST, lambda _: [GOOD]) as server:
        offered = OpenLoop(server.address, REQUEST, judge, 32).run([Phase(64, 0.25), Phase(128, 0.125)])
    assert sorted(outcome.due_s for outcome in offered.outcomes) == [
        *(number / 64 for number in range(16)),
        *(0.25 + number / 128 for number in range(16)),
    ]
    assert {(outcome.status, outcome.is_right) for outcome in offered.outcomes} == {(200, True)}
    assert offered.missed == 0 and server.asked == 32


def test_an_answer_counts_once_it_is_whole() -> None:
    def respond(_: int) -> list[bytes]:
        return [GOOD[:20], GOOD[20:-2], GOOD[-2:]]

    with serve_small(REQUEST, respond) as server:
        offered = OpenLoop(server.address, REQUEST, is_yes, 8).run([Phase(64, 0.125)])
    assert [outcome.is_right for outcome in offered.outcomes] == [True] * 8


def test_who_is_late_is_late_from_the_moment_that_was_settled() -> None:
    def respond(number: int) -> list[bytes]:
        time.sleep(0.2 if number == 0 else 0)
        return [GOOD]

    with serve_small(REQUEST, respond) as server:
        offered = OpenLoop(server.address, REQUEST, is_yes, 1).run([Phase(16, 0.25)])
    first = offered.outcomes[0]
    assert first.due_s == 0 and first.took_s >= 0.2
    assert offered.missed + len(offered.outcomes) == 4 and offered.missed >= 2


def test_what_finds_no_free_connection_is_missed_and_what_gets_no_answer_is_lost() -> None:
    with serve_small(REQUEST, lambda _: []) as server:
        offered = OpenLoop(server.address, REQUEST, is_yes, 3).run([Phase(64, 0.25)], patience_s=0.1)
    assert [(outcome.status, outcome.is_right) for outcome in offered.outcomes] == [(0, False)] * 3
    assert offered.missed == 13


def test_a_connection_that_is_lost_is_replaced() -> None:
    with serve_small(REQUEST, lambda number: [GOOD] if number % 2 else None) as server:
        offered = OpenLoop(server.address, REQUEST, is_yes, 4).run([Phase(64, 0.25)])
    statuses = [outcome.status for outcome in offered.outcomes]
    assert len(statuses) + offered.missed == 16
    assert statuses.count(0) == (server.asked + 1) // 2 > 4, "more were lost than there were at first"


def test_it_can_be_stopped() -> None:
    def respond(number: int) -> list[bytes]:
        if number == 3:
            loop.stop()
        return [GOOD]

    with serve_small(REQUEST, respond) as server:
        loop = OpenLoop(server.address, REQUEST, is_yes, 4)
        offered = loop.run([Phase(64, 3600)])
    assert len(offered.outcomes) == server.asked >= 4


def test_peak_counts_right_answers_alone() -> None:
    refusal = write_answer(b"yes", b"503 No")

    def respond(number: int) -> list[bytes]:
        return [(GOOD, refusal, write_answer(b"no"))[number % 3]]

    with serve_small(REQUEST, respond) as server:
        peak = measure_peak(server.address, REQUEST, is_yes, 0.25, 2)
    assert 0 < peak * 0.25 <= server.asked / 3 + 1
