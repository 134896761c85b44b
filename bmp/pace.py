"""How fast a training goes, and how long it will take; no TensorFlow."""

from collections import deque

_SAMPLE_S = 0.25


def say_duration(duration_s: float) -> str:
    """Returns a duration in its two largest units: `1 d 03 h`, `1 h 04 min`, `2 min 10 s`, `9 s`."""
    seconds = max(round(duration_s), 0)
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24:02} h"
    if hours:
        return f"{hours} h {minutes % 60:02} min"
    return f"{minutes} min {seconds % 60:02} s" if minutes else f"{seconds} s"


class Pace:
    """The rate of the recent steps. What lies between two epochs (validation, checkpoints) is a pause, not training.

    The first steps are slow, as they are compiled: the rate is of what comes after the first `add`.

    Args:
        window_s: How far back the recent steps reach, in seconds of training.
    """

    def __init__(self, window_s: float = 10.0) -> None:
        self.train_s = 0.0
        """Seconds of training so far, pauses left out."""
        self._window_s = window_s
        self._samples: deque[tuple[float, int]] = deque()  # train_s, and the steps done by then
        self._marked_s: float | None = None
        self._pause_s = 0.0

    def begin(self, now_s: float) -> None:
        """An epoch begins: the last pause ends."""
        if self._marked_s is not None:
            self._pause_s = now_s - self._marked_s
        self._marked_s = now_s

    def add(self, step: int, now_s: float) -> None:
        """So many steps are done, since the very first; `begin` came before."""
        if self._marked_s is not None:
            self.train_s += now_s - self._marked_s
        self._marked_s = now_s
        if len(self._samples) >= 2 and self.train_s - self._samples[-2][0] < _SAMPLE_S:
            self._samples.pop()
        self._samples.append((self.train_s, step))
        while len(self._samples) > 2 and self._samples[1][0] <= self.train_s - self._window_s:
            self._samples.popleft()

    @property
    def steps_per_s(self) -> float | None:
        """The rate of the recent steps; None before there are two calls to take it from."""
        if len(self._samples) < 2:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None

    def estimate_s(self, steps: int, pauses: int) -> float | None:
        """Returns the seconds that further steps will take, and further pauses as long as the last one."""
        rate = self.steps_per_s
        return steps / rate + pauses * self._pause_s if rate else None
