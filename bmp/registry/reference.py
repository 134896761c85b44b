"""How people name a version: `digits`, `digits@production`, `digits/3`."""

from dataclasses import dataclass

from bmp.errors import ConfigError
from bmp.names import check_alias, check_model_name

FORMS = "MODEL, MODEL@ALIAS or MODEL/VERSION"


@dataclass(frozen=True)
class Reference:
    """A model, and which of its versions.

    Args:
        name: Of the model.
        alias: None where none is named.
        number: Of the version; None where none is named.
    """

    name: str
    alias: str | None = None
    number: int | None = None

    @property
    def wanted(self) -> int | str | None:
        """What `Registry.resolve` takes."""
        return self.alias if self.number is None else self.number


def read_reference(text: str) -> Reference:
    """Returns what a text names; nothing in it is repaired.

    Raises:
        ConfigError: It is no reference.
    """
    name, mark, wanted = _split(text)
    if mark and not wanted:
        raise ConfigError(f"'{text[:160]}' ends too early; expected {FORMS}.", expected=FORMS, received=text[:160])
    check_model_name(name)
    if mark == "@":
        return Reference(name, alias=check_alias(wanted))
    if not mark:
        return Reference(name)
    if not (wanted.isascii() and wanted.isdigit() and not wanted.startswith("0") and len(wanted) <= 18):
        guess = f" Did you mean '{name}@{wanted[:80]}'?" if wanted[:1].isalpha() else ""
        raise ConfigError(
            f"'{wanted[:80]}' is no version of '{name}'; expected a number from 1, such as {name}/1.{guess}",
            expected=f"{name}/NUMBER",
            received=text[:160],
        )
    return Reference(name, number=int(wanted))


def _split(text: str) -> tuple[str, str, str]:
    """Returns what stands before the first mark, the mark, and what stands after it."""
    place = min((at for mark in "@/" if (at := text.find(mark)) >= 0), default=len(text))
    return text[:place], text[place : place + 1], text[place + 1 :]
