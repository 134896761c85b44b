"""Two parts with a course of their own: ten times what the server can do, and a model that is replaced under load."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import requests
from load.answer import Answer
from load.open_loop import Address, measure_peak, percentile, write_request
from load.overload import is_proper, overload
from load.reload import reload_under_load
from serving_loads import LOADS, Load, answer_by_litert, check
from serving_models import Published, publish_version
from serving_parts import Row
from serving_servers import Running

from bmp.registry import Registry

PEAK_S, LOAD_SHARE = 3.0, 0.8
_LIVE_WITHIN_S = 20.0
Found = Mapping[str, float]


def _row(what: str, key: str, text: str, aim: float) -> Row:
    is_most = key != "goodput_share"
    return Row(what, lambda figures: figures["storm", ""][key], text, aim, is_most=is_most)


STORM_ROWS = {
    "overload": (
        _row("10 times the peak: share of the peak that is answered", "goodput_share", "{:.3f}", 0.85),
        _row("… 99 of 100 refusals came within", "refusal_p99_ms", "{:.1f} ms", 50),
        _row("… seconds until all is as before", "recovery_s", "{:.1f} s", 2),
        _row("… wrong answers, and connections lost", "wrong", "{:.0f}", 0),
    ),
    "reload": (
        _row("reloads under 80 % load: requests that failed", "failed", "{:.0f}", 0),
        _row("… answers of the wrong version", "wrong", "{:.0f}", 0),
        _row("… 99 of 100 were live on all connections within", "live_p99_s", "{:.2f} s", 2),
    ),
}


def run_overload(server: Running, network: Published, _: Path, times: int) -> Found:
    """Offers ten times the peak for so many seconds."""
    load = LOADS["jpeg"]
    request, answer = _ask(server, load, network)
    peak = measure_peak(_address(server), request, lambda _, head, content: is_proper(head, content, answer), PEAK_S)
    verdict = overload(_address(server), request, answer, peak, seconds=times)
    return {**asdict(verdict), "goodput_share": verdict.goodput_per_s / verdict.peak_per_s}


def run_reload(server: Running, network: Published, directory: Path, times: int) -> Found:
    """Moves between two versions so many times."""
    load, registry, name = LOADS["json1"], Registry(network.registry), network.version.name
    second = replace(network, version=publish_version("dense", directory, seed=1).version)  # asked the same
    answers: dict[int, Answer] = {}
    for version in (second, network):
        number = version.version.number
        _move(registry, name, number)
        _wait_until(lambda: _version(server) == number)  # noqa: B023
        request, answers[number] = _ask(server, load, version)
    answers = dict(reversed(answers.items()))  # the one that is served now comes first
    peak = measure_peak(_address(server), request, lambda _, __, content: answers[number].is_same(content), PEAK_S)
    done = reload_under_load(
        _address(server),
        request,
        answers,
        lambda version: _move(registry, name, version),
        LOAD_SHARE * peak,
        times=times,
    )
    return {**asdict(done), "peak_per_s": peak, "live_p99_s": percentile(sorted(done.live_s), 0.99)}


STORMS: dict[str, tuple[str, Callable[[Running, Published, Path, int], Found]]] = {
    "overload": ("bmp, large photos", run_overload),
    "reload": ("bmp", run_reload),
}
"""Server, and what is done to it, by part."""


def _ask(server: Running, load: Load, network: Published) -> tuple[bytes, Answer]:
    """Asks once; returns the request as it travels, and the right answer."""
    check(server, load, network, answer_by_litert(network, load.examples))
    question = load.put(network, load.examples)
    headers = {"Content-Type": question.content_type}
    reply = requests.post(server.url + load.path, data=question.body, headers=headers, timeout=30)
    return write_request(load.path, question.body, question.content_type), Answer(reply.content)


def _move(registry: Registry, name: str, version: int) -> None:
    registry.set_alias(name, "production", version)


def _version(server: Running) -> int:
    """Returns the version that is served, where all workers agree."""
    asked = {requests.get(f"{server.url}/ready", timeout=10).json()["models"][0] for _ in range(8)}
    return int(asked.pop().rpartition("/")[2]) if len(asked) == 1 else 0


def _wait_until(happens: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _LIVE_WITHIN_S
    while not happens():
        if time.monotonic() > deadline_s:
            raise TimeoutError("the version was not live in time")
        time.sleep(0.05)


def _address(server: Running) -> Address:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return host, int(port)
