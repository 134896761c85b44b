"""The parts of the benchmark of serving: who is asked what, and which figures come out of it, with the aim of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Figures = Mapping[tuple[str, str], Mapping[str, float]]
"""Medians by server and load: `requests_per_s`, `p50_ms`, `p99_ms`, `examples`, `body_bytes`, `memory_mb`."""

GRPC = "gRPC"
"""The load that does not come from wrk."""


@dataclass(frozen=True)
class Row:
    """A figure to reach.

    Args:
        what: It is, in words.
        compute: Finds it; KeyError where a server it needs could not be installed.
        text: Shows it.
        aim: What it shall be; None where there is nothing to reach.
        is_most: Whether the aim is the most that it may be, and not the least.
    """

    what: str
    compute: Callable[[Figures], float]
    text: str = "{:.2f} ×"
    aim: float | None = None
    is_most: bool = False

    def is_met(self, figure: float) -> bool:
        """Tells whether the aim is reached."""
        return self.aim is None or (figure <= self.aim if self.is_most else figure >= self.aim)

    def words(self) -> str:
        """Returns the aim as people write it."""
        return "" if self.aim is None else f"{'≤' if self.is_most else '≥'} {self.text.format(self.aim)}"


@dataclass(frozen=True)
class Part:
    """Questions and figures that belong together.

    Args:
        asks: Server and load of each measurement.
        rows: What comes out.
    """

    asks: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]


def _per_s(figures: Figures, server: str, load: str) -> float:
    """Returns the examples a second."""
    found = figures[server, load]
    return found["requests_per_s"] * found["examples"]


def _ratio(what: str, mine: tuple[str, str], other: tuple[str, str], aim: float | None, text: str = "{:.2f} ×") -> Row:
    """A row of examples a second against each other."""
    return Row(what, lambda figures: _per_s(figures, *mine) / _per_s(figures, *other), text, aim)


def _quotient(key: str, above: tuple[str, str], below: tuple[str, str]) -> Callable[[Figures], float]:
    return lambda figures: figures[above][key] / figures[below][key]


_MINE = "bmp", "json1"
_GATHERING, _ONE_BY_ONE = "bmp, gathering", "bmp, one by one"
_MANY, _ONE = "64 connections", "1 connection"
_JSON_PEERS: dict[tuple[str, str], float | None] = {
    ("FastAPI", "json1"): 3,
    ("FastAPI by hand", "json1"): None,
    ("MLServer", "json1, v2"): 8,
    ("MLServer, parallel", "json1, v2"): 8,
    ("LitServe", "json1"): 8,
    ("BentoML", "json1"): 8,
    ("plain Flask", "json1"): 500,
}
"""Aims of one example in JSON against each."""

PARTS = {
    "json1": Part(
        (_MINE, *_JSON_PEERS),
        (
            *(_ratio(f"1 example in JSON, against {peer[0]}", _MINE, peer, aim) for peer, aim in _JSON_PEERS.items()),
            Row("… its p99 against FastAPI's", _quotient("p99_ms", _MINE, ("FastAPI", "json1")), aim=1, is_most=True),
        ),
    ),
    "json32": Part(
        (("bmp", "json32"), ("FastAPI", "json32"), ("FastAPI by hand", "json32")),
        (
            _ratio("32 examples in JSON, against FastAPI", ("bmp", "json32"), ("FastAPI", "json32"), 4),
            _ratio("… against FastAPI by hand", ("bmp", "json32"), ("FastAPI by hand", "json32"), None),
        ),
    ),
    "binary32": Part(
        (("bmp", "binary32"), ("bmp", "json32"), ("FastAPI", "json32")),
        (
            _ratio("32 examples as bytes, against our JSON", ("bmp", "binary32"), ("bmp", "json32"), 2),
            _ratio("… against FastAPI's JSON", ("bmp", "binary32"), ("FastAPI", "json32"), 10),
        ),
    ),
    "jpeg": Part(
        (("bmp, photos", "jpeg"), ("bmp, photos", "pixels")),
        (
            _ratio("a picture as JPEG, against JSON", ("bmp, photos", "jpeg"), ("bmp, photos", "pixels"), 1.3),
            Row(
                "… its bytes",
                _quotient("body_bytes", ("bmp, photos", "jpeg"), ("bmp, photos", "pixels")),
                "{:.4f}",
                aim=1 / 20,
                is_most=True,
            ),
        ),
    ),
    "gathering": Part(
        tuple((server, load) for server in (_GATHERING, _ONE_BY_ONE) for load in (_MANY, _ONE)),
        (
            _ratio(
                "784-2048-2048-10, 64 connections: gathering on, against off",
                (_GATHERING, _MANY),
                (_ONE_BY_ONE, _MANY),
                2.5,
            ),
            Row(
                "… 1 connection: latency",
                _quotient("p50_ms", (_GATHERING, _ONE), (_ONE_BY_ONE, _ONE)),
                "{:.3f}",
                aim=1.05,
                is_most=True,
            ),
        ),
    ),
    "grpc": Part(
        (("bmp, gRPC", GRPC), ("MLServer", GRPC)),
        (_ratio("1 example by gRPC, against MLServer", ("bmp, gRPC", GRPC), ("MLServer", GRPC), 2),),
    ),
    "ceiling": Part(
        (_MINE, ("no-op", "no-op"), ("no-op, asgi", "no-op"), ("bare handler", "json1")),
        (
            _ratio("1 example in JSON, share of what a no-op does", _MINE, ("no-op", "no-op"), 0.6, "{:.2f}"),
            _ratio("… of a no-op on gunicorn's asgi worker", _MINE, ("no-op, asgi", "no-op"), None, "{:.2f}"),
            _ratio("… of a bare handler on our worker", _MINE, ("bare handler", "json1"), None, "{:.2f}"),
        ),
    ),
    "memory": Part(
        (_MINE,),
        (
            Row(
                "memory of the whole server",
                lambda found: found[_MINE]["memory_mb"],
                "{:.0f} MB",
                200,
                is_most=True,
            ),
        ),
    ),
}
