"""What a model and an alias may be called: names that are safe as a directory, in a URL and in a shell."""

import re

from bmp.errors import ConfigError

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
_RULE = "up to 64 lower-case letters, digits, '.', '_' and '-', starting with a letter or digit"


def is_name(text: str) -> bool:
    """Returns whether the text is a name as it stands; nothing is ever repaired."""
    return re.fullmatch(NAME_PATTERN, text) is not None


def check_model_name(name: str) -> str:
    """Returns the name of a model.

    Raises:
        ConfigError: It is none.
    """
    if not is_name(name):
        raise ConfigError(f"{name[:80]!r} is no model name; use {_RULE}.", expected=_RULE, received=name[:80])
    return name


def check_alias(alias: str) -> str:
    """Returns the name of an alias.

    Raises:
        ConfigError: It is none; digits alone would be taken for a version.
    """
    if not is_name(alias) or alias.isdigit():
        rule = f"{_RULE}, and not digits alone"
        raise ConfigError(f"{alias[:80]!r} is no alias; use {rule}.", expected=rule, received=alias[:80])
    return alias


MAX_TAG_CHARACTERS = 500
MAX_DESCRIPTION_CHARACTERS = 20_000


def check_tag(key: str, value: str | None) -> None:
    """Checks the key and the value of a tag.

    Raises:
        ConfigError: The key is no name, or the value is too long or cannot be shown in a line.
    """
    if not is_name(key):
        raise ConfigError(f"{key[:80]!r} is no key of a tag; use {_RULE}.", expected=_RULE, received=key[:80])
    if value is not None and not (len(value) <= MAX_TAG_CHARACTERS and value.isprintable()):
        rule = f"up to {MAX_TAG_CHARACTERS} printable characters in one line"
        raise ConfigError(f"The value of tag '{key}' is {value[:80]!r}; use {rule}.", expected=rule)


def check_description(text: str) -> None:
    """Checks the description of a version.

    Raises:
        ConfigError: It is too long, or holds what cannot be shown, such as the codes that steer a terminal.
    """
    if len(text) > MAX_DESCRIPTION_CHARACTERS or not all(line.isprintable() for line in text.split("\n")):
        rule = f"up to {MAX_DESCRIPTION_CHARACTERS:,} printable characters, and new lines"
        raise ConfigError(f"The description {text[:80]!r} cannot be kept; use {rule}.", expected=rule)
