"""What a rewrite makes, before it is proven."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tf_keras as keras

Allows = Callable[[Any], bool]
"""Whether a rewrite may change a layer."""


@dataclass(frozen=True)
class Draft:
    """A rewritten model.

    Args:
        model: A copy; the model it was made from is not touched.
        layers: Names of the layers that each changed layer has become; none where it went into a neighbour.
    """

    model: "keras.Model"
    layers: dict[str, tuple[str, ...]]
