"""Variation of training examples, described; it happens in training only, in bmp/data/twins."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field as Setting
from pydantic import NonNegativeFloat, model_validator

from bmp.errors import ConfigError
from bmp.transforms.base import Columns, Fields, Step


class Augment(Step):
    """Changes examples at random in training, a little and differently in every epoch; nothing elsewhere."""

    kind: Literal["augment"] = "augment"
    field: str
    """A tensor of floats; for flips and crops an image `(H, W)` or `(H, W, C)`."""
    flip_horizontal: bool = False
    """Left and right change places in half of the examples."""
    flip_vertical: bool = False
    """Top and bottom change places in half of the examples."""
    crop: Annotated[int, Setting(ge=0)] | Annotated[float, Setting(gt=0, lt=1)] = 0
    """A whole number: so many pixels of zeros are put around the image and a window of its own size is cut out.
    A fraction: a window with this share of both sides is cut out and stretched to the image's size."""
    noise: NonNegativeFloat = 0.0
    """Standard deviation of normal noise that is added to every number."""
    mixup: NonNegativeFloat = 0.0
    """Above 0: examples of a batch are blended in pairs, by a share from the Beta(mixup, mixup) distribution, all
    inputs and the targets alike (Zhang, Cisse, Dauphin, Lopez-Paz: mixup, 2018)."""

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.flip_horizontal or self.flip_vertical or self.crop or self.noise or self.mixup):
            raise ValueError("nothing is to be done; set flip_horizontal, flip_vertical, crop, noise or mixup")
        return self

    @property
    def is_for_images(self) -> bool:
        """Whether the feature must be an image."""
        return self.flip_horizontal or self.flip_vertical or bool(self.crop)

    def plan(self, fields: Fields) -> Fields:
        """Nothing changes but the values."""
        field = self.find(fields, self.field, "tensor")
        if not np.issubdtype(np.dtype(field.dtype), np.floating):
            raise ConfigError(
                f"The transform 'augment' takes a tensor of floats, but '{field.name}' is {field.dtype}."
                " Use standardise or min_max before."
            )
        if self.is_for_images and len(field.shape) not in (2, 3):
            raise ConfigError(
                f"The transform 'augment' flips and crops images of shape (H, W) or (H, W, C), but '{field.name}' has "
                f"the shape {field.shape}.",
                expected="(H, W) or (H, W, C)",
                received=str(field.shape),
            )
        return fields

    def run(self, columns: Columns) -> Columns:
        """Returns the batch as it is."""
        return columns
