"""Bad requests by every door: none of them is the server's fault, none takes a process down, and no memory stays.

Good requests in between are answered right all the time.
"""

import random
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import grpc
import requests

from benchmarks.load.answer import Answer
from bmp.errors import BmpError
from tests.soak.serving_breakers import BROKEN
from tests.soak.serving_grpc_calls import BUGS, Message, call_all, list_messages, spoil
from tests.soak.serving_place import Tried, publish_models, tried
from tests.soak.serving_probe import Heard, Probe, Prober, Reply
from tests.soak.serving_questions import Question, list_questions
from tests.soak.serving_spoilers import FRAMED, MAX_BODY_BYTES, swap_bodies
from tests.soak.tally import Tally, say

_ALLOWED = (501, 503, 504, 505)
"""Codes from 500 on that say what the server does not do or not now, and not that it failed."""
_ROUNDS = 10
_GOOD_SHARE, _BROKEN_SHARE, _GRPC_SHARE, _GARBAGE_SHARE = 0.02, 0.2, 0.12, 0.01
_GROWTH, _SLACK_BYTES = 1.03, 12 * 2**20
_QUEUE = 10**7
"""Examples that may wait: a bad request of many must not have good ones refused."""
_MOST_TOLD = 20


def send_bad(root: Path, rng: random.Random, times: int) -> Tally:
    """Sends so many bad requests."""
    tally = Tally("serving-bad", "requests were no fault of the server; the good ones among them were answered right")
    registry = publish_models(root)
    limits = {"BMP_MAX_BODY_BYTES": str(MAX_BODY_BYTES), "BMP_QUEUE": str(_QUEUE)}
    sizes: list[int] = []
    with tried(registry, root / "server.log", **limits) as server:
        campaign = _Campaign(server, tally, rng)
        for turn in range(1, _ROUNDS + 1):
            campaign.send(max(1, times // _ROUNDS))
            sizes.append(server.memory_bytes())
            say(f"serving-bad: {turn} of {_ROUNDS} rounds, {sizes[-1] / 2**20:.0f} MiB")
            trouble = server.find_trouble()
            tally.add(not trouble, f"after {tally.tried:,} requests: {trouble}")
            if trouble:
                break
    half, end = sizes[len(sizes) // 2], sizes[-1]  # before half, not every kind of request has been there
    tally.add(end <= _GROWTH * half + _SLACK_BYTES, f"memory grew by {(end - half) / 2**20:.1f} MiB in the second half")
    campaign.conclude()
    tally.note(f"memory after each round, MiB: {', '.join(f'{size / 2**20:.0f}' for size in sizes)}")
    return tally


class _Campaign:
    """Spoils, sends and judges.

    Args:
        server: That is tried.
        tally: Counts.
        rng: Chooses.
    """

    def __init__(self, server: Tried, tally: Tally, rng: random.Random) -> None:
        self._server, self._tally, self._rng = server, tally, rng
        self._good = [_ask(server, question) for question in list_questions()]
        self._messages = list_messages()
        self._heard: Counter[str] = Counter()
        self._told = 0

    def send(self, times: int) -> None:
        """Sends so many requests, by all doors."""
        calls, garbage = round(_GRPC_SHARE * times), round(_GARBAGE_SHARE * times)
        probes = (self._make_probe() for _ in range(times - calls - garbage))
        Prober(self._server.address, self._judge).run(probes)
        target = f"127.0.0.1:{self._server.grpc_port}"
        call_all(target, (self._make_message() for _ in range(calls)), self._judge_call)
        garbled = (self._make_broken(self._pick()) for _ in range(garbage))
        Prober(("127.0.0.1", self._server.grpc_port), self._judge).run(garbled)

    def conclude(self) -> None:
        """Notes what the server said."""
        self._tally.note(", ".join(f"{said} {count:,}" for said, count in sorted(self._heard.items())))

    # === Making ===

    def _pick(self) -> Question:
        return self._rng.choice(self._good).question

    def _make_probe(self) -> Probe:
        draw = self._rng.random()
        if draw < _GOOD_SHARE:
            good = self._rng.choice(self._good)
            return Probe(good.question.write(), f"as it is: {good.question.target}", good=good.reply)
        if draw < _GOOD_SHARE + _BROKEN_SHARE:
            return self._make_broken(self._pick())
        spoiled, words = self._spoil(self._pick())
        return Probe(spoiled.write(), words)

    def _spoil(self, question: Question) -> tuple[Question, str]:
        if self._rng.random() < 0.05:
            return swap_bodies(question, self._pick(), self._rng), f"swap_bodies: {question.target}"
        (name,) = self._rng.choices([name for _, name in FRAMED], [weight for weight, _ in FRAMED])
        return name(question, self._rng), f"{name.__name__}: {question.target}"

    def _make_broken(self, question: Question) -> Probe:
        if self._rng.random() < 0.1:
            parts = [self._spoil(self._pick())[0].write() for _ in range(self._rng.randrange(2, 7))]
            return Probe(b"".join(parts), f"{len(parts)} requests at once", is_framed=False)
        (name,) = self._rng.choices([name for _, name in BROKEN], [weight for weight, _ in BROKEN])
        return Probe(name(question, self._rng), f"{name.__name__}: {question.target}", is_framed=False)

    def _make_message(self) -> Message:
        message = self._rng.choice(self._messages)
        return message if self._rng.random() < _GOOD_SHARE else spoil(message, self._rng)

    # === Judging ===

    def _judge(self, probe: Probe, heard: Heard) -> None:
        self._heard.update(str(status) for status in heard.statuses or ("nothing",))
        trouble = heard.trouble or ", ".join(
            f"it answers with {status}" for status in heard.statuses if status >= 500 and status not in _ALLOWED
        )
        if not trouble and probe.good is not None and not probe.good.is_same(heard.statuses[-1], heard.body):
            trouble = f"a good request is answered otherwise: {heard.statuses[-1]} {heard.body[:300]!r}"
        self._count(trouble, probe.words, probe.data)

    def _judge_call(self, message: Message, code: grpc.StatusCode) -> None:
        self._heard[f"gRPC {code.name}"] += 1
        is_late = code is grpc.StatusCode.DEADLINE_EXCEEDED
        is_wrong = code in BUGS or is_late or (message.is_good and code is not grpc.StatusCode.OK)
        self._count(f"it answers with {code.name}" if is_wrong else "", message.method, message.data)

    def _count(self, trouble: str, words: str, data: bytes) -> None:
        """Counts; the first ones that went wrong are told with what was sent."""
        self._told += bool(trouble)
        if not trouble or self._told <= _MOST_TOLD:
            self._tally.add(not trouble, f"{words}: {trouble}", f"    {data[:1500]!r}")
        else:
            self._tally.tried += 1


class _Good(NamedTuple):
    """A good request, and what it is answered with."""

    question: Question
    reply: Reply


def _ask(server: Tried, question: Question) -> _Good:
    """Asks once, before anything is spoiled.

    Raises:
        BmpError: The server fails already.
    """
    headers = {"Content-Type": question.content_type, **question.headers}
    url = server.server.url + question.target
    reply = requests.request(
        question.method, url, data=question.body, headers=headers, timeout=20, allow_redirects=False
    )
    if reply.status_code >= 500:
        raise BmpError(
            f"{question.target} is answered with {reply.status_code} before anything is spoiled: {reply.text}"
        )
    answer = Answer(reply.content) if question.is_prediction else None
    return _Good(question, Reply(reply.status_code, answer))
