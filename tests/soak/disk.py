"""A disk that gets full, and one that changes what it holds."""

import contextlib
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

from bmp.training.checkpoint import CheckpointStore
from tests.soak.place import Place, end, is_alive_after, pick_moment, run_reference
from tests.soak.tally import Tally, complain, wait_until

_DISK_FULL = 75
_SIZE = "48m"


def corrupt(root: Path, rng: random.Random, times: int) -> Tally:
    """Flips a bit of the newest checkpoint of a killed run, in either file in turn."""
    tally = Tally("flips", "flipped bits were named, the checkpoint before was used, and the end was the same")
    wanted, took_s = run_reference(root / "undisturbed")
    for number in range(times):
        place = Place(root / f"flip-{number}")
        name = ("arrays.safetensors", "state.json")[number % 2]
        trouble = _flip_in(place, rng, name, took_s) or place.differs_from(wanted)
        tally.add(not trouble, f"{place.root}, {name}: {trouble}", place.tail())
    return tally


def _flip_in(place: Place, rng: random.Random, name: str, took_s: float) -> str:
    stage = rng.choice(["train", "prune-0.5"])
    process = place.start()
    try:
        if not wait_until(lambda: len(_store(place, stage).paths()) >= 3 or process.poll() is not None, took_s + 120):
            return f"no three checkpoints of the stage {stage}"
    finally:
        end(process)
    newest, before = _store(place, stage).paths()[:2]
    _flip(newest / name, rng)
    code = place.finish()
    said = " ".join(place.said().split())
    if code:
        return f"ended with {code}"
    if f"The checkpoint {newest} is damaged: {name}" not in said or "The one before it is used." not in said:
        return "the damaged file is not named"
    step = int(before.name.removeprefix("step-"))
    return "" if f"resumed: stage '{stage}' from step {step:,} of" in said else f"it did not go on from step {step}"


def _flip(file: Path, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _store(place: Place, stage: str) -> CheckpointStore:
    return CheckpointStore(place.run_dir / "checkpoints" / stage)


def fill(root: Path, rng: random.Random, times: int) -> Tally:
    """Fills the disk of a run at random moments, on a file system of its own."""
    tally = Tally("full", "full disks ended a run with 75 and one sentence, and with room made the end was the same")
    if os.geteuid():
        complain("a full disk needs a file system of its own, and that root")
    wanted, took_s = run_reference(root / "undisturbed")
    for number in range(times):
        with _mounted(root / f"disk-{number}") as disk:
            place = Place(disk / "place")
            place.log = root / f"disk-{number}.txt"
            trouble = _fill_under(place, rng, disk, took_s, tally) or place.differs_from(wanted)
            tally.add(not trouble, f"{place.log}: {trouble}", place.tail(30))
    return tally


def _fill_under(place: Place, rng: random.Random, disk: Path, took_s: float, tally: Tally) -> str:
    process = place.start()
    try:
        alive = is_alive_after(process, pick_moment(rng, took_s * 0.9, 1.0))
        _pour(disk / "filler")
        code = process.wait(timeout=120) if alive else process.returncode
    finally:
        end(process)
    stage, said = place.stage(), place.said()
    (disk / "filler").unlink()
    tally.note(f"the disk was full in {stage}: exit code {code}" + (f", {_last_line(said)}" if code else ""))
    if code not in (0, _DISK_FULL):
        return f"ended with {code} on a full disk in {stage}"
    if code and (said.count("bmp: ") != 1 or "Traceback" in said):
        return "what it said was not one sentence"
    code = place.finish() if code else 0
    return f"with room made it ended with {code}" if code else ""


def _last_line(said: str) -> str:
    return next((line for line in reversed(said.splitlines()) if line.startswith("bmp: ")), "nothing was said")[:300]


def _pour(file: Path) -> None:
    """Fills a file system to the last byte."""
    with file.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))


@contextlib.contextmanager
def _mounted(directory: Path) -> Iterator[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "soak", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)
        directory.rmdir()
