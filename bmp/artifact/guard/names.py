"""Names of members of an archive, and of files beside a graph: each becomes a path."""

import unicodedata
from collections.abc import Iterable

from bmp.artifact.guard.limits import Limits
from bmp.errors import UnsafeError


def check_member_names(names: Iterable[str], limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
    """Checks that the members of an archive stay where they are unpacked, and that no two are one file.

    Args:
        names: Of all members, with `/` between folders; a folder may end with one.
        limits: On their number and length.

    Raises:
        UnsafeError: A name is absolute, climbs, holds a character that some system reads as part of the path or that
            no one sees, or two names are the same file on a system that does not tell case or forms of letters apart.
    """
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for number, name in enumerate(names):
        if number >= limits.members:
            raise UnsafeError(f"The archive has more than {limits.members:,} members, which is the most that is read.")
        reason = find_fault(name, limits)
        if reason:
            raise UnsafeError(
                f"The member {name[:200]!r} of the archive {reason}; a member's name is a plain path below "
                "the archive.",
                expected="a name such as 'assets/labels.txt'",
                received=repr(name[:200]),
            )
        key = _fold(name)
        if key in seen:
            raise UnsafeError(
                f"The members {seen[key]!r} and {name!r} of the archive would be the same file; each name stands once."
            )
        seen[key] = name
        folders.update(_parents(key))
    for key in seen.keys() & folders:
        if not seen[key].endswith("/"):
            raise UnsafeError(f"The member {seen[key]!r} of the archive is a file and a folder at once.")


def find_fault(name: str, limits: Limits = Limits()) -> str | None:  # noqa: B008 - immutable
    """Returns what is wrong with a relative path that a file brings with it, or None."""
    parts = name.removesuffix("/").split("/")
    if not name or len(name) > limits.name_chars:
        return f"has {len(name):,} characters, not 1 to {limits.name_chars}"
    if any(not character.isprintable() for character in name):
        return "holds a character that is not printed"
    if name.startswith("/") or "\\" in name or ":" in name:
        return "could be an absolute path, here or on another system"
    if ".." in parts:
        return "leads out of its folder"
    if any(part in ("", ".") or part != part.strip() or part.endswith(".") for part in parts):
        return "has a part that is empty, or that some systems shorten"
    return None


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name.removesuffix("/")).casefold()


def _parents(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
