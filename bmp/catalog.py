"""Named tables of builders, with "did you mean": the one way bmp is extended."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from bmp.errors import ConfigError, UnknownNameError, suggest

Entry = TypeVar("Entry")


class Catalog(Mapping[str, Entry], Generic[Entry]):
    """A table of named entries, written out literally where it is defined.

    A builder takes what the house gives it as positional-only parameters and what a recipe's `args:` may
    set as keyword-only ones, typed: `def build_mlp(signature, /, *, hidden: list[int])`.

    Args:
        kind: What an entry is called in an error message, such as `model`.
        entries: The entries that bmp ships.

    Example:
        >>> MODELS = Catalog("model", {"mlp": build_mlp})
        >>> MODELS.register("my_net", build_my_net)
        >>> MODELS.bind("mlp", {"hidden": [128]})(signature)
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Entry:
        """Returns the entry.

        Raises:
            UnknownNameError: No entry has this name; the message lists the known names with a guess.
        """
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(sorted(self._entries))
            raise UnknownNameError(
                f"No {self.kind} is named '{name}'. Known: {known}.{suggest(name, self._entries)}",
                expected=f"one of {known}",
                received=name,
            ) from None

    def __contains__(self, name: object) -> bool:  # without composing an error message
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def register(self, name: str, entry: Entry) -> None:
        """Adds an entry of the user's own.

        Raises:
            ConfigError: The name is taken.
        """
        if name in self._entries:
            raise ConfigError(f"A {self.kind} named '{name}' exists already; choose another name.")
        self._entries[name] = entry

    def bind(self, name: str, args: Mapping[str, Any]) -> Callable[..., Any]:
        """Returns the builder with a recipe's arguments checked and filled in; nothing is built yet.

        Raises:
            UnknownNameError: No entry has this name.
            ConfigError: An argument is unknown, missing or of the wrong type.
        """
        builder = self[name]
        assert callable(builder), f"{self.kind} '{name}' is no builder"
        settable = {
            key: parameter
            for key, parameter in inspect.signature(builder).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        for key in args:
            if key not in settable:
                raise ConfigError(
                    f"The {self.kind} '{name}' takes no argument '{key}'; it takes "
                    f"{', '.join(settable) or 'none'}.{suggest(key, settable)}",
                    expected=", ".join(settable) or "no arguments",
                    received=key,
                )
        for key, parameter in settable.items():
            if key not in args and parameter.default is parameter.empty:
                raise ConfigError(
                    f"The {self.kind} '{name}' needs the argument '{key}'.", expected=key, received="nothing"
                )
        checked = {key: self._check(name, key, settable[key].annotation, args[key]) for key in args}
        return partial(builder, **checked)

    def _check(self, name: str, key: str, annotation: Any, value: Any) -> Any:
        try:
            return TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as error:
            problems = error.errors(include_url=False)
            problem = max(problems, key=lambda problem: len(problem["loc"]))  # of a union, what was most likely meant
            own = problem["ctx"]["error"] if problem["type"] == "value_error" else None
            detail = str(own) if own is not None else problem["msg"][0].lower() + problem["msg"][1:]
            stop = "" if detail.endswith((".", "?")) else "."
            raise ConfigError(
                f"The {self.kind} '{name}': argument '{key}' is {value!r}, but {detail}{stop}",
                expected=detail,
                received=repr(value),
            ) from error
