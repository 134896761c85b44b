"""How an overload is judged: from what became of each request, to goodput, refusals and recovery."""

import math

import pytest
from small_server import write_answer

from benchmarks.load import overload
from benchmarks.load.answer import Answer
from benchmarks.load.open_loop import Offered, Outcome

START_S, END_S = overload.CALM_S, overload.CALM_S + 4
"""Of the storm."""


@pytest.mark.parametrize(
    ("answer", "is_proper"),
    [
        (write_answer(b"[1.0]"), True),
        (write_answer(b"[2.0]"), False),
        (write_answer(b"", b"503 Busy", b"Retry-After: 1\r\n"), True),
        (write_answer(b"", b"503 Busy"), False),
        (write_answer(b"", b"503 Busy", b"Retry-After: soon\r\n"), False),
        (write_answer(b"[1.0]", b"500 Bug", b"Retry-After: 1\r\n"), False),
    ],
)
def test_a_right_answer_or_a_refusal_that_says_when_to_come_back(answer: bytes, is_proper: bool) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert overload.is_proper(head, body, Answer(b"[1.0]")) is is_proper


def steady(start_s: float, end_s: float, per_s: int, status: int = 200, took_s: float = 0.01) -> list[Outcome]:
    """Requests at a rate, which all end in the same way."""
    return [
        Outcome(start_s + number / per_s, took_s, status, status in (200, 503))
        for number in range(round((end_s - start_s) * per_s))
    ]


def judge(*parts: list[Outcome], missed: int = 0) -> overload.Verdict:
    return overload._judge(Offered([each for part in parts for each in part], missed), 100, START_S, END_S)


def test_all_is_well() -> None:
    verdict = judge(
        steady(0, START_S, 50),
        steady(START_S, END_S, 80, took_s=0.1),
        steady(START_S, END_S, 20, status=503, took_s=0.002),
        steady(END_S, END_S + 6, 50),
        missed=7,
    )
    assert (verdict.offered_per_s, verdict.wrong, verdict.missed, verdict.recovery_s) == (100, 0, 7, 0)
    assert verdict.goodput_per_s == pytest.approx(80, abs=3), "what ended too late is not of this time"
    assert (verdict.answer_p50_ms, verdict.refusal_p50_ms, verdict.refusal_most_ms) == pytest.approx((100, 2, 2))


def test_answers_count_when_they_end() -> None:
    early = steady(0, START_S, 10, took_s=START_S)
    verdict = judge(early, steady(END_S - 1, END_S, 10, took_s=1.5))
    assert verdict.goodput_per_s * 4 == len(early) and verdict.offered_per_s * 4 == 10


def test_what_is_wrong_or_lost_is_counted() -> None:
    lost, bugs = steady(START_S, END_S, 1, status=0), steady(START_S, END_S, 2, status=500)
    verdict = judge(lost, bugs)
    assert verdict.wrong == len(lost) + len(bugs)
    assert (verdict.goodput_per_s, verdict.answer_p99_ms, verdict.refusal_p99_ms) == (0, 0, 0)


@pytest.mark.parametrize(
    ("after", "recovery_s"),
    [
        (steady(END_S, END_S + 6, 50), 0),
        (steady(END_S, END_S + 1.25, 50, took_s=0.5) + steady(END_S + 1.25, END_S + 6, 50), 1.3),
        (steady(END_S, END_S + 0.65, 20, status=503) + steady(END_S + 0.65, END_S + 6, 50), 0.7),
        (steady(END_S, END_S + 6, 50, took_s=0.5), math.inf),
        (steady(END_S, END_S + 6, 50) + steady(END_S, END_S + 6, 1, status=503), math.inf),
        ([], math.inf),
    ],
)
def test_recovery_is_when_a_second_begins_in_which_all_is_as_before(after: list[Outcome], recovery_s: float) -> None:
    verdict = judge(steady(0, START_S, 50), steady(START_S, END_S, 100), after)
    assert verdict.recovery_s == pytest.approx(recovery_s, abs=0.11)
