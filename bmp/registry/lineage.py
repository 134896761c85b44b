"""Family trees: which version was made from which, from what data, by what recipe and code."""

from dataclasses import dataclass

from bmp.errors import ArtifactError
from bmp.registry.directory import ModelDirectory
from bmp.registry.events import Facts, State


@dataclass(frozen=True)
class Node:
    """A version and what was made from it.

    Args:
        number: Of the version.
        is_there: Whether it has not been removed.
        facts: With the digests of data and recipe and the version of the code; None where neither journal nor manifest
            tells them any more.
        children: Versions made from this one, ascending.
    """

    number: int
    is_there: bool
    facts: Facts | None
    children: tuple["Node", ...] = ()


def build_lineage(directory: ModelDirectory, state: State) -> list[Node]:
    """Returns the trees of a model, the oldest root first."""
    there = set(directory.list_numbers()) - state.retired
    children: dict[int | None, list[Node]] = {}
    for number in sorted(state.published, reverse=True):  # a child is younger than its parent: it is built before it
        facts = _find_facts(directory, state, number)
        parent = None if facts is None else facts.parent_version
        if parent is None or parent not in state.published or parent >= number:
            parent = None
        node = Node(number, number in there, facts, tuple(reversed(children.pop(number, []))))
        children.setdefault(parent, []).append(node)
    return children.get(None, [])[::-1]


def _find_facts(directory: ModelDirectory, state: State, number: int) -> Facts | None:
    facts = state.published[number].facts
    if facts is not None:
        return facts
    try:
        return Facts.of(directory.version(number, state).read_manifest())
    except ArtifactError:  # of before the journal held facts, and removed or damaged since
        return None
