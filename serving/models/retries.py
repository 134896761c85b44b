"""When what failed is tried again: a second later, and twice as long after each time that it fails again."""

import time
from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

_FIRST_S = 1.0
_LAST_S = 60.0
K = TypeVar("K", bound=Hashable)


class _Retry(NamedTuple):
    """When something is tried again, by `time.monotonic()`, and how long that is after the last time."""

    at: float
    delay_s: float


class Retries(Generic[K]):
    """What failed, by whatever names it."""

    def __init__(self) -> None:
        self._retries: dict[K, _Retry] = {}

    def put_off(self, key: K) -> None:
        """Says that something has failed, once more or for the first time."""
        last = self._retries.get(key)
        delay_s = _FIRST_S if last is None else min(2 * last.delay_s, _LAST_S)
        self._retries[key] = _Retry(time.monotonic() + delay_s, delay_s)

    def forget(self, key: K) -> None:
        """Says that something has not failed, or is worth a try at once."""
        self._retries.pop(key, None)

    def is_put_off(self, key: K) -> bool:
        """Tells whether it is too early to try something again."""
        return key in self._retries and self._retries[key].at > time.monotonic()

    def due(self) -> set[K]:
        """Returns what failed, and may be tried again now."""
        return {key for key in self._retries if not self.is_put_off(key)}
