"""What a raw feature is, and what every transform of features can do; numpy only."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Strict
from pydantic import Field as Setting

from bmp.errors import ArtifactError, ConfigError, DataError, suggest

Columns = dict[str, np.ndarray]
"""A batch by feature name, `(N, …)` each; see `Field.kind` for what stands in them."""

Kind = Literal["number", "category", "text", "image", "audio", "tensor"]


@dataclass(frozen=True)
class Field:
    """One named feature of an example.

    Args:
        name: As people say it.
        kind: What it is, and how a batch of it looks:
            `number`: float32 `(N,)`, NaN where missing; `category`: str objects `(N,)`, empty where missing;
            `text`: str objects `(N,)`; `image`: bytes objects `(N,)`, a PNG or JPEG file each;
            `audio`: bytes objects `(N,)`, a WAV file each; `tensor`: any numbers `(N, *shape)`, ready for a model.
        dtype: Of a tensor; `float32` for a number.
        shape: Of one example of a tensor; empty for everything else. A tensor's may be empty as well.
        vocabulary: Of a tensor of whole numbers that stand for something: how many there are.
    """

    name: str
    kind: Kind
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    vocabulary: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, which `from_dict` reads."""
        description: dict[str, Any] = {"name": self.name, "kind": self.kind}
        if self.kind == "tensor":
            description |= {"dtype": self.dtype, "shape": list(self.shape)}
            if self.vocabulary is not None:
                description["vocabulary"] = self.vocabulary
        return description

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Field":
        """Reads the JSON form.

        Raises:
            ArtifactError: It is not one.
        """
        try:
            return cls(**{**data, "shape": tuple(data.get("shape", ()))})
        except (AttributeError, TypeError) as error:
            raise ArtifactError(f"Not a feature: {data!r} ({error}).") from error


Fields = dict[str, Field]
"""Features by name, in order."""

# Tuples, so that a step cannot be changed; lists in JSON and YAML.
Names = Annotated[tuple[str, ...], Strict(False), Setting(min_length=1)]
"""Names of features."""
Numbers = Annotated[tuple[float, ...], Strict(False)]
"""Fitted numbers, float64; JSON brings them back bit by bit."""
Texts = Annotated[tuple[str, ...], Strict(False)]
"""Fitted values, such as a vocabulary."""


class Step(BaseModel):
    """One transform, described as data: settings, and what was fitted on the training split.

    Attributes of a subclass that are None are still to be fitted. A recipe may give them itself.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    kind: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The features the step looks at: `fields`, or `field`."""
        names = getattr(self, "fields", None)
        return names if names is not None else (getattr(self, "field"),)  # noqa: B009

    @property
    def writes(self) -> tuple[str, ...]:
        """The features that are others after the step."""
        return self.reads

    def plan(self, fields: Fields) -> Fields:
        """Returns what stands after this step, given what stands before it.

        A size that only fitting will tell is 0 before.

        Raises:
            ConfigError: The step does not fit the features.
        """
        raise NotImplementedError

    @property
    def is_fitted(self) -> bool:
        """Whether `run` can be called."""
        return True

    def fit(self, batches: Iterable[Columns]) -> Self:
        """Returns this step, fitted in one pass over batches of the training split, in bounded memory.

        Raises:
            DataError: The examples give nothing to fit to.
        """
        return self

    def run(self, columns: Columns) -> Columns:
        """Returns the batch after this step.

        Raises:
            DataError: An example cannot be used (no image, no WAV file).
        """
        raise NotImplementedError

    def find(self, fields: Fields, name: str, *kinds: Kind) -> Field:
        """Returns a feature the step needs.

        Raises:
            ConfigError: There is none of this name, or it is of another kind.
        """
        if name not in fields:
            raise ConfigError(
                f"The transform '{self.kind}' needs the feature '{name}', but there are only {', '.join(fields)}."
                f"{suggest(name, fields)}",
                expected=", ".join(fields),
                received=name,
            )
        if fields[name].kind not in kinds:
            raise ConfigError(
                f"The transform '{self.kind}' takes features of kind {' or '.join(kinds)}, but '{name}' is of kind "
                f"{fields[name].kind}.",
                expected=" or ".join(kinds),
                received=fields[name].kind,
            )
        return fields[name]


def stack_examples(name: str, column: np.ndarray, run: Callable[[Any], np.ndarray]) -> np.ndarray:
    """Returns the results of one example at a time, `(N, …)`.

    Args:
        name: Of the feature, for the message.
        column: `(N,)`, at least one example.
        run: What an example becomes; every result has the same shape.

    Raises:
        DataError: Of `run`, with the example it was.
    """
    results = []
    for position, value in enumerate(column):
        try:
            results.append(run(value))
        except DataError as error:
            where = f"'{name}'" if len(column) == 1 else f"'{name}' of example {position}"
            raise DataError(
                f"The feature {where} cannot be used: {error}", expected=error.expected, received=error.received
            ) from error
    return np.stack(results)
