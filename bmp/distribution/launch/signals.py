"""Signals that ask the launcher to stop: remembered by the handler, acted upon by the loop."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


class Stopped(Exception):
    """The launcher was asked to stop.

    Args:
        number: The signal that asked.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = _CODES[signal.Signals(number)]


class Signals:
    """Remembers the signals that ask to stop, while it is entered."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        for number in _CODES:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets SIGHUP
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._received.append(number)

    @property
    def at_once(self) -> bool:
        """Whether a second signal has come: there is no time for a checkpoint."""
        return len(self._received) > 1

    def check(self) -> None:
        """Raises `Stopped` if a signal has come."""
        if self._received:
            raise Stopped(self._received[0])
