"""What is in a source: counts, class balance, shapes, ranges, missing values, duplicates, bad examples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from bmp.config import DataConfig
from bmp.data.describe.features import FeatureFacts, start_tally
from bmp.data.scan import Bad, Scan, chunk_size, scan_source
from bmp.data.source import Source, Target
from bmp.data.split import SPLITS, deal, find_firsts, take_split_column
from bmp.errors import DataError
from bmp.transforms import Columns, Field, Step, build_steps

_SAMPLE = 2000
_SAMPLE_FILES = 40


@dataclass(frozen=True)
class Facts:
    """What is in a source.

    Args:
        examples: Bad ones included.
        bad: What cannot be used.
        splits: Numbers of the usable examples of each split; `all` where they cannot be dealt out.
        how: How they were dealt out, or why not.
        copies: Of each split, examples whose content an earlier one of the same split has.
        leaks: Of each split, examples whose content stands in a later split as well; training leaves them out.
        contradictions: Copies whose class is not that of the first of their content.
        target: What is to be predicted.
        balance: Examples of each split and class (or label that holds), int64 `(splits, labels)`; None for others.
        numbers: Targets of each split where they are numbers, `(n, width)` each.
        fields: The features.
        features: Of each feature, or of each of its elements.
        sample: Some usable examples, raw, for pictures.
        sample_targets: Of the same.
    """

    examples: int
    bad: tuple[Bad, ...]
    splits: dict[str, np.ndarray]
    how: str
    copies: dict[str, int]
    leaks: dict[str, int]
    contradictions: int
    target: Target
    balance: np.ndarray | None
    numbers: dict[str, np.ndarray]
    fields: tuple[Field, ...]
    features: tuple[FeatureFacts, ...]
    sample: Columns
    sample_targets: np.ndarray


def gather_facts(source: Source, config: DataConfig, seed: int, console: Console | None = None) -> Facts:
    """Reads every example and counts; bad ones are listed, whatever the policy.

    Args:
        source: The examples.
        config: Split and transforms; `auto` is taken to fill in missing numbers.
        seed: Of the split.
        console: Where a long look shows its progress.

    Raises:
        ConfigError: The split column or the transforms do not fit the source.
        DataError: No example can be used.
    """
    source, given = take_split_column(source, config.split.column)
    scan = scan_source(source, _choose_steps(config, source.fields), console)
    if not len(scan.good):
        raise DataError(f"None of the {len(source):,} examples can be used; the first: {scan.bad[0]}.")
    splits, how = _deal(scan, source, given, config, seed)
    owner = _find_owners(scan, given or splits)
    firsts = np.arange(len(scan.good)) if source.overlaps else find_firsts(scan.hashes)
    names = list(given or splits)
    features, sample, sample_targets = _look(source, scan.good)
    classes = scan.classes
    return Facts(
        examples=len(source),
        bad=scan.bad,
        splits=splits,
        how=how,
        copies={name: _count_copies(firsts, owner == number) for number, name in enumerate(names)},
        leaks={name: _count_leaks(firsts, owner, number) for number, name in enumerate(names)},
        contradictions=0 if classes is None else int(np.count_nonzero(classes != classes[firsts])),
        target=source.target,
        balance=_balance(source, splits),
        numbers={name: source.read_targets(index) for name, index in splits.items()}
        if source.target.kind == "number"
        else {},
        fields=source.fields,
        features=features,
        sample=sample,
        sample_targets=sample_targets,
    )


def _choose_steps(config: DataConfig, fields: tuple[Field, ...]) -> tuple[Step, ...]:
    if config.transforms != "auto":
        return build_steps(config.transforms, fields)
    # An image or a text needs transforms of the user's own; whoever looks at data has perhaps none yet.
    numbers = tuple(field for field in fields if field.kind in ("number", "category"))
    return build_steps("auto", numbers) if numbers else ()


def _deal(
    scan: Scan, source: Source, given: Mapping[str, np.ndarray], config: DataConfig, seed: int
) -> tuple[dict[str, np.ndarray], str]:
    try:
        parts = deal(scan, source, given, config, seed)
    except DataError as error:
        return {"all": scan.good}, f"not at all: {error}"
    return {name: getattr(parts, name) for name in SPLITS}, parts.how


def _find_owners(scan: Scan, splits: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the number of the split of each usable example, int64 `(n,)`, -1 for none."""
    owner = np.full(len(scan.good), -1)
    for number, index in enumerate(splits.values()):
        owner[np.isin(scan.good, index)] = number
    return owner


def _count_copies(firsts: np.ndarray, inside: np.ndarray) -> int:
    return int(inside.sum() - len(np.unique(firsts[inside])))


def _count_leaks(firsts: np.ndarray, owner: np.ndarray, number: int) -> int:
    return int(np.isin(firsts[owner == number], firsts[owner > number]).sum())


def _balance(source: Source, splits: Mapping[str, np.ndarray]) -> np.ndarray | None:
    labels = len(source.target.labels)
    if source.target.kind == "class":
        return np.stack([np.bincount(source.read_targets(index), minlength=labels) for index in splits.values()])
    if source.target.kind == "multilabel":
        return np.stack([source.read_targets(index).sum(axis=0).astype(np.int64) for index in splits.values()])
    return None


def _look(source: Source, good: np.ndarray) -> tuple[tuple[FeatureFacts, ...], Columns, np.ndarray]:
    """Reads all usable examples once for the facts, and some of them for the picture."""
    tallies = [start_tally(field) for field in source.fields]
    size = chunk_size(source)
    # Windows over a text hold every token many times over: those that do not overlap tell all.
    numbers = good[:: source.target.width] if source.overlaps else good
    for start in range(0, len(numbers), size):
        columns = source.read(numbers[start : start + size])
        for tally in tallies:
            tally.take(columns[tally.field.name])
    has_files = any(field.kind in ("image", "audio") for field in source.fields)
    count = min(len(good), _SAMPLE_FILES if has_files else min(_SAMPLE, 16 * size))
    chosen = good[np.linspace(0, len(good) - 1, count).astype(np.int64)]
    return (
        tuple(facts for tally in tallies for facts in tally.finish()),
        source.read(chosen),
        source.read_targets(chosen),
    )
