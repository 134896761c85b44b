"""What is loaded: taken from the registry, held as long as anybody uses it, and its memory given back."""

import weakref
from contextlib import ExitStack
from typing import NamedTuple

from bmp.registry import Registry, Version
from bmp.registry.keys import PublicKeys
from bmp.registry.signing import copy_signed
from serving.batching import Policy
from serving.engines import Engine, engine_for
from serving.models.memory import return_memory
from serving.models.model import LoadedModel, load_model


class _Dropped(NamedTuple):
    """The engine of what was dropped, which may still be in use; it goes after the model, and has the memory."""

    engine: "weakref.ReferenceType[Engine]"
    leaves_cycles: bool


class Stock:
    """Loads versions, and gives their memory back.

    Args:
        registry: Where they are.
        keys: A version must be signed by one of them; None where unsigned ones are served as well.
        trust: Names of models that the operator vouches for.
        batching: How requests are run together; by default as `load_model` has it.
    """

    def __init__(
        self, registry: Registry, keys: PublicKeys | None, trust: frozenset[str], batching: Policy | None
    ) -> None:
        self._registry = registry
        self._keys = keys
        self._trust = trust
        self._batching = batching
        self._dropped: list[_Dropped] = []

    def load(self, version: Version, variant: str) -> LoadedModel:
        """Loads a variant, and holds its version for as long as anybody uses it, so that it is not removed.

        Raises:
            BmpError: As `load_model` says, or it is not signed as it has to be.
        """
        with ExitStack() as held:
            held.enter_context(self._registry.lease(version))
            model = self._load_checked(version, variant)
            weakref.finalize(model, held.pop_all().close)
        return model

    def _load_checked(self, version: Version, variant: str) -> LoadedModel:
        trust = version.name in self._trust
        if self._keys is None:
            return load_model(version, variant, trust=trust, policy=self._batching)
        file = self._registry.signature_file(version.name, version.number)
        with copy_signed(version, file, self._keys) as copy:
            return load_model(copy, variant, trust=trust, policy=self._batching)

    def drop(self, model: LoadedModel) -> None:
        """Says that a model is handed out no more."""
        self._dropped.append(_Dropped(weakref.ref(model.engine), engine_for(model.variant.file or "") == "savedmodel"))

    def is_calm(self) -> bool:
        """Tells whether nothing that was dropped is still in use, and gives its memory back at any moment."""
        return not self._dropped

    def return_memory(self) -> None:
        """Gives back the memory of what was dropped, once no request uses it any more."""
        alive = [each for each in self._dropped if each.engine() is not None]
        if len(alive) < len(self._dropped):
            return_memory(cycles=any(each.leaves_cycles for each in self._dropped))
        self._dropped = alive
