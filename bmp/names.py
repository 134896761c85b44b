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
