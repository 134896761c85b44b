"""Examples made up from a seed: any number of them, in no memory."""

from hashlib import blake2b
from typing import Annotated, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic import NonNegativeInt, PositiveInt

from bmp.data.source import Source, Target
from bmp.errors import ConfigError
from bmp.transforms import Columns, Field

Kind = Literal["class", "binary", "number", "multilabel"]

_NAME = "features"


class SyntheticSource(Source):
    """Examples that are a function of a seed and their number.

    Random numbers come from Philox with the seed as its key; its counter jumps to where an example begins.

    Args:
        examples: How many.
        shape: Of the features of one.
        kind: What is to be predicted.
        outputs: Classes, numbers or labels; 1 for `binary`.
        noise: Standard deviation of the features of a class about its centre, or of what is added to a height.
        seed: Of everything.

    Reference:
        Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, 2011.
    """

    def __init__(self, examples: int, shape: list[int], kind: Kind, outputs: int, noise: float, seed: int) -> None:
        width = int(np.prod(shape))
        labels = {"number": 0, "binary": 2}.get(kind, outputs)
        self.fields = (Field(_NAME, "tensor", "float32", tuple(shape)),)
        self.target = Target(
            "class" if kind == "binary" else kind,
            tuple(str(number) for number in range(labels)),
            outputs if kind in ("number", "multilabel") else 1,
        )
        self._kind = kind
        self._examples = examples
        self._shape = tuple(shape)
        self._noise = noise
        self._seed = seed
        # Centres are about four units apart; the height over a plane has a standard deviation of one.
        random = np.random.default_rng([seed, 1])
        self._planes = (random.standard_normal((outputs, width)) / np.sqrt(width)).astype(np.float32)
        self._centres = (3 * random.standard_normal((outputs, width)) / np.sqrt(width)).astype(np.float32)
        self._draws = -(-(width + outputs) // 4) * 4  # Philox makes four at a time
        arguments = f"{examples} {shape} {kind} {outputs} {noise!r} {seed}"
        self._identity = blake2b(arguments.encode(), digest_size=8).digest()

    def __len__(self) -> int:
        return self._examples

    def read(self, index: np.ndarray) -> Columns:
        """Returns features, float32 `(n, *shape)`."""
        normals = self._draw(index)[:, : self._centres.shape[1]]
        if self._kind == "class":
            normals = self._centres[self._classes(index)] + np.float32(self._noise) * normals
        return {_NAME: normals.reshape(len(index), *self._shape)}

    def read_targets(self, index: np.ndarray) -> np.ndarray:
        """Returns targets."""
        if self._kind == "class":
            return self._classes(index)
        normals = self._draw(index)
        width, outputs = self._planes.shape[1], len(self._planes)
        # Not a matrix product: BLAS adds in an order that depends on the size of the batch.
        heights = np.einsum("nw,ow->no", normals[:, :width], self._planes)
        heights += np.float32(self._noise) * normals[:, width : width + outputs]
        if self._kind == "binary":
            return (heights[:, 0] > 0).astype(np.int64)
        return heights if self._kind == "number" else (heights > 0).astype(np.float32)

    def _classes(self, index: np.ndarray) -> np.ndarray:
        return index % len(self._centres)

    def _draw(self, index: np.ndarray) -> np.ndarray:
        """Returns independent standard normal numbers, float32 `(n, width + outputs)`, by the method of Box and Muller.

        Reference:
            Box, Muller: A note on the generation of random normal deviates, 1958.
        """
        words = np.empty((len(index), self._draws), np.uint64)
        generator = np.random.Philox(key=self._seed)
        state = generator.state
        start = 0
        while start < len(index):  # neighbours are drawn together
            length = _count_neighbours(index, start)
            state["state"]["counter"][:] = (int(index[start]) * (self._draws // 4), 0, 0, 0)
            generator.state = state
            words[start : start + length] = generator.random_raw(length * self._draws).reshape(length, self._draws)
            start += length
        uniform = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53  # [0, 1)
        radius = np.sqrt(-2 * np.log1p(-uniform[:, 0::2]))
        angle = 2 * np.pi * uniform[:, 1::2]
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)

    def where(self, number: int) -> str:
        """Returns the number."""
        return f"synthetic example {number:,}"

    def read_hashes(self, index: np.ndarray) -> np.ndarray:
        """Returns what identifies examples: the digest of the arguments, and the number."""
        hashes = np.empty((len(index), 16), np.uint8)
        hashes[:, :8] = np.frombuffer(self._identity, np.uint8)
        hashes[:, 8:] = index.astype("<i8")[:, None].view(np.uint8)
        return hashes


def _count_neighbours(index: np.ndarray, start: int) -> int:
    if len(index) > 1 and index[-1] - index[0] == len(index) - 1 and (np.diff(index) == 1).all():
        return len(index) - start
    end = start + 1
    while end < len(index) and index[end] == index[end - 1] + 1:
        end += 1
    return end - start


def load_synthetic(
    *,
    examples: PositiveInt,
    features: PositiveInt | None = None,
    shape: list[PositiveInt] | None = None,
    kind: Kind = "class",
    outputs: PositiveInt | None = None,
    noise: Annotated[float, Setting(ge=0)] | None = None,
    seed: NonNegativeInt = 0,
) -> Source:
    """Makes examples up: of any number, in no memory, and such that something can be learned from them.

    Args:
        examples: How many.
        features: Numbers of an example, in a row; 16 where no shape is given.
        shape: Of the features, in place of their number: `[28, 28, 1]`.
        kind: `class`: clouds about a centre each, in turn; `number`: the height over a plane, which has a standard
            deviation of 1; `binary`: two classes, on which side of a plane the features lie; `multilabel`: on which
            side of several planes.
        outputs: Classes, numbers or labels; 2 classes, 1 number or 3 labels if none is given.
        noise: Standard deviation of the clouds (1 if none is given, their centres are about 4 apart), or of what is
            added to the height (0.1).
        seed: Of everything.

    Raises:
        ConfigError: Features and shape are both given, or there is one class alone.
    """
    if features is not None and shape is not None:
        raise ConfigError("args.features and args.shape both say how large an example is; remove one.")
    outputs = outputs or {"class": 2, "multilabel": 3}.get(kind, 1)
    if kind == "binary" and outputs != 1:
        raise ConfigError(
            f"args.outputs is {outputs}, but binary is always two classes; leave it out, or use kind: class."
        )
    noise = noise if noise is not None else 1.0 if kind == "class" else 0.1
    if kind == "class" and outputs < 2:
        raise ConfigError("args.outputs is 1, but there is nothing to learn from one class; expected 2 or more.")
    return SyntheticSource(examples, list(shape or [features or 16]), kind, outputs, noise, seed)
