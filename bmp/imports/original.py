"""What an importer finds in a file: what goes in and comes out, an engine that runs it, and the ways to write it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmp.signature import Arrays, Signature

Write = Callable[[Signature, Path], None]
"""`(signature, path)`; raises ExportError where the format cannot hold the model."""


@dataclass(frozen=True)
class Options:
    """What a file does not say of itself.

    Args:
        trust: Whether its owner vouches for what it does when it is loaded.
        network: Of the shelf, whose weights a file of bare weights holds.
        args: Arguments of that network, as a recipe's.
        shape: Of one example that it takes; None for the network's own.
        objective: What its outputs mean; None for what the file says, or a guess.
    """

    trust: bool = False
    network: str | None = None
    args: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    objective: str | None = None


@dataclass(frozen=True)
class Original:
    """A model as its file has it.

    Args:
        engine: What runs it, such as `keras 3.15.1`.
        signature: The objective is a guess where the file says none.
        run: Inputs `(B, *shape)` by name to outputs by name, by that engine.
        writers: How it is written, by entry of bmp.artifact.FORMATS.
        left_out: Why it cannot be written, by format.
        objective: Where the file says it.
        labels: Of the classes, where the file names them.
    """

    engine: str
    signature: Signature
    run: Callable[[Arrays], Arrays]
    writers: Mapping[str, Write]
    left_out: Mapping[str, str] = field(default_factory=dict)
    objective: str | None = None
    labels: tuple[str, ...] = ()


class Function:
    """A function with weights: what stands in for a Keras model where SavedModel and LiteRT are written.

    Args:
        name: For messages.
        call: Tensors by input name to tensors by output name.
        weights: Variables of TensorFlow that it reads.
        inputs: Names, in order.
    """

    _is_graph_network = False

    def __init__(
        self, name: str, call: Callable[[dict[str, Any]], dict[str, Any]], weights: list[Any], inputs: list[str]
    ) -> None:
        self.name = name
        self.weights = weights
        self._call = call
        self._inputs = inputs

    def __call__(self, inputs: Any, training: bool = False) -> dict[str, Any]:
        """Returns the outputs by name; a single input comes without its name, as Keras models take it."""
        return self._call(dict(inputs) if isinstance(inputs, Mapping) else {self._inputs[0]: inputs})
