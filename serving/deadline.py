"""Until when the request being worked on has to be answered; doors say it, what waits or runs for long asks."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from bmp.errors import DeadlineError, RequestError

HEADER = "X-Request-Timeout"
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?", re.ASCII)
_EXPECTED = "seconds above 0, such as 0.5"


class _Bounds(NamedTuple):
    moment: float | None = None
    is_cancelled: Callable[[], bool] | None = None


_UNBOUNDED = _Bounds()
_bounds: ContextVar[_Bounds] = ContextVar("bounds", default=_UNBOUNDED)


@contextmanager
def within(timeout_s: float | None, is_cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
    """Bounds what is done inside.

    Args:
        timeout_s: From now on; None for no bound.
        is_cancelled: Tells whether nobody waits for the answer any more.
    """
    token = _bounds.set(_Bounds(None if timeout_s is None else time.monotonic() + timeout_s, is_cancelled))
    try:
        yield
    finally:
        _bounds.reset(token)


def current() -> float | None:
    """Returns the moment, by `time.monotonic()`, after which the answer is of no use; None where there is none."""
    return _bounds.get().moment


def cancellation() -> Callable[[], bool] | None:
    """Returns what tells whether nobody waits for the answer any more; None where nobody can say."""
    return _bounds.get().is_cancelled


def check() -> None:
    """Returns while there is time.

    Raises:
        DeadlineError: It is over.
    """
    moment = current()
    if moment is not None and time.monotonic() >= moment:
        raise too_late()


def too_late() -> DeadlineError:
    """Returns the error of a request whose time is over."""
    return DeadlineError(
        "The time that the request allowed was over before it could run, so it was dropped; allow more, or send less.",
        expected="an answer in time",
        received="a request that had to wait",
    )


def read_timeout(text: str | None) -> float | None:
    """Reads the header `X-Request-Timeout`: how many seconds an answer may take.

    Raises:
        RequestError: It is no such number.
    """
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or not float(text):
        raise RequestError(
            f"The header {HEADER} is '{text[:80]}'; expected {_EXPECTED}.", expected=_EXPECTED, received=text[:80]
        )
    return float(text)
