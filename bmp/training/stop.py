"""Stopping when asked to: a signal becomes a checkpoint at a step that all workers agree on."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from bmp.storage import write_atomically

TIME_OVER = 124
"""What a stop is called that a limit of time has asked for; timeout(1) ends with the same."""

_EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


class StopRequest:
    """Remembers that SIGTERM or Ctrl-C came; a second one ends the process at once."""

    def __init__(self) -> None:
        self._exit_code: int | None = None
        self._deadline_s = math.inf

    @property
    def exit_code(self) -> int | None:
        """143 or 130 once the signal has come, 124 once the time is over; None before."""
        if self._exit_code is None and time.monotonic() >= self._deadline_s:
            return TIME_OVER
        return self._exit_code

    @exit_code.setter
    def exit_code(self, code: int | None) -> None:
        self._exit_code = code

    @contextmanager
    def within(self, limit_s: float | None) -> Iterator[None]:
        """Asks to stop, meanwhile, when a time is over; None sets no limit."""
        self._deadline_s = math.inf if limit_s is None else time.monotonic() + limit_s
        try:
            yield
        finally:
            self._deadline_s = math.inf

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listens meanwhile. To be entered after the strategy is built: TensorFlow installs a handler of its own."""
        before = {number: signal.signal(number, self._take) for number in _EXIT_CODES}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self._exit_code is not None:
            os._exit(_EXIT_CODES[signal.Signals(number)])
        self.exit_code = _EXIT_CODES[signal.Signals(number)]


class StopAgreement:
    """Lets all workers of a cluster stop after the same step.

    Their steps go in lockstep, since each waits for the sum of all gradients. What the chief writes before it starts
    an execution is therefore there for all when that execution ends.

    Args:
        request: Of this process.
        directory: Shared by all workers, for the notes they pass; None for a process by itself.
        is_chief: Whether this process decides.
        rank: Of this process.
    """

    def __init__(self, request: StopRequest, directory: Path | None, *, is_chief: bool = True, rank: int = 0) -> None:
        self._request = request
        self._directory = directory
        self._is_chief = is_chief
        self._wish = None if directory is None else directory / f"stop-wanted-{rank}"
        self._order = None if directory is None else directory / "stop.json"
        if directory is not None and is_chief:
            directory.mkdir(parents=True, exist_ok=True)
            for note in (*directory.glob("stop-wanted-*"), directory / "stop.json"):
                note.unlink(missing_ok=True)

    def exit_code(self, step: int) -> int | None:
        """Returns the code to stop with after this step, or None to go on."""
        if self._directory is None or self._order is None or self._wish is None:
            return self._request.exit_code
        if self._order.exists():
            order = json.loads(self._order.read_bytes())
            return int(order["exit_code"]) if step >= order["step"] else None
        if self._is_chief:
            code = self._request.exit_code or (143 if any(self._directory.glob("stop-wanted-*")) else None)
            if code is not None:
                write_atomically(self._order, json.dumps({"step": step + 1, "exit_code": code}).encode())
        elif self._request.exit_code is not None and not self._wish.exists():
            self._wish.touch()
        return None
