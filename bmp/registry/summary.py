"""What a list tells of each version: from the journal, so that no manifest is opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bmp.registry.directory import ModelDirectory
from bmp.registry.events import Facts, Metadata, State


@dataclass(frozen=True)
class Summary:
    """One version in a list.

    Args:
        name: Of the model.
        number: Of the version.
        aliases: Those that name it, in the order they came.
        facts: Of its manifest.
        metadata: Description and tags.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    facts: Facts
    metadata: Metadata


def summarise(directory: ModelDirectory, state: State, versions: Sequence[int]) -> Iterator[Summary]:
    """Yields what a list tells of versions, ascending.

    Raises:
        ArtifactError: The journal is of before it held facts, and a manifest is damaged.
    """
    aliases: dict[int, tuple[str, ...]] = {}
    for alias, number in state.aliases.items():
        aliases[number] = (*aliases.get(number, ()), alias)
    for number in versions:
        facts = state.published[number].facts or Facts.of(directory.version(number, state).read_manifest())
        metadata = state.metadata.get(number, Metadata())
        yield Summary(directory.name, number, aliases.get(number, ()), facts, metadata)
