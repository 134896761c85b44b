"""Two workers under `bmp launch`, one of them killed again and again: restarted, the end is the same to the bit."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from bmp.distribution.heartbeat import Beat, read_beat
from bmp.errors import BmpError
from tests.soak.place import Outcome, Place, end
from tests.soak.tally import Tally, summarise, wait_until

OVERRIDES = ("train.epochs=12", "compress.epochs=4")
LAUNCH = [sys.executable, "-m", "bmp", "launch"]
_STEPPING = ("tuning", "training", "validating", "saving")
_START_WITHIN_S, _END_WITHIN_S = 120.0, 240.0


def kill_workers(root: Path, rng: random.Random, kills: int) -> Tally:
    """Kills the chief or the worker with SIGKILL at random moments, and measures how soon both train again."""
    tally = Tally("workers", "launches of 2 workers ended with the weights and files of the undisturbed launch")
    place = Place(root / "undisturbed", OVERRIDES)
    wanted, fresh_s = _run_undisturbed(place)
    hits: dict[str, int] = {}
    again_s: list[float] = []
    spawn_s: list[float] = []
    while sum(hits.values()) < kills:
        place = Place(root / f"launch-{tally.tried}", OVERRIDES)
        trouble = _run_through(place, rng, kills, hits, spawn_s, again_s) or place.differs_from(wanted)
        tally.add(not trouble, f"{place.root}: {trouble}", place.tail(25))
        if trouble:
            break
        place.remove()
    tally.note(f"killed: {', '.join(f'{name} {count} times' for name, count in sorted(hits.items()))}")
    tally.note(f"from the kill until both processes are started again: {summarise(spawn_s)}")
    tally.note(f"from their start to the first step done: {summarise(again_s)}; in a fresh launch {fresh_s:.2f} s")
    return tally


def _run_undisturbed(place: Place) -> tuple[Outcome, float]:
    process = place.start(_command(place, 0))
    try:
        if not wait_until(lambda: _is_stepping(place, 0) or process.poll() is not None, _START_WITHIN_S):
            raise BmpError(f"no step within {_START_WITHIN_S:.0f} s:\n{place.tail(30)}")
        fresh_s = time.time() - min(rank.create_time() for rank in find_ranks(place).values())
        code = process.wait(timeout=_END_WITHIN_S)
    finally:
        end(process, signal.SIGTERM)
    if code:
        raise BmpError(f"the undisturbed launch ended with {code}:\n{place.tail(40)}")
    return place.outcome(), fresh_s


def _run_through(
    place: Place, rng: random.Random, kills: int, hits: dict[str, int], spawn_s: list[float], again_s: list[float]
) -> str:
    """Runs a launch to its end, killing ranks meanwhile; returns what went wrong."""
    process = place.start(_command(place, 10_000))
    attempt = 0
    try:
        while sum(hits.values()) < kills:
            if not wait_until(lambda: len(find_ranks(place)) == 2 or process.poll() is not None, _START_WITHIN_S):
                return "two processes were not there in time"
            time.sleep(rng.uniform(0.5, 12.0))
            name = _kill_one(place, rng)
            if name is None:  # all is over, or about to be
                break
            hits[name] = hits.get(name, 0) + 1
            attempt += 1
            is_measured = rng.random() < 0.75  # of the others, the next kill may come while they start
            if is_measured and not _measure(place, process, attempt, spawn_s, again_s):
                return f"no step within {_START_WITHIN_S:.0f} s after the kill of {name}"
        code = process.wait(timeout=_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        return f"it did not end within {_END_WITHIN_S:.0f} s"
    finally:
        end(process, signal.SIGTERM)
    left = find_ranks(place)
    return f"ended with {code}" if code else f"left over: {sorted(left)}" if left else ""


def _kill_one(place: Place, rng: random.Random) -> str | None:
    ranks = find_ranks(place)
    if len(ranks) < 2:
        return None
    name = rng.choice(sorted(ranks))
    ranks[name].kill()
    return name


def _measure(
    place: Place, process: "subprocess.Popen[bytes]", attempt: int, spawn_s: list[float], again_s: list[float]
) -> bool:
    """Waits until both ranks do steps again, or all has ended; returns whether it came to one of these."""
    killed_s = time.time()
    arrived = wait_until(
        lambda: _is_stepping(place, attempt) or _is_finishing(place, attempt) or process.poll() is not None,
        _START_WITHIN_S,
    )
    ranks = find_ranks(place)
    if _is_stepping(place, attempt) and len(ranks) == 2:
        started_s = max(rank.create_time() for rank in ranks.values())
        spawn_s.append(started_s - killed_s)
        again_s.append(time.time() - started_s)
    return arrived


def find_ranks(place: Place) -> dict[str, psutil.Process]:
    """Returns the processes of a launch that train, by name, such as `worker-0`."""
    found = {}
    for process in psutil.process_iter(["name"]):
        try:
            beat = process.environ().get("BMP_HEARTBEAT_FILE", "")
            if beat.startswith(f"{place.run_dir}/") and process.status() != psutil.STATUS_ZOMBIE:
                found[Path(beat).stem] = process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def read_beats(place: Place, attempt: int) -> list[Beat]:
    """Returns what the ranks of an attempt said last."""
    files = sorted((place.run_dir / "logs" / f"attempt-{attempt}").glob("*.beat"))
    return [beat for beat in map(read_beat, files) if beat is not None]


def _is_stepping(place: Place, attempt: int) -> bool:
    beats = read_beats(place, attempt)
    return len(beats) == 2 and all(beat.phase in _STEPPING and beat.step > 0 for beat in beats)


def _is_finishing(place: Place, attempt: int) -> bool:
    return any(beat.phase in ("finishing", "waiting", "finished") for beat in read_beats(place, attempt))


def _command(place: Place, max_restarts: int) -> list[str]:
    options = ["--workers", "2", "--max-restarts", str(max_restarts), "--run-dir", str(place.run_dir)]
    script = [word for word in place.script() if word not in ("--run-dir", str(place.run_dir))]
    return [*LAUNCH, *options, *script]
