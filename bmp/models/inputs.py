"""The first layers of every network: inputs named as in the signature, checked, as scaled floats."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from bmp.errors import ConfigError
from bmp.signature import Signature, TensorSpec

Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]
"""Height and width."""

Share = Annotated[float, Field(ge=0, lt=1)]
"""Of activations that are dropped, in training only."""


def take_one(signature: Signature, *, model: str) -> TensorSpec:
    """Returns the only input, a tensor of numbers of fixed shape.

    Raises:
        ConfigError: There are several, or it is no such tensor.
    """
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise ConfigError(
            f"The model '{model}' takes one input, but the data has {len(signature.inputs)}: {names}. "
            "Use model.build: mlp, which joins several inputs, or join them in data.transforms.",
            expected="one input",
            received=names,
        )
    check_numbers(signature.inputs[0], model=model)
    return signature.inputs[0]


def check_numbers(spec: TensorSpec, *, model: str) -> None:
    """Checks that an input is a tensor of numbers of fixed shape.

    Raises:
        ConfigError: It is not.
    """
    if None in spec.shape or np.dtype(spec.dtype).kind not in "fiu":
        raise ConfigError(
            f"The model '{model}' needs numbers of a fixed shape, but input '{spec.name}' is {spec}. "
            "Bring it to one shape in data.transforms.",
            expected="numbers of a fixed shape",
            received=str(spec),
        )


def take_image(signature: Signature, *, model: str, resize: list[int] | None = None) -> tuple[Any, Any]:
    """Returns the input layer's tensor and images `(B, H, W, C)` made from it.

    Args:
        signature: One input, `(H, W)` or `(H, W, C)`.
        model: Whose input it is, for errors.
        resize: Height and width the images are brought to, bilinear, in the graph.

    Raises:
        ConfigError: The data holds no images.
    """
    import tf_keras as keras

    spec = take_one(signature, model=model)
    if len(spec.shape) not in (2, 3):
        raise ConfigError(
            f"The model '{model}' needs images of shape (H, W) or (H, W, C), but input '{spec.name}' is {spec}. "
            "Use model.build: mlp for rows of features.",
            expected="(B, H, W) or (B, H, W, C)",
            received=str(spec),
        )
    inputs = keras.Input(spec.shape, name=spec.name, dtype=spec.dtype)
    x = inputs
    if len(spec.shape) == 2:
        x = keras.layers.Reshape((*spec.shape, 1), name="add_channel")(x)  # (B, H, W, 1)
    if resize:
        x = keras.layers.Resizing(*resize, name="resize")(x)
    return inputs, x


def add_scale(x: Any, scale: float, offset: float = 0.0) -> Any:
    """Returns floats `scale * x + offset` of the same shape; no layer is added where that changes nothing."""
    import tf_keras as keras

    if (scale, offset) == (1.0, 0.0) and x.dtype.is_floating:
        return x
    return keras.layers.Rescaling(scale, offset, name="scale")(x)


def join_numbers(inputs: Sequence[Any]) -> Any:
    """Returns tensors of numbers, flattened and side by side: `(B, F)`, floats where there are several."""
    import tf_keras as keras

    if len(inputs) == 1:
        return keras.layers.Flatten(name="flatten")(inputs[0])
    flat = [keras.layers.Flatten(name=f"flatten_{number}")(x) for number, x in enumerate(inputs, start=1)]
    # Rescaling by 1 makes floats of whole numbers: only those can stand beside floats.
    flat = [x if x.dtype.is_floating else keras.layers.Rescaling(1.0)(x) for x in flat]
    return keras.layers.Concatenate(name="join_numbers")(flat)
