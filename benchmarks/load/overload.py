"""Many times more than a server can do, for a while: what still comes through, and how soon all is well afterwards."""

from dataclasses import dataclass

from .answer import Answer
from .open_loop import Address, Offered, OpenLoop, Outcome, Phase, percentile, read_field

CALM_S = 3.0
_CALM_SHARE = 0.5
_SLACK_S = 0.02


@dataclass(frozen=True)
class Verdict:
    """How a server got through an overload.

    Args:
        peak_per_s: Good answers a second with as many clients as it can use.
        offered_per_s: Requests a second that were really sent in the overload.
        goodput_per_s: Good answers a second in it.
        answer_p50_ms: Of the good answers.
        answer_p99_ms: Of the good answers.
        refusal_p50_ms: Of the refusals.
        refusal_p99_ms: Of the refusals.
        refusal_most_ms: The slowest refusal.
        recovery_s: From the end of the overload until all is answered as fast as before it; infinite if that never
            happened.
        wrong: Answers that were neither right nor a proper refusal, and connections lost.
        missed: Requests that found no free connection, and were not offered.
    """

    peak_per_s: float
    offered_per_s: float
    goodput_per_s: float
    answer_p50_ms: float
    answer_p99_ms: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    refusal_most_ms: float
    recovery_s: float
    wrong: int
    missed: int


def overload(
    address: Address,
    request: bytes,
    answer: Answer,
    peak_per_s: float,
    *,
    times: float = 10,
    seconds: float = 30,
    connections: int = 400,
) -> Verdict:
    """Offers half the peak for a moment, so many times the peak for so long, and half of it again.

    Args:
        address: Of the server.
        request: As it travels.
        answer: The right one.
        peak_per_s: Requests a second that the server manages at most.
        times: How many times the peak is offered.
        seconds: For how long.
        connections: At most so many requests are under way.
    """
    calm = Phase(_CALM_SHARE * peak_per_s, CALM_S)
    storm = Phase(times * peak_per_s, seconds)
    loop = OpenLoop(address, request, lambda _, head, content: is_proper(head, content, answer), connections)
    offered = loop.run([calm, storm, Phase(calm.rate_per_s, 2 * CALM_S)])
    return _judge(offered, peak_per_s, CALM_S, CALM_S + seconds)


def is_proper(head: bytes, content: bytes, answer: Answer) -> bool:
    """Tells whether an answer is the right one, or a refusal that says when to come back."""
    if head[9:12] == b"200":
        return answer.is_same(content)
    return head[9:12] == b"503" and read_field(head, b"retry-after").isdigit()


def _judge(offered: Offered, peak_per_s: float, start_s: float, end_s: float) -> Verdict:
    during = offered.within(start_s, end_s)
    answered = [outcome for outcome in offered.outcomes if outcome.status == 200]
    in_time = sum(start_s <= outcome.due_s + outcome.took_s < end_s for outcome in answered)
    answers_ms = [1e3 * outcome.took_s for outcome in during if outcome.status == 200]
    refusals_ms = [1e3 * outcome.took_s for outcome in during if outcome.status == 503]
    return Verdict(
        peak_per_s=peak_per_s,
        offered_per_s=len(during) / (end_s - start_s),
        goodput_per_s=in_time / (end_s - start_s),
        answer_p50_ms=percentile(answers_ms, 0.5),
        answer_p99_ms=percentile(answers_ms, 0.99),
        refusal_p50_ms=percentile(refusals_ms, 0.5),
        refusal_p99_ms=percentile(refusals_ms, 0.99),
        refusal_most_ms=max(refusals_ms, default=0.0),
        recovery_s=_find_recovery(offered, _usual(offered.within(1.0, start_s)), end_s),
        wrong=sum(not outcome.is_right for outcome in offered.outcomes),
        missed=offered.missed,
    )


def _usual(calm: list[Outcome]) -> float:
    """Returns what nine of ten answers take at the most when all is well, with some slack."""
    return 2 * percentile([outcome.took_s for outcome in calm], 0.9) + _SLACK_S


def _find_recovery(offered: Offered, usual_s: float, end_s: float) -> float:
    """Returns how long after the end a second begins in which all is well."""
    for tenth in range(int(10 * (2 * CALM_S - 1))):
        second = offered.within(end_s + tenth / 10, end_s + tenth / 10 + 1)
        is_well = all(outcome.status == 200 for outcome in second)
        if second and is_well and percentile([outcome.took_s for outcome in second], 0.9) <= usual_s:
            return tenth / 10
    return float("inf")
