"""Names, dtypes and shapes of what goes into and comes out of a model; numpy only.

Data declares a signature, models are built from it, artifacts store it, serving checks requests with it.
Shapes are those of one example: the leading batch dimension `B` is implied everywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bmp.errors import ArtifactError, SignatureError, suggest

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TensorSpec:
    """One named tensor.

    Args:
        name: As clients say it.
        dtype: A numpy dtype name, such as `float32`.
        shape: Shape of one example; `None` where any size is accepted.
        vocabulary: For whole numbers that stand for something (tokens, categories): how many there are, so that
            every value is in `[0, vocabulary)`. None for plain numbers.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        try:
            np.dtype(self.dtype)
        except TypeError as error:
            raise SignatureError(
                f"Tensor '{self.name}' has the unknown dtype '{self.dtype}'; use a numpy name such as float32."
            ) from error

    def __str__(self) -> str:
        dims = ", ".join(["B", *("?" if size is None else str(size) for size in self.shape)])
        return f"{self.dtype} ({dims})"

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, which `from_dict` reads."""
        description: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        return description if self.vocabulary is None else {**description, "vocabulary": self.vocabulary}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TensorSpec":
        """Reads the JSON form.

        Raises:
            ArtifactError: It is not one.
        """
        try:
            shape = tuple(data["shape"])
            if not all(size is None or (type(size) is int and size >= 0) for size in shape):
                raise ValueError(f"shape {data['shape']}")
            vocabulary = data.get("vocabulary")
            if not (vocabulary is None or (type(vocabulary) is int and vocabulary > 0)):
                raise ValueError(f"vocabulary {vocabulary}")
            return cls(str(data["name"]), str(data["dtype"]), shape, vocabulary)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"Not a tensor description: {data!r} ({error}).") from error

    def check(self, array: np.ndarray) -> int:
        """Checks a batch against the specification and returns its size B.

        Args:
            array: `(B, *shape)`.

        Raises:
            SignatureError: Wrong rank, width or dtype, an empty batch, or a token that is not in the vocabulary.
        """
        shape = array.shape
        if not shape or (shape[1:] != self.shape and not self._fits(shape[1:])):
            raise SignatureError(
                f"Input '{self.name}' has shape {shape}; expected {self}, where B is any number of examples.",
                expected=str(self),
                received=f"{array.dtype} {shape}",
            )
        if array.dtype != self._dtype:
            raise SignatureError(
                f"Input '{self.name}' is {array.dtype}; expected {self.dtype}.",
                expected=str(self),
                received=f"{array.dtype} {shape}",
            )
        if shape[0] == 0:
            raise SignatureError(
                f"Input '{self.name}' holds no example; expected at least one.",
                expected=str(self),
                received="an empty batch",
            )
        if self.vocabulary is not None and not (array.min() >= 0 and array.max() < self.vocabulary):
            wrong = array[(array < 0) | (array >= self.vocabulary)][0]
            raise SignatureError(
                f"Input '{self.name}' holds {wrong}; expected whole numbers from 0 to {self.vocabulary - 1}.",
                expected=f"0 to {self.vocabulary - 1}",
                received=str(wrong),
            )
        return shape[0]

    def _fits(self, sizes: tuple[int, ...]) -> bool:
        return len(sizes) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, sizes, strict=True)
        )

    @cached_property
    def _dtype(self) -> np.dtype:
        return np.dtype(self.dtype)


def explain_unknown_input(name: str, known: Sequence[str], place: str = "") -> SignatureError:
    """Returns the error of a tensor that a model does not take.

    Args:
        name: As the client says it.
        known: The names of the model's inputs.
        place: What the sentence begins with, where several examples name inputs.
    """
    name = name[:80]
    return SignatureError(
        f"{place}The model has no input '{name}'. Inputs: {', '.join(known)}.{suggest(name, known)}",
        expected=", ".join(known),
        received=name,
    )


@dataclass(frozen=True)
class Signature:
    """What goes into a model and what comes out.

    Args:
        inputs: Tensors the model takes.
        outputs: Tensors it returns.
        objective: How the outputs are to be read, an entry of bmp.objectives.OBJECTIVES: `multiclass`, `binary`,
            `multilabel`, `regression` or `next_token`.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    objective: str = "multiclass"

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, which `from_dict` reads."""
        return {
            "inputs": [spec.to_dict() for spec in self.inputs],
            "outputs": [spec.to_dict() for spec in self.outputs],
            "objective": self.objective,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Signature":
        """Reads the JSON form.

        Raises:
            ArtifactError: It is not one.
        """
        if not isinstance(data, Mapping) or not all(isinstance(data.get(key), list) for key in ("inputs", "outputs")):
            raise ArtifactError(f"Not a signature: {data!r}.", expected="an object with lists of inputs and outputs")
        inputs, outputs = (tuple(TensorSpec.from_dict(spec) for spec in data[key]) for key in ("inputs", "outputs"))
        return cls(inputs, outputs, str(data.get("objective", "multiclass")))

    def check_inputs(self, arrays: Mapping[str, np.ndarray]) -> int:
        """Checks a batch of named inputs and returns its size B.

        Raises:
            SignatureError: An input is missing, unknown, of the wrong shape or dtype, or the inputs
                disagree on the batch size.
        """
        if arrays.keys() != self._names:
            self._check_names(arrays)
        sizes = [spec.check(arrays[spec.name]) for spec in self.inputs]
        if len(sizes) > 1 and len(set(sizes)) > 1:
            raise self._explain_sizes(sizes)
        return sizes[0]

    @cached_property
    def sole_floats(self) -> TensorSpec | None:
        """The input of a model that takes nothing but floats of one shape, as most do; None for any other."""
        if len(self.inputs) != 1:
            return None
        spec = self.inputs[0]
        return spec if spec.dtype in ("float32", "float64") and spec.shape and None not in spec.shape else None

    @cached_property
    def _names(self) -> set[str]:
        return {spec.name for spec in self.inputs}

    def _check_names(self, names: Iterable[str]) -> None:
        known = [spec.name for spec in self.inputs]
        for name in names:
            if name not in known:
                raise explain_unknown_input(name, known)
        for spec in self.inputs:
            if spec.name not in names:
                raise SignatureError(
                    f"Input '{spec.name}' is missing; expected {spec}.", expected=str(spec), received="nothing"
                )

    def _explain_sizes(self, sizes: Sequence[int]) -> SignatureError:
        received = ", ".join(f"{spec.name}: {size}" for spec, size in zip(self.inputs, sizes, strict=True))
        return SignatureError(
            f"The inputs disagree on the number of examples ({received}); send the same number for each.",
            expected="one batch size",
            received=received,
        )
