"""How an alias moves: compared with what was expected, written down, then shown in `aliases.json`."""

from enum import Enum

from bmp.errors import NotFoundError, RegistryError, suggest
from bmp.registry.directory import ModelDirectory
from bmp.registry.events import State


class Unset(Enum):
    """The type of UNSET: an argument that was not given, where None means something."""

    UNSET = "unset"


UNSET = Unset.UNSET


def find_number(state: State, alias: str) -> int:
    """Returns the version that an alias names.

    Raises:
        NotFoundError: There is no such alias.
    """
    if alias not in state.aliases:
        raise _explain_missing(state, alias)
    return state.aliases[alias]


def find_earlier(state: State, versions: list[int], alias: str) -> int:
    """Returns the version that an alias named before.

    Args:
        state: Of the model.
        versions: Those that are there.
        alias: Set, or once set and removed since.

    Raises:
        NotFoundError: There was never such an alias.
        RegistryError: It named nothing before, or what it named is gone.
    """
    if alias not in state.trails:
        raise _explain_missing(state, alias)
    earlier = state.find_earlier(alias)
    if not earlier:
        raise RegistryError(
            f"Alias '{alias}' of model '{state.name}' named nothing before version {state.aliases[alias]}; "
            "there is nothing to return to."
        )
    if earlier[-1] not in versions:
        known = ", ".join(str(number) for number in versions)
        raise RegistryError(
            f"Alias '{alias}' of model '{state.name}' named version {earlier[-1]} before, which has been removed; "
            f"there are {known}. Promote one of these.",
            expected=known,
            received=str(earlier[-1]),
        )
    return earlier[-1]


def check_expected(state: State, alias: str, expected: int | Unset | None) -> None:
    """Checks that an alias names what whoever moves it believes.

    Raises:
        RegistryError: It names another version, or none.
    """
    found = state.aliases.get(alias)
    if expected is not UNSET and found != expected:
        raise RegistryError(
            f"Alias '{alias}' of model '{state.name}' names {_say(found)}, not {_say(expected)} as expected: somebody "
            "has moved it. It stays; look again, and repeat.",
            expected=_say(expected),
            received=_say(found),
        )


def move_alias(
    directory: ModelDirectory, state: State, alias: str, number: int | None, *, rollback: bool = False
) -> None:
    """Points an alias at a version, or removes it with None. The caller holds the lock.

    Raises:
        OSError: The system said no; the alias is as it was.
        RegistryError: It is moved, but `aliases.json` does not show it yet.
    """
    details = {"rollback": True} if rollback else {}
    directory.commit(state, "alias", alias=alias, version=number, previous=state.aliases.get(alias), **details)
    try:
        directory.write_aliases(state)
    except OSError as error:
        raise RegistryError(
            f"Alias '{alias}' names {_say(number)} now, but {directory.aliases_file} could not be written: {error}. "
            f"'bmp models repair {state.name}' writes it."
        ) from error


def _say(number: int | Unset | None) -> str:
    return f"version {number}" if isinstance(number, int) else "nothing"


def _explain_missing(state: State, alias: str) -> NotFoundError:
    known = ", ".join(sorted(state.aliases)) or "none"
    return NotFoundError(
        f"Model '{state.name}' has no alias '{alias[:80]}'. Aliases: {known}.{suggest(alias[:80], state.aliases)}",
        expected=known,
        received=alias[:80],
    )
