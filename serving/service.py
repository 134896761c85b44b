"""The one room behind all doors: which models there are, and which version a request means; no web."""

import threading
from collections.abc import Iterable

from bmp.errors import BmpError, NotFoundError, NotReadyError, RequestError, suggest
from bmp.registry import Registry
from bmp.registry.keys import PublicKeys
from serving.loader import Loader
from serving.model import LoadedModel
from serving.versions import VersionState

__all__ = ["Service", "VersionState"]


class Service:
    """Every model of a registry, or the named ones, and what is published while the service runs.

    A request that says no version gets the default: the one that `production` names, else the newest. Aliases and the
    default move once what they move to has answered its own samples; a request ends with the version that it began
    with.

    Args:
        registry: Where they are.
        names: Which ones; empty means all.
        keys: A version must be signed by one of them; None where unsigned ones are served as well.
        versions: Which versions of a model: `served` the default and those that aliases name; `latest:N` the newest N
            as well; `all`.
        reload: Whether to follow the registry once everything is loaded.
    """

    def __init__(
        self,
        registry: Registry,
        names: Iterable[str] = (),
        keys: PublicKeys | None = None,
        *,
        versions: str = "served",
        reload: bool = True,
    ) -> None:
        self._loader = Loader(registry, names, keys, versions)
        self._reload = reload
        self._finished = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Loads in the background: until that is done, `check_ready` and `get` say so."""
        self._thread = threading.Thread(target=self._run, name="bmp-load", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follows the registry no longer; what is loaded goes on answering."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def load(self) -> None:
        """Loads every model; one that fails is reported and harms no other."""
        try:
            self._loader.load()
        finally:
            self._finished.set()

    def _run(self) -> None:
        self.load()
        if self._reload:
            self._loader.follow(self._stop)

    # === What there is ===

    def is_started(self) -> bool:
        """Tells whether loading has come to its end, well or not."""
        return self._finished.is_set()

    def check_ready(self) -> None:
        """Returns when requests can be answered.

        Raises:
            NotReadyError: Models are still loading, or none could be loaded.
        """
        if not self._finished.is_set():
            raise NotReadyError("The models are still loading; try again in a second.")
        if not self._loader.defaults:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.failures().items())
            raise NotReadyError(f"No model is being served. {reasons or 'The registry is empty'}.")

    def models(self) -> list[LoadedModel]:
        """Returns the models being served, by name, each at its default version."""
        return list(self._loader.defaults.values())

    def versions(self, name: str) -> list[VersionState]:
        """Returns how each version of a model is doing that is served or shall be, by number.

        Raises:
            NotReadyError: The model is still loading, or could not be loaded.
            NotFoundError: There is no such model.
        """
        finished, lineup = self._finished.is_set(), self._loader.lineups.get(name)
        if lineup is None:
            raise self._explain_missing(name, finished)
        return lineup.states()

    def failures(self) -> dict[str, str]:
        """Returns the models that are not as the registry says, each with the code of the error that keeps them.

        `versions` tells which of its versions could not be loaded, and the log says more. What was loaded before is
        served on.
        """
        lineups = self._loader.lineups.values()
        return {each.name: each.failure for each in lineups if each.failure is not None} | self._loader.failed

    # === What a request means ===

    def sole_model(self) -> LoadedModel | None:
        """Returns the model that requests without a name mean, or None where that is not decided."""
        defaults = self._loader.defaults
        if len(defaults) != 1 or not self._finished.is_set():
            return None
        return next(iter(defaults.values()))

    def get(self, name: str | None = None, version: int | None = None, alias: str | None = None) -> LoadedModel:
        """Returns the version of a model that a request asks for.

        Args:
            name: Of the model; None where only one is served.
            version: Its number; None for whichever is the default.
            alias: What names the version, in place of a number.

        Raises:
            NotReadyError: It is still loading, or could not be loaded.
            NotFoundError: There is no such model, version or alias, or it is not served.
            RequestError: No name was given and several models are served, or both a version and an alias were.
        """
        if version is not None and alias is not None:
            raise RequestError(
                "The request says both a version and an alias; say one of them.",
                expected="a version or an alias",
                received=f"version {version} and alias '{alias[:80]}'",
            )
        finished = self._finished.is_set()  # asked before the look-up: what is missing after it is missing
        if name is None:
            name = self._only_name(finished)
        lineup = self._loader.lineups.get(name)
        if lineup is None:
            raise self._explain_missing(name, finished)
        return lineup.get(version, alias)

    def _only_name(self, finished: bool) -> str:
        defaults = self._loader.defaults
        if not finished or not defaults:
            self.check_ready()
        if len(defaults) > 1:
            known = ", ".join(defaults)
            raise RequestError(
                f'Several models are served ({known}); say which one with "model".',
                expected=f'"model": one of {known}',
                received="no model",
            )
        return next(iter(defaults))

    def _explain_missing(self, name: str, finished: bool) -> BmpError:
        if not finished:
            return NotReadyError("The models are still loading; try again in a second.")
        defaults = self._loader.defaults
        known = ", ".join(defaults) or "none"
        if name in self._loader.failed:
            return NotReadyError(f"Model '{name}' could not be loaded. Served: {known}.")
        return NotFoundError(
            f"No model is named '{name[:80]}'. Served: {known}.{suggest(name[:80], defaults)}",
            expected=known,
            received=name[:80],
        )
