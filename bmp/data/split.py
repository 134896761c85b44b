"""Examples dealt out into training, validation and test: seeded, disjoint by content, complete."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bmp.config import DataConfig
from bmp.data.scan import Scan
from bmp.data.source import BadExampleError, Source
from bmp.errors import ConfigError, DataError
from bmp.transforms import Columns

SPLITS = ("train", "validation", "test")
_CHUNK = 4096


@dataclass(frozen=True)
class Parts:
    """Numbers of the examples of each split, int64 `(n,)`, and what was found on the way.

    Args:
        train: In a seeded order, like the others.
        validation: Chosen on.
        test: Measured once.
        duplicates: Examples whose content an earlier one has; they stand in the split of that one.
        dropped: Examples of given splits left out because a later split has their content.
        how: The way they were dealt out, in words.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    duplicates: int
    dropped: int
    how: str


def deal(scan: Scan, source: Source, given: Mapping[str, np.ndarray], config: DataConfig, seed: int) -> Parts:
    """Deals the usable examples out.

    Equal contents always stand in one split: without given splits the different contents are dealt out and copies
    follow; of given ones the training side gives way (test before validation before training).

    Args:
        scan: The usable examples.
        source: Where they come from.
        given: Numbers of the splits that the data itself comes in; a missing validation or test split is taken from
            the training split.
        config: Fractions, and whether to stratify.
        seed: Of the order and the choice.

    Raises:
        DataError: Too few examples, or a given split that is empty.
    """
    random = np.random.default_rng(seed)
    firsts = np.arange(len(scan.good)) if source.overlaps else find_firsts(scan.hashes)
    groups = _find_groups(scan, config.stratify)
    labels = source.target.labels if config.stratify and scan.classes is not None else ()
    duplicates = int(np.count_nonzero(firsts != np.arange(len(firsts))))
    everything = np.arange(len(scan.good))
    parts, dropped = _take_given(scan, firsts, given, source.overlaps) if given else ({"train": everything}, 0)

    wanted = {name: getattr(config.split, name) for name in ("validation", "test") if name not in parts}
    if wanted:
        parts |= _carve(parts["train"], firsts, groups, wanted, labels, random)
    _check_not_empty(parts)
    shuffled = {name: scan.good[random.permutation(parts[name])] for name in SPLITS}
    how = _explain(given, wanted, config, bool(labels))
    return Parts(**shuffled, duplicates=duplicates, dropped=dropped, how=how)


def find_firsts(hashes: np.ndarray) -> np.ndarray:
    """Returns for each example the position of the first one of the same content, int64 `(n,)`.

    Args:
        hashes: uint8 `(n, 16)`.
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)  # (n, 2)
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: of equal ones the first comes first
    ordered = words[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    firsts = np.empty(len(order), np.int64)
    firsts[order] = order[starts][np.cumsum(starts) - 1]
    return firsts


def _find_groups(scan: Scan, stratify: bool) -> np.ndarray:
    return scan.classes if stratify and scan.classes is not None else np.zeros(len(scan.good), np.int64)


def _carve(
    pool: np.ndarray,
    firsts: np.ndarray,
    groups: np.ndarray,
    wanted: Mapping[str, float],
    labels: tuple[str, ...],
    random: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Takes the wanted shares of each group out of a pool of positions and leaves the rest for training.

    Only the first example of each content is dealt out; its copies in the pool follow it.
    """
    _, first = np.unique(firsts[pool], return_index=True)
    unique = pool[np.sort(first)]
    cuts: dict[str, list[np.ndarray]] = {"train": [], **{name: [] for name in wanted}}
    for group in np.unique(groups[unique]):
        members = random.permutation(unique[groups[unique] == group])
        held_out = {name: round(len(members) * share) for name, share in wanted.items()}
        if len(members) <= len(wanted) or 0 in held_out.values() or sum(held_out.values()) >= len(members):
            whose = f"Class '{labels[group]}' has" if labels else "The source has"
            different = "" if len(unique) == len(pool) else "different "
            raise DataError(
                f"{whose} {len(members)} {different}examples, too few for a split into training, validation and test. "
                "Add examples, or change data.split."
            )
        start = 0
        for name, count in held_out.items():
            cuts[name].append(members[start : start + count])
            start += count
        cuts["train"].append(members[start:])
    parts = {name: np.concatenate(cut) for name, cut in cuts.items()}
    return _add_copies(parts, pool, firsts)


def _add_copies(parts: dict[str, np.ndarray], pool: np.ndarray, firsts: np.ndarray) -> dict[str, np.ndarray]:
    if sum(len(part) for part in parts.values()) == len(pool):
        return parts
    owner = np.full(len(firsts), -1)
    for number, part in enumerate(parts.values()):
        owner[firsts[part]] = number
    dealt = np.concatenate(list(parts.values()))
    copies = np.setdiff1d(pool, dealt)
    return {
        name: np.concatenate([part, copies[owner[firsts[copies]] == number]])
        for number, (name, part) in enumerate(parts.items())
    }


def _take_given(
    scan: Scan, firsts: np.ndarray, given: Mapping[str, np.ndarray], overlaps: bool
) -> tuple[dict[str, np.ndarray], int]:
    """Returns the usable positions of each given split and how many leaking ones were dropped."""
    if unknown := set(given) - set(SPLITS):
        raise DataError(f"The source gives a split '{min(unknown)}'; expected train, validation or test.")
    if "train" not in given:
        raise DataError(f"The source gives only the splits {', '.join(given)}; expected at least train.")
    taken = np.zeros(len(firsts), bool)  # by first position of a content
    parts, dropped = {}, 0
    for name in reversed(SPLITS):
        if name not in given:
            continue
        positions = np.flatnonzero(np.isin(scan.good, given[name]))
        if not overlaps:
            leaks = taken[firsts[positions]]
            dropped += int(leaks.sum())
            positions = positions[~leaks]
            taken[firsts[positions]] = True
        parts[name] = positions
    return parts, dropped


def _check_not_empty(parts: Mapping[str, np.ndarray]) -> None:
    for name in SPLITS:
        if not len(parts[name]):
            raise DataError(
                f"The {name} split is empty: every one of its examples is missing, bad, or also stands in a later "
                "split. Give it examples of its own, or change data.split."
            )


def _explain(given: Mapping[str, np.ndarray], wanted: Mapping[str, float], config: DataConfig, stratified: bool) -> str:
    way = "stratified by class" if stratified else "not stratified"
    shares = ", ".join(f"{name} {share:g}" for name, share in wanted.items())
    if config.split.column is not None:
        named = f"by the column '{config.split.column}'"
    else:
        named = f"{', '.join(name for name in SPLITS if name in given)} as given" if given else ""
    if not named:
        return f"by fractions: train {config.split.train:g}, {shares}; {way}"
    return f"{named}; {shares} of the training split, {way}" if wanted else named


def take_split_column(source: Source, column: str | None) -> tuple[Source, Mapping[str, np.ndarray]]:
    """Returns the source without the column that names the split of each example, and the given splits.

    Args:
        source: As it was opened.
        column: That names the split of each example; None is none.

    Raises:
        ConfigError: There is no such column of texts, or the data comes in splits already.
        DataError: It holds anything but train, validation and test.
    """
    if column is None:
        return source, source.given
    if source.given:
        raise ConfigError(
            f"data.split.column is '{column}', but the data comes in splits already ({', '.join(source.given)}); "
            "remove one of the two."
        )
    chunks = (np.arange(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK))
    numbers: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for index in chunks:
        values = _read_names(source, column, index)
        strange = [position for position, value in enumerate(values) if value not in (*SPLITS, None)]
        for position in strange[:1]:
            raise DataError(
                f"{source.where(int(index[position]))}: the column '{column}' holds '{values[position]}'; expected "
                "train, validation or test.",
                expected="train, validation or test",
                received=str(values[position]),
            )
        for name, found in numbers.items():
            found.append(index[values == name])
    given = {name: np.concatenate(found) for name, found in numbers.items() if any(map(len, found))}
    return _Without(source, column), given


def _read_names(source: Source, column: str, index: np.ndarray) -> np.ndarray:
    """Returns the texts of a column; None for an example that cannot be read, which the scan will name."""
    try:
        return source.read_column(column, index)
    except BadExampleError:
        if len(index) == 1:
            return np.array([None], object)
        half = len(index) // 2
        return np.concatenate([_read_names(source, column, part) for part in (index[:half], index[half:])])


class _Without(Source):
    """A source without one of its features."""

    def __init__(self, source: Source, column: str) -> None:
        self._source = source
        self.fields = tuple(field for field in source.fields if field.name != column)
        self.target = source.target
        self.serving_fields = source.serving_fields
        self.serving_steps = source.serving_steps
        self.overlaps = source.overlaps

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: np.ndarray) -> Columns:
        """Returns the features that are left."""
        columns = self._source.read(index)
        return {field.name: columns[field.name] for field in self.fields}

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns the targets."""
        return self._source.read_targets(index)

    def where(self, number: int) -> str:
        """Returns where an example comes from."""
        return self._source.where(number)
