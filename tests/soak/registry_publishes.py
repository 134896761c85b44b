"""Many publishers at once: eight processes, four models, readers and a watcher beside them."""

import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from bmp.errors import BmpError
from bmp.registry import Registry
from bmp.registry.events import Published
from bmp.registry.watch import Watcher
from tests.registry.small_artifact import make_artifact
from tests.soak.tally import Tally, summarise

_FORK = multiprocessing.get_context("fork")
_PUBLISHERS, _READERS = 8, 2
_MODELS = ("a", "b", "c", "d")
_POLL_S = 0.1
Told = tuple[str, int, bytes]
"""What a publisher was told, and what it gave: model, number, content."""


def publish(root: Path, rng: random.Random, publishes: int) -> Tally:
    """Publishes, and looks at what is there afterwards, and at what was there meanwhile."""
    tally = Tally("registry-publishes", f"publishes from {_PUBLISHERS} processes are there, once, whole, as told")
    registry, over = Registry(root / "registry"), _FORK.Event()
    watcher = _Task(_watch, registry.root, over)
    readers = [_Task(_read, registry.root, over) for _ in range(_READERS)]
    began_s = time.monotonic()
    writers = [
        _Task(_publish, registry.root, root / f"publisher-{who}", who, times, rng.random())
        for who, times in enumerate(len(range(who, publishes, _PUBLISHERS)) for who in range(_PUBLISHERS))
    ]
    told: list[Told] = [each for writer in writers for each in writer.result()]
    took_s = time.monotonic() - began_s
    time.sleep(1)  # within which a watcher is to know
    over.set()
    _check_told(tally, registry, told, publishes)
    _check_whole(tally, registry)
    for reader in readers:
        _check_reader(tally, *reader.result())
    _check_watcher(tally, watcher.result(), told)
    tally.note(f"{publishes / took_s:.0f} publishes a second, each with two files and a manifest")
    return tally


class _Task:
    """A function in a process of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._receiver, sender = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(target=lambda: sender.send(function(*args)), daemon=True)
        self._process.start()
        sender.close()

    def result(self) -> Any:
        """Waits for the end, and returns what the function returned.

        Raises:
            EOFError: It failed.
        """
        found = self._receiver.recv()
        self._process.join()
        return found


# === What runs beside ===


def _publish(root: Path, place: Path, who: int, times: int, seed: float) -> list[Told]:
    registry, told, rng = Registry(root), [], random.Random(seed)
    for turn in range(times):
        content = f"{who} {turn} ".encode() * 50
        artifact = make_artifact(place / str(turn), content)
        name = rng.choice(_MODELS)
        version = registry.publish(artifact, name)
        told.append((name, version.number, content))
        if turn % 10 == 0:
            registry.promote(name, version.number)
    return told


def _read(root: Path, over: Event) -> tuple[int, list[str]]:
    """Looks at whatever is newest, again and again; returns how many versions were seen, and what was wrong."""
    registry, seen, wrong, rng = Registry(root), 0, [], random.Random(os.getpid())
    while not over.is_set():
        for name in registry.models():
            try:
                numbers = registry.versions(name)
                for number in {numbers[-1], rng.choice(numbers), registry.resolve(name).number}:
                    registry.get(name, number).check_files()
                    seen += 1
            except BmpError as error:
                wrong.append(f"{name}: {error}")
        time.sleep(0.01)
    return seen, wrong


def _watch(root: Path, over: Event) -> list[tuple[str, int, float]]:
    """Returns each publish with how late it was told, in seconds."""
    watcher, told = Watcher(root), []
    while True:
        is_last = over.is_set()
        for event in watcher.poll():
            if isinstance(event, Published):
                told.append((event.model, event.version, time.time() - event.time.timestamp()))
        if is_last:
            return told
        time.sleep(_POLL_S)


# === Looking ===


def _check_told(tally: Tally, registry: Registry, told: Sequence[Told], publishes: int) -> None:
    """None lost, none doubled, none torn, and no number left out."""
    for name, number, content in told:
        try:
            version = registry.get(name, number)
            version.check_files()
            is_good = (version.path / "model.tflite").read_bytes() == content
            tally.add(is_good, f"{name}/{number} holds what another one published")
        except BmpError as error:
            tally.add(False, f"{name}/{number}: {error}")
    if len(told) != publishes:
        tally.add(False, f"{publishes - len(told)} publishes were never told to be done")
    for name, count in Counter(name for name, _, _ in told).items():
        given = sorted(number for each, number, _ in told if each == name)
        if not given == registry.versions(name) == list(range(1, count + 1)):
            tally.add(False, f"the {count} versions of {name} have the numbers {registry.versions(name)}")


def _check_whole(tally: Tally, registry: Registry) -> None:
    problems = registry.verify()
    for problem in problems:
        tally.add(False, problem.message)
    tally.note(f"afterwards verify finds {len(problems) or 'nothing'}")


def _check_reader(tally: Tally, seen: int, wrong: Sequence[str]) -> None:
    for words in wrong[:10]:
        tally.add(False, f"a reader: {words}")
    tally.note(f"a reader beside looked at {seen:,} versions; {len(wrong)} were not whole")


def _check_watcher(tally: Tally, seen: Sequence[tuple[str, int, float]], told: Sequence[Told]) -> None:
    if sorted(each[:2] for each in seen) != sorted(each[:2] for each in told):
        tally.add(False, f"a watcher was told of {len(seen)} publishes, of which there were {len(told)}")
    tally.note(f"a watcher was told of each, once, after {summarise([late_s for _, _, late_s in seen])}")
