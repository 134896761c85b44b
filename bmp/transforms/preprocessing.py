"""All steps from raw features to a model's inputs, as one thing that is fitted, written down and run."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_in
from typing import Any

import numpy as np
from pydantic import ValidationError

from bmp.errors import ArtifactError, ConfigError, DataError
from bmp.signature import Arrays, TensorSpec
from bmp.transforms.base import Columns, Field, Fields, Step
from bmp.transforms.steps import check_inputs, plan_steps, read_step


@dataclass(frozen=True)
class Preprocessing:
    """Raw features, and the steps from them to what a model takes.

    Args:
        fields: Of an example as it comes.
        steps: In their order; each fits what the ones before leave.
    """

    fields: tuple[Field, ...]
    steps: tuple[Step, ...] = ()

    @property
    def is_fitted(self) -> bool:
        """Whether every step is."""
        return all(step.is_fitted for step in self.steps)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The model's inputs.

        Raises:
            ConfigError: A step is not fitted, does not fit the features, or leaves one that no model can take.
        """
        if not self.is_fitted:
            names = ", ".join(step.kind for step in self.steps if not step.is_fitted)
            raise ConfigError(f"The transforms {names} are not fitted yet, so the model's inputs are not known.")
        planned = plan_steps(self.steps, self._named())
        check_inputs(planned)
        return tuple(TensorSpec(name, field.dtype, field.shape, field.vocabulary) for name, field in planned.items())

    def _named(self) -> Fields:
        return {field.name: field for field in self.fields}

    def fit(self, read: Callable[[], Iterable[Columns]]) -> "Preprocessing":
        """Fits the steps that are not fitted, in one pass over the training split for each.

        Args:
            read: Returns the raw batches of the training split from the start.

        Raises:
            DataError: A step finds nothing to fit to, or an example cannot be used.
        """
        fitted: list[Step] = []
        for step in self.steps:
            fitted.append(step if step.is_fitted else step.fit(_run_for(step, fitted, read())))
        return replace_in(self, steps=tuple(fitted))

    def run(self, columns: Columns) -> Arrays:
        """Turns a raw batch into the model's inputs; augmentation does nothing here.

        Args:
            columns: `(N, …)` by name, as `Field.kind` describes; N is at least 1.

        Returns:
            `(N, *shape)` by name, as `outputs` says.

        Raises:
            DataError: A feature is missing, an example cannot be used, or a number is missing that no step fills.
        """
        for field in self.fields:
            if field.name not in columns:
                raise DataError(
                    f"The feature '{field.name}' is missing; expected {', '.join(self._named())}.",
                    expected=field.name,
                    received=", ".join(columns),
                )
        columns = {field.name: columns[field.name] for field in self.fields}
        for step in self.steps:
            columns = step.run(columns)
        for name, array in columns.items():
            _check_finite(name, array)
        return columns

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form, which `from_dict` reads; it gives the same results bit by bit."""
        return {
            "fields": [field.to_dict() for field in self.fields],
            "steps": [step.model_dump(mode="json") for step in self.steps],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Preprocessing":
        """Reads the JSON form.

        Raises:
            ArtifactError: It is not one, or names a transform that this bmp does not have.
        """
        try:
            fields = tuple(Field.from_dict(field) for field in data["fields"])
            preprocessing = cls(fields, tuple(read_step(step) for step in data["steps"]))
            check_inputs(plan_steps(preprocessing.steps, preprocessing._named()))
        except ArtifactError:
            raise
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise ArtifactError(f"Not a transform '{error.title}': '{where}': {problem['msg']}.") from error
        except ConfigError as error:
            raise ArtifactError(f"Not the transforms of a model: {error}") from error
        except (AttributeError, KeyError, TypeError) as error:
            raise ArtifactError(f"Not the transforms of a model: {error!r}.") from error
        return preprocessing


def _run_for(step: Step, before: Sequence[Step], batches: Iterable[Columns]) -> Iterator[Columns]:
    """Yields what a step is to be fitted to; earlier steps run only where it depends on them."""
    needed = set(step.reads)
    chosen: list[Step] = []
    for earlier in reversed(before):
        if needed & set(earlier.writes):
            chosen.insert(0, earlier)
            needed |= set(earlier.reads)
    for columns in batches:
        for earlier in chosen:
            columns = earlier.run(columns)
        yield columns


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    wrong = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
    raise DataError(
        f"The input '{name}' of example {int(wrong.argmax())} holds NaN or infinity: a number is missing that no "
        "transform fills in, or is too large.",
        expected="finite numbers",
        received="NaN or infinity",
    )
