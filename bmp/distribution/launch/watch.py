"""Whether a rank goes on: its first sign of life, and every one while it trains."""

from bmp.distribution.heartbeat import WATCHED, Beat


class Watch:
    """Watches one rank.

    Args:
        start_timeout_s: How long it may take to give its first sign of life.
        watchdog_s: How long it may be silent while it trains or validates; 0: for ever.
        now_s: The time of its start.
    """

    def __init__(self, start_timeout_s: float, watchdog_s: float, now_s: float) -> None:
        self.beat: Beat | None = None
        self._start_timeout_s = start_timeout_s
        self._watchdog_s = watchdog_s
        self._last_s = now_s

    def see(self, beat: Beat | None, now_s: float) -> None:
        """Takes what the rank said last; only a new beat is a sign of life."""
        if beat is not None and beat != self.beat:
            self.beat, self._last_s = beat, now_s

    def find_silence(self, now_s: float) -> str | None:
        """Returns what is wrong, in words; None if nothing is."""
        silent_s = now_s - self._last_s
        if self.beat is None:
            if silent_s > self._start_timeout_s:
                return f"gave no sign of life in the {self._start_timeout_s:g} s after its start (--start-timeout)"
            return None
        if self._watchdog_s and silent_s > self._watchdog_s and self.beat.phase in WATCHED:
            where = f"{self.beat.phase}, step {self.beat.step:,}"
            return f"made no progress for {self._watchdog_s:g} s ({where}; --watchdog)"
        return None
