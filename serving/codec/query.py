"""The query of a prediction request: which model answers, and how."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl

from bmp.errors import RequestError, suggest

_KEYS = ("model", "version", "alias", "quality", "top_k")
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Query:
    """What `?model=…&version=…&alias=…&quality=…&top_k=…` says.

    Args:
        model: Name of the model, if given.
        version: Its version, if given.
        top_k: How many labels are wanted with their probabilities, if any.
        alias: What names its version, if given.
        quality: Which variant of the version is wanted, if given.
    """

    model: str | None = None
    version: int | None = None
    top_k: int | None = None
    alias: str | None = None
    quality: str | None = None

    @property
    def says_model(self) -> bool:
        """Whether it says anything of the model that is to answer."""
        return (self.model, self.version, self.alias, self.quality) != (None, None, None, None)


@lru_cache(maxsize=256)
def decode_query(text: str) -> Query:
    """Reads what stands behind the question mark.

    Raises:
        RequestError: An unknown parameter, one that stands twice, or a number that is none.
    """
    values: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _KEYS:
            raise RequestError(
                f"The query has the unknown parameter '{name[:80]}'; known are {', '.join(_KEYS)}."
                f"{suggest(name[:80], _KEYS)}",
                expected=", ".join(_KEYS),
                received=name[:80],
            )
        if name in values:
            raise RequestError(f"The query says '{name}' twice.", expected=f"one {name}", received="two")
        values[name] = value
    version, top_k = _to_number(values, "version"), _to_number(values, "top_k")
    return Query(values.get("model"), version, top_k, values.get("alias"), values.get("quality"))


def read_quality(text: str) -> str | None:
    """Returns the quality that a query says, of a protocol that passes over all else in it."""
    return dict(parse_qsl(text)).get("quality") if "quality=" in text else None


def _to_number(values: dict[str, str], name: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not _WHOLE.fullmatch(value):
        raise RequestError(
            f"The query's '{name}' is '{value[:80]}'; expected a whole number.",
            expected="a whole number",
            received=value[:80],
        )
    return int(value)
