"""Every system call of a change to the registry, struck in turn: publish, alias move, removal, repair.

Whatever happens, a reader finds what was before or what was to be, whole; what is left lying about is found by `verify`
and goes with `repair`; and what a change says that was refused is true.
"""

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bmp.errors import BmpError
from bmp.registry import Registry
from tests.registry.small_artifact import make_artifact
from tests.soak.strikes import DONE, REFUSED, Strike, check_strace, count_calls, list_strikes, make_struck
from tests.soak.tally import Tally

NAME = "model"
_CONTENTS = (b"first", b"second", b"third")
_DONE_ALL_THE_SAME = ("now, but", "What was retired stays so")
"""What a change has to say that failed when it was done; any other sentence means that everything is as it was."""
Seen = tuple[tuple[int, ...], tuple[tuple[str, int], ...], tuple[bytes, ...]]
"""What a reader sees: versions, aliases, and the bytes of each version."""


@dataclass(frozen=True)
class Change:
    """A change that is struck.

    Args:
        name: What it does.
        make: Makes it.
        versions: That are published before.
        is_damaged: Whether what an earlier crash has left lies about: a staged version, half an alias file.
    """

    name: str
    make: Callable[[Registry, Path], object]
    versions: int = 2
    is_damaged: bool = False


CHANGES = (
    Change("the first publish", lambda registry, artifact: registry.publish(artifact, NAME), versions=0),
    Change("a publish", lambda registry, artifact: registry.publish(artifact, NAME), is_damaged=True),
    Change("an alias move", lambda registry, _: registry.set_alias(NAME, "production", 2)),
    Change("a rollback", lambda registry, _: registry.rollback(NAME, "tried")),
    Change("a removal", lambda registry, _: registry.gc(NAME), versions=3),
    Change("a repair", lambda registry, _: registry.repair(NAME), is_damaged=True),
)


def strike_changes(root: Path, rng: random.Random, rounds: int) -> Tally:
    """Strikes at each change everywhere, and looks at what is left."""
    check_strace()
    tally = Tally("registry-calls", "strikes left the old state or the new one, whole, and said which")
    repaired = 0
    for change in CHANGES:
        before, after = _make_registry(root / "before", change), _make_registry(root / "after", change)
        counts = count_calls(lambda made=after, what=change: what.make(made, made.root.parent / "new"), root / "trace")
        known = _see(before), _see(after)
        strikes = list_strikes(counts) * rounds
        rng.shuffle(strikes)
        for found in strikes:
            trouble, mended = _try(root / "struck", change, found, known)
            repaired += mended
            tally.add(not trouble, f"{change.name}, {found}: {trouble}")
        tally.note(f"{change.name}: {len(strikes):,} kills, ENOSPC and EIO at {counts.total()} system calls")
    tally.note(f"{repaired} times there was something that 'bmp models repair' put right")
    return tally


def _make_registry(place: Path, change: Change) -> Registry:
    """Makes a registry in its state before the change, and an artifact to publish beside it."""
    shutil.rmtree(place, ignore_errors=True)
    registry = Registry(place / "registry")
    for number in range(change.versions):
        registry.publish(make_artifact(place / f"artifact-{number}", _CONTENTS[number]), NAME)
        registry.set_alias(NAME, "tried", number + 1)
    if change.versions:
        registry.set_alias(NAME, "production", 1)
    make_artifact(place / "new", b"new")
    if change.is_damaged:
        shutil.copytree(place / "new", registry.root / NAME / ".staging-0123456789abcdef")
        (registry.root / NAME / ".aliases.json-0123456789abcdef").write_text('{"produ')
        (registry.root / NAME / "aliases.json").write_text("{}")
    return registry


def _see(registry: Registry) -> Seen:
    """Returns what a reader sees, after looking at every byte of it."""
    numbers = registry.versions(NAME)
    found = [registry.get(NAME, number) for number in numbers]
    for version in found:
        version.check_files()
    contents = tuple((version.path / "model.tflite").read_bytes() for version in found)
    return tuple(numbers), tuple(sorted(registry.aliases(NAME).items())), contents


def _try(place: Path, change: Change, found: Strike, known: Sequence[Seen]) -> tuple[str, bool]:
    """Strikes once; returns what is wrong afterwards, and whether there was something to repair."""
    registry = _make_registry(place, change)
    code, sentence, trouble = make_struck(lambda: change.make(registry, place / "new"), found)
    try:
        trouble = trouble or _look(registry, code, sentence, known)
        return (trouble, False) if trouble else _repair(registry, change, known)
    except BmpError as error:
        return error.message, False


def _look(registry: Registry, code: int, sentence: str, known: Sequence[Seen]) -> str:
    seen, (old, new) = _see(registry), known
    if seen not in known:
        return f"a reader sees {seen}"
    if code == DONE and seen != new:
        return "it said that it was done, and it was not"
    if code == REFUSED and (not sentence or "\n" in sentence):
        return f"the sentence is: {sentence!r}"
    if code == REFUSED and old != new and seen == new and not any(words in sentence for words in _DONE_ALL_THE_SAME):
        return f"it is done, and the sentence is: {sentence}"
    return ""


def _repair(registry: Registry, change: Change, known: Sequence[Seen]) -> tuple[str, bool]:
    """Repairs what there is to repair, looks again, and publishes once more: with a number that was never given."""
    problems = registry.verify(NAME) if (registry.root / NAME).is_dir() else []
    for problem in problems:
        if not problem.can_be_repaired:
            return f"beyond repair: {problem.message}", False
    if problems:
        registry.repair(NAME)
    if (left := registry.verify(NAME) if problems else []) or _see(registry) not in known:
        return f"after the repair there is {left or _see(registry)}", False
    given = {int(entry["version"]) for entry in registry.journal(NAME) if entry["event"] in ("publish", "adopt")}
    number = registry.publish(registry.root.parent / "new", NAME).number
    return (f"number {number} was given again" if number in given else ""), bool(problems)
