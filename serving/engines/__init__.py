"""ENGINES: what runs a model in serving."""

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import numpy as np

from bmp.artifact.saved_model import SAVED_MODEL_FILE
from bmp.catalog import Catalog
from bmp.errors import ArtifactError
from bmp.signature import Arrays
from serving.engines.litert import LiteRTEngine
from serving.engines.savedmodel import SavedModelEngine, check_saved_model

__all__ = ["ENGINES", "Engine", "LiteRTEngine", "SavedModelEngine", "check_saved_model", "engine_for"]


class Engine(Protocol):
    """A model that any number of threads may run; made from a file and its signature."""

    @property
    def max_sizes(self) -> int | None:
        """How many batch sizes it can be set up for, since each takes memory and time; None where any will do."""
        ...

    def warm_up(self, inputs: Arrays) -> None:
        """Runs examples, so that the first request pays for no set-up."""
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Runs one batch: `(B, *shape)` by input name in, `(B, *shape)` by output name out."""
        ...

    def keep(self, sizes: Collection[int]) -> None:
        """Lets go of what is set up for other batch sizes than these."""
        ...


ENGINES: Catalog[Callable[..., Engine]] = Catalog("engine", {"litert": LiteRTEngine, "savedmodel": SavedModelEngine})


def engine_for(file: str) -> str:
    """Returns the name of the engine that runs a file of an artifact.

    Raises:
        ArtifactError: None does.
    """
    if file.endswith(".tflite"):
        return "litert"
    if file == SAVED_MODEL_FILE:
        return "savedmodel"
    raise ArtifactError(
        f"No engine runs '{file}'; the recommended variant has to be a .tflite file or {SAVED_MODEL_FILE}.",
        expected=f"*.tflite or {SAVED_MODEL_FILE}",
        received=file,
    )
