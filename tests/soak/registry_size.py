"""A large registry: 1,000 models of 20 versions are listed within a second, and the memory for it does not grow."""

import random
import shutil
from pathlib import Path

from benchmarks.registry import LIST_S, REPEATS, RESOLVE_MS, ask_apart, make_registry
from tests.soak.tally import Tally

_VERSIONS = 20
_MOST_GROWN_MB = 8.0
"""Between a tenth of the models and all of them: what a list holds of each model goes with it."""


def measure(root: Path, rng: random.Random, models: int) -> Tally:
    """Measures at a tenth of the size, and at the whole."""
    tally = Tally("registry-size", f"figures reached with {models:,} models of {_VERSIONS} versions")
    few, all_ = (_make(root / name, count) for name, count in (("few", max(2, models // 10)), ("all", models)))
    part = {name: ask_apart(name, all_, REPEATS) for name in ("list", "resolve", "watch")}
    list_s, resolve_ms = part["list"]["seconds"], part["resolve"]["result"] / 1e6
    grown_mb = part["list"]["grown_mb"] - ask_apart("list", few, REPEATS)["grown_mb"]
    tally.add(part["list"]["result"] == models * _VERSIONS, f"{part['list']['result']:g} versions are listed")
    tally.add(list_s <= LIST_S, f"list takes {list_s:.2f} s; at most {LIST_S:g} s")
    tally.add(resolve_ms <= RESOLVE_MS, f"resolve takes {resolve_ms:.2f} ms; at most {RESOLVE_MS:g} ms")
    tally.add(grown_mb <= _MOST_GROWN_MB, f"with ten times the models a list takes {grown_mb:.1f} MB more")
    tally.note(f"list {list_s:.2f} s, {grown_mb:+.1f} MB for ten times the models; resolve {resolve_ms:.3f} ms")
    tally.note(f"one look for news {part['watch']['result'] / 1e6:.1f} ms")
    shutil.rmtree(root)
    root.mkdir()
    return tally


def _make(place: Path, models: int) -> Path:
    place.mkdir()
    make_registry(place / "registry", models, _VERSIONS)
    return place / "registry"
