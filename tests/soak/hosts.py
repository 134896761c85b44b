"""Two hosts, each a network namespace with an address of its own, and a cable between them that is pulled."""

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bmp.registry import Registry
from tests.soak.place import Place, end
from tests.soak.tally import Tally, complain, say, wait_until
from tests.soak.workers import LAUNCH, OVERRIDES, find_ranks, read_beats

_ADDRESSES = ("10.213.47.1", "10.213.47.2")
_PORT = 29500
_START_WITHIN_S, _END_WITHIN_S = 120.0, 300.0
_TOLERANCE = 0.05
_WHAT = "launches on 2 hosts survived the cable, and left nothing running"


@dataclass(frozen=True)
class Network:
    """Two namespaces with a cable between them.

    Args:
        names: Of the namespaces.
    """

    names: tuple[str, str]

    def set_link(self, state: str) -> None:
        """Pulls the cable of the second host (`down`), or plugs it in (`up`)."""
        _ip("-n", self.names[1], "link", "set", "dev", "cable", state)

    def command(self, place: Place, index: int, workers: str, join_timeout_s: float) -> list[str]:
        """Returns the launch on one host."""
        hosts = ",".join(f"{address}:{_PORT}" for address in _ADDRESSES)
        options = ["--hosts", hosts, "--host-index", str(index), "--workers", workers, "--run-dir", str(place.run_dir)]
        patience = [
            "--max-restarts",
            "20",
            "--peer-timeout",
            "4",
            "--join-timeout",
            str(join_timeout_s),
            "--grace",
            "8",
        ]
        script = [word for word in place.script() if word not in ("--run-dir", str(place.run_dir))]
        return ["ip", "netns", "exec", self.names[index], *LAUNCH, *options, *patience, *script]


def cut(root: Path, rng: random.Random, cuts: int) -> Tally:
    """Cuts one host off in the middle: for a while, and for good."""
    if os.geteuid() or shutil.which("ip") is None:
        complain("two hosts need root and iproute2: apt-get install iproute2")
    tally = Tally("hosts", _WHAT)
    with _networked(f"soak{os.getpid()}") as network:
        wanted = Place(root / "undisturbed", OVERRIDES)
        trouble, _ = _launch(network, wanted, "2")
        if trouble:
            tally.add(False, f"{wanted.root}, undisturbed: {trouble}", wanted.tail(30))
            return tally
        for number in range(cuts):
            place = Place(root / f"for-a-while-{number}", OVERRIDES)
            trouble, words = _launch(network, place, "2", cut_s=rng.uniform(1, 4), back_s=rng.uniform(8, 15))
            trouble = trouble or place.differs_from(wanted.outcome())
            tally.add(not trouble, f"{place.root}: {trouble}", place.tail(40))
            tally.note(f"cut for a while, the world size as before: {words}; weights and files as undisturbed")
            place = Place(root / f"for-good-{number}", OVERRIDES)
            trouble, words = _launch(network, place, "1:2", cut_s=rng.uniform(1, 4))
            trouble = trouble or _is_as_good(place, wanted)
            tally.add(not trouble, f"{place.root}: {trouble}", place.tail(40))
            tally.note(f"cut for good, host 0 goes on alone: {words}")
    return tally


def _launch(
    network: Network, place: Place, workers: str, *, cut_s: float | None = None, back_s: float | None = None
) -> tuple[str, str]:
    """Launches on both hosts; returns what went wrong, and what happened."""
    network.set_link("up")
    join_timeout_s = 8.0 if cut_s is not None and back_s is None else 60.0
    processes = [place.start(network.command(place, index, workers, join_timeout_s)) for index in (0, 1)]
    words = "undisturbed"
    try:
        if not wait_until(lambda: _is_training(place), _START_WITHIN_S):
            return f"no training within {_START_WITHIN_S:.0f} s", ""
        if cut_s is not None:
            time.sleep(cut_s)
            words = _pull(network, place, back_s)
        codes = [process.wait(timeout=_END_WITHIN_S) for process in processes]
    except subprocess.TimeoutExpired:
        return f"a launcher did not end within {_END_WITHIN_S:.0f} s", ""
    finally:
        network.set_link("up")
        for process in processes:
            end(process)
    return _judge(place, codes, lost=cut_s is not None and back_s is None), words


def _pull(network: Network, place: Place, back_s: float | None) -> str:
    attempt = max(_list_attempts(place))
    step = max(beat.step for beat in read_beats(place, attempt))
    network.set_link("down")
    cut_at_s = time.monotonic()
    if back_s is not None:
        time.sleep(back_s)
        network.set_link("up")
    goes_on = wait_until(lambda: _is_training(place, after=attempt), _START_WITHIN_S)
    again = f"trained again {time.monotonic() - cut_at_s:.1f} s after it" if goes_on else "never trained again"
    return f"cut at step {step}" + (f", back after {back_s:.1f} s" if back_s else "") + f", {again}"


def _judge(place: Place, codes: list[int], *, lost: bool) -> str:
    if codes[0] or (codes[1] and not lost):
        return f"the launchers ended with {codes[0]} and {codes[1]}"
    if lost and not codes[1]:
        return "the launcher that was cut off says that all is well"
    wait_until(lambda: not find_ranks(place), 5)
    left = find_ranks(place)
    return f"left over: {sorted(left)}" if left else ""


def _is_training(place: Place, after: int = -1) -> bool:
    """Whether a later attempt than this has done a step."""
    return any(
        beat.step > 0 and beat.phase in ("tuning", "training", "validating", "saving", "finishing", "finished")
        for attempt in _list_attempts(place)
        if attempt > after
        for beat in read_beats(place, attempt)
    )


def _list_attempts(place: Place) -> list[int]:
    return [int(path.name.removeprefix("attempt-")) for path in (place.run_dir / "logs").glob("attempt-*")]


def _is_as_good(place: Place, wanted: Place) -> str:
    """Says where another world size, and so other sums, led to another quality."""
    scores = [
        Registry(one.registry).get("soak", 1).read_manifest().variant("float32").measured.test_score
        for one in (place, wanted)
    ]
    far = abs(scores[0] - scores[1]) > _TOLERANCE
    return f"test accuracy {scores[0]:.4f}, undisturbed {scores[1]:.4f}" if far else ""


@contextmanager
def _networked(name: str) -> Iterator[Network]:
    network = Network((f"{name}a", f"{name}b"))
    try:
        for namespace in network.names:
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "dev", "lo", "up")
        first, second = network.names
        peer = ["peer", "name", "cable", "netns", second]
        _ip("-n", first, "link", "add", "cable", "type", "veth", *peer)
        for namespace, address in zip(network.names, _ADDRESSES, strict=True):
            _ip("-n", namespace, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", namespace, "link", "set", "dev", "cable", "up")
        yield network
    finally:
        for namespace in network.names:
            gone = subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, text=True)
            if gone.returncode and "No such file" not in gone.stderr:
                say(f"hosts: the namespace {namespace} is still there: {gone.stderr.strip()}")


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        complain(f"no network of two hosts can be made here: ip {' '.join(words)}: {done.stderr.strip()}")
