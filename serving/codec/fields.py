"""Objects of a message in JSON, read key by key: strict about types, exact about the place of what is wrong."""

from collections.abc import Collection, Mapping
from typing import Any

from bmp.errors import RequestError, suggest
from serving.codec.json import kind_of

_WANTED: dict[type, str] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    list: "a list",
    dict: "an object",
}


class Fields:
    """An object in JSON; a key whose value is null is the same as a missing one.

    Args:
        content: The object.
        place: Where it stands in the body; empty for the body itself.
        known: The keys that it may have; empty for any.

    Raises:
        RequestError: It is no object, or has another key.
    """

    def __init__(self, content: Any, place: str = "", known: Collection[str] = ()) -> None:
        self._place = place
        if not isinstance(content, dict):
            raise self._refuse(f"is {kind_of(content)}; expected an object.", "an object", kind_of(content))
        self._content: Mapping[str, Any] = content
        for key in content if known else ():
            if key not in known:
                names = ", ".join(known)
                guess = suggest(key[:80], known)
                raise self._refuse(f"has the unknown key '{key[:80]}'; known are {names}.{guess}", names, key[:80])

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def get(self, key: str, wanted: type, default: Any = None) -> Any:
        """Returns a value, or the default where there is none.

        Raises:
            RequestError: It is of another type.
        """
        value = self._content.get(key)
        if value is None:
            return default
        if type(value) is not wanted:
            place = f"{self._place}.{key}" if self._place else key
            raise RequestError(
                f"{place} is {kind_of(value)}; expected {_WANTED[wanted]}.",
                expected=_WANTED[wanted],
                received=kind_of(value),
            )
        return value

    def need(self, key: str, wanted: type) -> Any:
        """Returns a value that has to be there.

        Raises:
            RequestError: It is missing, or of another type.
        """
        value = self.get(key, wanted)
        if value is None:
            raise self._refuse(f"has no '{key}'; expected {_WANTED[wanted]}.", f"'{key}'", "nothing")
        return value

    def open(self, key: str) -> "Fields":
        """Returns an object inside, empty where there is none.

        Raises:
            RequestError: It is no object.
        """
        return Fields(self.get(key, dict, {}), f"{self._place}.{key}" if self._place else key)

    def _refuse(self, problem: str, expected: str, received: str) -> RequestError:
        return RequestError(f"{self._place or 'The body'} {problem}", expected=expected, received=received)
