"""A source, checked, dealt out into training, validation and test, with what turns raw features into model inputs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console

from bmp.config import DataConfig
from bmp.data.scan import Bad, check_policy, chunk_size, scan_source
from bmp.data.source import Source, Target
from bmp.data.split import deal, take_split_column
from bmp.objectives import OBJECTIVES, pick_objective
from bmp.signature import Arrays, Signature
from bmp.transforms import Columns, Preprocessing, Step, build_steps


@dataclass(frozen=True)
class Batch:
    """Some examples, ready for a model.

    Args:
        inputs: `(N, *shape)` by input name.
        targets: As `Target.kind` says, `(N, …)`.
    """

    inputs: Arrays
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Split:
    """Examples of one split, read when they are asked for.

    Args:
        source: Where they come from.
        index: Their numbers in the source, int64 `(N,)`, in the order of the split.
        preprocessing: From the features of the source to the inputs of a model.
    """

    source: Source
    index: np.ndarray
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.index)

    def read(self, positions: np.ndarray | slice) -> Batch:
        """Returns the examples at some positions of the split, in their order, without augmentation."""
        index = self.index[positions]
        return Batch(self.preprocessing.run(self.source.read(index)), self.source.read_targets(index))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yields all examples in order; the last batch may be smaller."""
        for start in range(0, len(self), size):
            yield self.read(slice(start, start + size))

    def take(self, positions: np.ndarray | slice) -> "Split":
        """Returns a split of the examples at some positions."""
        return Split(self.source, self.index[positions], self.preprocessing)

    def load(self) -> Batch:
        """Returns all examples at once, for those who need them in memory."""
        batches = list(self.batches(chunk_size(self.source)))
        inputs = {name: np.concatenate([batch.inputs[name] for batch in batches]) for name in batches[0].inputs}
        return Batch(inputs, np.concatenate([batch.targets for batch in batches]))

    def targets(self) -> np.ndarray:
        """Returns the targets of all examples; no feature is read."""
        return self.source.read_targets(self.index)


@dataclass(frozen=True)
class Report:
    """What was found on the way from a source to its splits.

    Args:
        examples: Of the source, bad ones included.
        bad: What was left out, and why.
        duplicates: Examples whose content an earlier one has; they stand in the same split as that one.
        dropped: Examples of given splits that were left out because a later split (validation, test) has their content.
        split: How the examples were dealt out, in words.
    """

    examples: int
    bad: tuple[Bad, ...]
    duplicates: int
    dropped: int
    split: str


@dataclass(frozen=True)
class Dataset:
    """A source, split: what training, compression and proof work on.

    Args:
        train: What weights and transforms are fitted on.
        validation: What choices are made on.
        test: What is measured once, for the report.
        signature: What a model for these examples takes and returns.
        target: What is to be predicted.
        preprocessing: From what a person sends to the inputs of a model: what serving runs.
        digest: SHA-256 of all usable examples: content, targets, features and labels.
        report: What was found on the way.
    """

    train: Split
    validation: Split
    test: Split
    signature: Signature
    target: Target
    preprocessing: Preprocessing
    digest: str
    report: Report

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes, by index; empty for numbers."""
        return self.target.labels


def load_data(
    source: Callable[[], Source],
    config: DataConfig,
    seed: int,
    steps: Sequence[Step] | None = None,
    console: Console | None = None,
) -> Dataset:
    """Opens a source, looks at every example once, splits it and fits the transforms on the training split.

    Args:
        source: An entry of SOURCES, its arguments bound.
        config: Split, objective, transforms, and what a bad example does.
        seed: Of the split; the same seed gives the same split.
        steps: Steps in place of `config.transforms`, fitted or not: those of a model that is trained further.
        console: Where a long look shows its progress; None shows nothing.

    Raises:
        ConfigError: Transforms, objective or split column do not fit the source.
        DataError: The examples cannot be used, or are too few for the split.
    """
    opened, given = take_split_column(source(), config.split.column)
    objective = pick_objective(config.objective, opened.target)
    steps = build_steps(config.transforms, opened.fields) if steps is None else tuple(steps)

    scan = scan_source(opened, steps, console)
    check_policy(scan, config.on_bad_example, config.max_bad_fraction)
    parts = deal(scan, opened, given, config, seed)
    preprocessing = Preprocessing(opened.fields, steps).fit(lambda: _read_raw(opened, np.sort(parts.train)))

    train, validation, test = (
        Split(opened, index, preprocessing) for index in (parts.train, parts.validation, parts.test)
    )
    return Dataset(
        train,
        validation,
        test,
        Signature(preprocessing.outputs, (OBJECTIVES[objective].output(opened.target),), objective),
        opened.target,
        Preprocessing(opened.serving_fields or opened.fields, (*opened.serving_steps, *preprocessing.steps)),
        scan.digest,
        Report(len(opened), scan.bad, parts.duplicates, parts.dropped, parts.how),
    )


def _read_raw(source: Source, index: np.ndarray) -> Iterator[Columns]:
    size = chunk_size(source)
    for start in range(0, len(index), size):
        yield source.read(index[start : start + size])
