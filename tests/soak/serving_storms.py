"""A server under load: a model that is replaced again and again, and ten times the requests that it can answer."""

import random
from pathlib import Path

import requests

from benchmarks.load.answer import Answer
from benchmarks.load.open_loop import measure_peak, write_request
from benchmarks.load.overload import is_proper, overload
from benchmarks.load.reload import reload_under_load
from bmp.registry import Registry
from tests.serving.numbered_models import publish
from tests.soak.serving_place import Tried, tried
from tests.soak.tally import Tally, summarise

_BODY = b'{"x_test":[[0,0]]}'
_PATH, _TYPE = "/predict", "application/json"
_PEAK_S, _LOAD_SHARE = 3.0, 0.8
_WIDTH, _HEAVY_WIDTH = 512, 4096
"""1 MB of weights, and 64 MB: some milliseconds for an example."""
_LIVE_WITHIN_S = 2.0
_GOODPUT_SHARE, _REFUSAL_MS, _RECOVERY_S = 0.85, 50.0, 2.0


def reload(root: Path, rng: random.Random, times: int) -> Tally:
    """Moves an alias to and fro while requests come at 80 % of what the server manages."""
    tally = Tally("serving-reload", "reloads under load were live in 2 s; 0 requests failed, 0 got the wrong version")
    registry = Registry(root / "registry")
    numbers = rng.sample(range(1, 1000), 2)  # a version answers with its number
    for number in numbers:
        publish(registry, number, width=_WIDTH)
    registry.set_alias("n", "production", 1)
    answers = {version: Answer(b'{"prediction":[[%.1f]]}' % number) for version, number in enumerate(numbers, 1)}
    with tried(registry.root, root / "server.log") as server:
        request = write_request(_PATH, _BODY, _TYPE)
        peak = measure_peak(server.address, request, lambda _, __, body: answers[1].is_same(body), _PEAK_S)
        before = server.memory_bytes()
        done = reload_under_load(
            server.address,
            request,
            answers,
            lambda version: registry.set_alias("n", "production", version),
            _LOAD_SHARE * peak,
            times=times,
        )
        grown = server.memory_bytes() - before
        trouble = server.find_trouble()
    for live_s in done.live_s:
        tally.add(live_s <= _LIVE_WITHIN_S, f"a move was live after {live_s:.2f} s")
    tally.add(not done.failed, f"{done.failed:,} requests failed")
    tally.add(not done.wrong, f"{done.wrong:,} answers were of the wrong version")
    tally.add(not trouble, trouble)
    tally.note(f"{done.asked:,} requests, at 80 % of {peak:,.0f} a second; live after {summarise(done.live_s)}")
    tally.note(f"memory grew by {grown / 2**20:.1f} MiB")
    return tally


def overload_server(root: Path, rng: random.Random, seconds: int) -> Tally:
    """Offers ten times what the server manages, for so long."""
    tally = Tally("serving-overload", "promises were kept at ten times the peak")
    registry, number = Registry(root / "registry"), rng.randrange(1, 1000)
    publish(registry, number, width=_HEAVY_WIDTH)
    answer = Answer(b'{"prediction":[[%.1f]]}' % number)
    with tried(registry.root, root / "server.log", BMP_BATCHING="off") as server:
        request = write_request(_PATH, _BODY, _TYPE)
        peak = measure_peak(server.address, request, lambda _, head, body: is_proper(head, body, answer), _PEAK_S)
        verdict = overload(server.address, request, answer, peak, seconds=seconds)
        _look(tally, server, answer, verdict.goodput_per_s / peak)
    tally.add(verdict.refusal_p99_ms <= _REFUSAL_MS, f"99 of 100 refusals took {verdict.refusal_p99_ms:.0f} ms")
    tally.add(verdict.recovery_s <= _RECOVERY_S, f"all was well {verdict.recovery_s:.1f} s after the end")
    tally.add(not verdict.wrong, f"{verdict.wrong:,} answers were wrong, or connections lost")
    tally.note(
        f"peak {peak:,.0f} a second, offered {verdict.offered_per_s:,.0f}, answered {verdict.goodput_per_s:,.0f} "
        f"(p99 {verdict.answer_p99_ms:.0f} ms), refused within {verdict.refusal_p99_ms:.1f} ms (most "
        f"{verdict.refusal_most_ms:.0f}), well after {verdict.recovery_s:.1f} s, {verdict.missed:,} not offered"
    )
    return tally


def _look(tally: Tally, server: Tried, answer: Answer, share: float) -> None:
    """Looks at the server after the storm."""
    tally.add(share >= _GOODPUT_SHARE, f"only {share:.2f} of the peak was answered")
    reply = requests.post(server.server.url + _PATH, data=_BODY, headers={"Content-Type": _TYPE}, timeout=20)
    tally.add(reply.ok and answer.is_same(reply.content), f"afterwards it answers {reply.status_code} {reply.text}")
    trouble = server.find_trouble()
    tally.add(not trouble, trouble)
