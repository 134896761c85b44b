"""Examples in memory, dealt out into training, validation and test splits."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bmp.config import DataConfig
from bmp.errors import DataError
from bmp.signature import Arrays, Signature


@dataclass(frozen=True)
class Examples:
    """What a source yields.

    Args:
        inputs: Name to array, `(N, *shape)` each.
        targets: Class index of each example, int64 `(N,)`.
        signature: What a model for these examples takes and returns.
        labels: Name of each class, by index.
    """

    inputs: Arrays
    targets: np.ndarray
    signature: Signature
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        count = self.signature.check_inputs(self.inputs)
        if len(self.targets) != count:
            raise DataError(f"{count} examples came with {len(self.targets)} targets; expected one for each.")
        classes = len(self.labels)
        if not (
            np.issubdtype(self.targets.dtype, np.integer) and 0 <= self.targets.min() <= self.targets.max() < classes
        ):
            raise DataError(
                f"The targets are not all whole numbers from 0 to {classes - 1}, the indices of the labels."
            )
        for name, array in self.inputs.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                bad = int(np.argwhere(~np.isfinite(array))[0][0])
                raise DataError(f"Input '{name}' of example {bad} holds NaN or infinity; expected finite numbers.")

    def digest(self) -> str:
        """Returns the SHA-256 of every input, target and label: the identity of the data."""
        sha = hashlib.sha256()
        for name in sorted(self.inputs):
            array = np.ascontiguousarray(self.inputs[name])
            sha.update(f"{name} {array.dtype} {array.shape}".encode())
            sha.update(array.tobytes())
        sha.update(np.ascontiguousarray(self.targets).tobytes())
        sha.update("\n".join(self.labels).encode())
        return sha.hexdigest()


@dataclass(frozen=True)
class Split:
    """Examples of one split: inputs `(N, *shape)` by name, targets int64 `(N,)`."""

    inputs: Arrays
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, index: np.ndarray | slice) -> "Split":
        """Returns the examples at the given positions."""
        return Split({name: array[index] for name, array in self.inputs.items()}, self.targets[index])


@dataclass(frozen=True)
class Dataset:
    """A source, split: what training, compression and proof work on."""

    train: Split
    validation: Split
    test: Split
    signature: Signature
    labels: tuple[str, ...]
    digest: str
    """SHA-256 of the examples before the split."""


def load_data(source: Callable[[], Examples], config: DataConfig, seed: int) -> Dataset:
    """Loads a source and splits it: seeded, disjoint, complete.

    Args:
        source: An entry of SOURCES, its arguments bound.
        config: Split fractions and whether to stratify.
        seed: Of the split; the same seed gives the same split.

    Raises:
        DataError: The examples cannot be used, or are too few for the split.
    """
    examples = source()
    everything = Split(examples.inputs, examples.targets)
    train, validation, test = _split_indices(examples, config, seed)
    return Dataset(
        everything.take(train),
        everything.take(validation),
        everything.take(test),
        examples.signature,
        examples.labels,
        examples.digest(),
    )


def _split_indices(examples: Examples, config: DataConfig, seed: int) -> tuple[np.ndarray, ...]:
    """Deals each class (or, unstratified, everything) out by the fractions, in a seeded order."""
    random = np.random.default_rng(seed)
    targets = examples.targets if config.stratify else np.zeros_like(examples.targets)
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for group in np.unique(targets):
        members = random.permutation(np.flatnonzero(targets == group))
        held_out = [round(len(members) * share) for share in (config.split.validation, config.split.test)]
        if len(members) < 3 or 0 in held_out or sum(held_out) >= len(members):
            label = f"Class '{examples.labels[group]}' has" if config.stratify else "The source has"
            raise DataError(
                f"{label} {len(members)} examples, too few for a split into training, validation and test. "
                "Add examples, or change data.split."
            )
        validation, test = held_out
        cuts = (members[validation + test :], members[:validation], members[validation : validation + test])
        for part, cut in zip(parts, cuts, strict=True):
            part.append(cut)
    return tuple(random.permutation(np.concatenate(part)) for part in parts)
