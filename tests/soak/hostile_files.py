"""Every hostile thing by every way in: no code runs, nothing outside is touched, and a person is told why.

The cases are played by a process of their own, in bounded time; one that takes the process down has done harm.
"""

import json
import random
import select
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.hostile.corpus import CASES
from tests.hostile.ways import list_ways
from tests.soak.place import PROJECT, end, quiet_environ
from tests.soak.tally import Tally, summarise

_LONGEST_S = 120.0
_MOST_BYTES = 3 * 2**29
"""That memory may grow by: TensorFlow by itself takes half of it."""


def play_all(root: Path, rng: random.Random, rounds: int) -> Tally:
    """Plays all of them, in another order each time."""
    tally = Tally("hostile-files", f"plays of {len(CASES)} hostile files: 0 code runs, 0 files touched outside")
    plays = [(number, way) for number, case in enumerate(CASES) for way in list_ways(case)] * rounds
    rng.shuffle(plays)
    player, ways = _Player(root / "log.txt"), Counter[str]()
    times_s: list[float] = []
    most_bytes = 0
    try:
        for turn, (number, way) in enumerate(plays):
            answer, took_s = player.play(number, way, root / f"play-{turn}")
            trouble = answer["trouble"] or _find_excess(answer)
            tally.add(not trouble, f"{CASES[number]}, by {way}: {trouble}")
            times_s.append(took_s)
            most_bytes = max(most_bytes, answer["peak_bytes"])
            ways[way] += 1
            shutil.rmtree(root / f"play-{turn}", ignore_errors=True)
    finally:
        player.end()
    tally.note(f"by {', '.join(f'{way} {count}' for way, count in sorted(ways.items()))}")
    tally.note(f"each took {summarise(times_s)}; memory grew by {most_bytes / 2**20:.0f} MiB at the most")
    return tally


def _find_excess(answer: dict[str, Any]) -> str:
    """Returns in words that a play took too much memory."""
    excess = answer["peak_bytes"] > _MOST_BYTES
    return f"it took {answer['peak_bytes'] / 2**20:.0f} MiB of memory" if excess else ""


class _Player:
    """The process that plays; another one takes its place where it goes down."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process = self._start()

    def play(self, number: int, way: str, root: Path) -> tuple[dict[str, Any], float]:
        """Has a case played; returns what came of it, and the seconds it took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        began_s = time.monotonic()
        self._process.stdin.write(json.dumps({"number": number, "way": way, "root": str(root)}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _LONGEST_S)
        line = self._process.stdout.readline() if ready else ""
        took_s = time.monotonic() - began_s
        if line:
            return json.loads(line), took_s
        end(self._process)
        ended = f"took the process down ({self._process.returncode})" if ready else f"took over {_LONGEST_S:g} s"
        self._process = self._start()
        return {"trouble": f"it {ended}: {self._log}", "peak_bytes": 0}, took_s

    def end(self) -> None:
        """Lets the process tidy up and end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        finally:
            end(self._process)

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tests.hostile.child"]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=PROJECT,
                env=quiet_environ(),
                text=True,
            )
