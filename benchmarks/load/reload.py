"""A model that is replaced again and again under load: no request is lost, and none answered by a version gone by."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .answer import Answer
from .open_loop import Address, Offered, OpenLoop, Phase, read_field

_LONGEST_S = 20.0
_EVERY_S = 0.01
_WHOLE_CAMPAIGN_S = 3600.0


@dataclass(frozen=True)
class Reloaded:
    """What came of it.

    Args:
        reloads: Moves that every connection has seen.
        asked: Requests.
        failed: That were not answered with 200, or whose connection was lost.
        wrong: Answers that are not those of the version in their header, or of one that the connection had left.
        missed: Requests that found no free connection.
        live_s: From each move until every connection got the new version.
    """

    reloads: int
    asked: int
    failed: int
    wrong: int
    missed: int
    live_s: list[float]


@dataclass
class _Watch:
    """Which version each connection has seen last, and whether the answers are those of their versions.

    Args:
        answers: The right one of each version.
    """

    answers: Mapping[int, Answer]
    turn: tuple[int, int]
    """The version before, and the one that is wanted: put up as a whole, since answers come all the time."""
    seen: dict[int, int] = field(default_factory=dict)

    def look(self, connection: int, head: bytes, body: bytes) -> bool:
        """Judges an answer."""
        version = int(read_field(head, b"bmp-model").rpartition(b"/")[2] or 0)
        before, wanted = self.turn
        if version == before and self.seen.get(connection) == wanted:
            return False  # it went back
        self.seen[connection] = version
        return version in self.answers and self.answers[version].is_same(body)

    def is_live(self, connections: int) -> bool:
        """Tells whether all connections get the version that is wanted."""
        return len(self.seen) >= connections and set(self.seen.copy().values()) == {self.turn[1]}

    def move(self, version: int) -> None:
        """Says what is wanted from now on; what was wanted may still be answered until then."""
        self.turn = self.turn[1], version


def reload_under_load(
    address: Address,
    request: bytes,
    answers: Mapping[int, Answer],
    move: Callable[[int], None],
    rate_per_s: float,
    *,
    times: int = 200,
    connections: int = 64,
) -> Reloaded:
    """Moves from version to version while requests come at a rate.

    Args:
        address: Of the server.
        request: As it travels; it names no version.
        answers: The right one of each version; the first one is being served.
        move: Makes a version the one that is served; the one before is dropped.
        rate_per_s: Requests a second.
        times: How many moves.
        connections: At most so many requests are under way.
    """
    watch = _Watch(answers, (0, next(iter(answers))))
    loop = OpenLoop(address, request, watch.look, connections)
    found: list[Offered] = []
    thread = threading.Thread(target=lambda: found.append(loop.run([Phase(rate_per_s, _WHOLE_CAMPAIGN_S)])))
    thread.start()
    try:
        _wait_until(lambda: watch.is_live(connections))
        versions = list(answers)
        live_s = [_move(watch, move, versions[(turn + 1) % len(versions)], connections) for turn in range(times)]
    finally:
        loop.stop()
        thread.join()
    outcomes = found[0].outcomes
    failed = sum(outcome.status != 200 for outcome in outcomes)
    wrong = sum(outcome.status == 200 and not outcome.is_right for outcome in outcomes)
    return Reloaded(len(live_s), len(outcomes), failed, wrong, found[0].missed, live_s)


def _move(watch: _Watch, move: Callable[[int], None], version: int, connections: int) -> float:
    watch.move(version)
    began_s = time.monotonic()
    move(version)
    _wait_until(lambda: watch.is_live(connections))
    return time.monotonic() - began_s


def _wait_until(happens: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _LONGEST_S
    while not happens():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"a version was not live within {_LONGEST_S:g} s")
        time.sleep(_EVERY_S)
