"""Whether an answer in JSON is the right one: rows run together may differ from one alone in the last digit."""

import json
import math
from typing import Any

_TOLERANCE = 1e-5
_MOST_KNOWN = 1000


class Answer:
    """The right answer, and all bodies that turned out to say the same.

    Args:
        body: As it came when it was checked.
    """

    def __init__(self, body: bytes) -> None:
        self._content = json.loads(body)
        self._known = {body}

    def is_same(self, body: bytes) -> bool:
        """Tells whether a body says the same numbers."""
        if body in self._known:
            return True
        try:
            is_same = _is_close(json.loads(body), self._content)
        except ValueError:
            return False
        if is_same and len(self._known) < _MOST_KNOWN:
            self._known.add(body)
        return is_same


def _is_close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_close, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_close(one[key], other[key]) for key in one)
    return one == other
