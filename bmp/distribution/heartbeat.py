"""How a rank tells its launcher where it is: a small file, replaced at every beat."""

import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Phase = Literal["starting", "tuning", "training", "validating", "saving", "finishing", "waiting", "finished"]
PHASES: tuple[str, ...] = get_args(Phase)
WATCHED = ("training", "validating")
"""The phases in which a rank may not be silent."""

INTERVAL_S = 0.25
MAX_BEAT_BYTES = 16_384


@dataclass(frozen=True)
class Beat:
    """What a rank said last.

    Args:
        phase: What it is doing.
        step: Steps done.
        total_steps: Steps to do; 0 where that is not known.
        figures: Numbers to show; the launcher knows `loss` and `examples_per_s`.
        count: How many beats the rank has given; a new one is a sign of life, whatever it says.
    """

    phase: str
    step: int = 0
    total_steps: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    count: int = 0


class Heartbeat:
    """The rank's side.

    Args:
        path: The file to report to; None for a rank that nobody watches.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._phase: str | None = None
        self._written_s = 0.0
        self._count = 0

    @classmethod
    def from_environment(cls) -> "Heartbeat":
        """Returns one that reports to `BMP_HEARTBEAT_FILE`, or a silent one if that is not set."""
        name = os.environ.get("BMP_HEARTBEAT_FILE")
        return cls(Path(name) if name else None)

    def beat(self, phase: str, *, step: int = 0, total_steps: int = 0, figures: Mapping[str, float] = {}) -> None:
        """Says where this rank is: a change of phase always, anything else at most four times a second.

        Raises:
            ValueError: There is no such phase.
            OSError: The file cannot be written.
        """
        if phase not in PHASES:
            raise ValueError(f"'{phase}' is no phase of a run; known: {', '.join(PHASES)}.")
        now_s = time.monotonic()
        if self._path is None or (phase == self._phase and now_s - self._written_s < INTERVAL_S):
            return
        self._phase, self._written_s = phase, now_s
        self._count += 1
        numbers = {name: float(value) for name, value in figures.items()}
        said = {"phase": phase, "step": int(step), "total_steps": int(total_steps), "figures": numbers}
        _replace(self._path, json.dumps(said | {"count": self._count}))


def _replace(path: Path, text: str) -> None:
    """A reader sees the old text or the new; nothing is synced: after a power cut nobody asks for it."""
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)


def read_beat(path: Path) -> Beat | None:
    """Returns what a rank said last; None if it has said nothing, or nothing that can be understood."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MAX_BEAT_BYTES))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return _make_beat(said)


def _make_beat(said: Any) -> Beat | None:
    try:
        figures = {str(name): float(value) for name, value in said["figures"].items()}
        numbers = [int(said[name]) for name in ("step", "total_steps", "count")]
        phase = str(said["phase"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None
    return Beat(phase, numbers[0], numbers[1], figures, numbers[2])


def register_stack_dump() -> None:
    """Lets SIGUSR1 write the stack of every thread to this process's stderr, its log under the launcher."""
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
