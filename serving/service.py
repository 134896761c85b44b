"""The one room behind all doors: which models there are, and which version a request means; no web."""

import threading
import time
from collections.abc import Callable, Iterable

from bmp.errors import BmpError, NotFoundError, NotReadyError, RequestError, suggest
from bmp.registry import Registry
from bmp.registry.keys import PublicKeys
from serving.batching import Policy
from serving.models.control import Control, ControlError
from serving.models.description import Description
from serving.models.loader import Loader
from serving.models.memory import Key
from serving.models.model import LoadedModel
from serving.models.quality import check_quality
from serving.models.terms import Terms
from serving.models.versions import Lineup, UnloadedError, VersionState

__all__ = ["Service", "VersionState"]

_ORDER_S, _LOOK_S = 20.0, 0.02


class Service:
    """Every model of a registry, or the named ones, and what is published while the service runs.

    A request that says no version gets the default: the one that `production` names, else the newest. Aliases and the
    default move once what they move to has answered its own samples; a request ends with the version that it began
    with.

    Args:
        registry: Where they are.
        names: Which ones; empty means all.
        keys: A version must be signed by one of them; None where unsigned ones are served as well.
        terms: Which of their versions and variants, and how much of them is in memory.
        reload: Whether to follow the registry once everything is loaded.
        batching: How requests are run together; by default as measured, in one thread at a time.
    """

    def __init__(
        self,
        registry: Registry,
        names: Iterable[str] = (),
        keys: PublicKeys | None = None,
        *,
        terms: Terms = Terms(),  # noqa: B008 - immutable
        reload: bool = True,
        batching: Policy | None = None,
    ) -> None:
        self._loader = Loader(registry, names, keys, terms, batching)
        self._control = terms.control
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
        self._loader.follow(self._stop, reload=self._reload)

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
        if not self._loader.names and self._control is None:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.failures().items())
            raise NotReadyError(f"No model is being served. {reasons or 'The registry is empty; publish a model'}.")

    def models(self) -> list[LoadedModel]:
        """Returns the models in memory, by name, each at its default version."""
        return list(self._loader.defaults.values())

    def names(self) -> list[str]:
        """Returns the names of all models that there are, also of those that are not in memory or could not be loaded.

        `versions` tells how each is doing.
        """
        return sorted(self._loader.lineups)

    def lineups(self) -> list[Lineup]:
        """Returns every model as it is at this moment, by name; see `names`."""
        lineups = self._loader.lineups
        return [lineups[name] for name in sorted(lineups)]

    def describe(self, name: str) -> Description:
        """Returns what is known of a model at its default version; nothing is loaded for it.

        Raises:
            NotReadyError: The model is still loading, or could not be loaded.
            NotFoundError: There is no such model, or no client wants it loaded.
        """
        finished, lineup = self._finished.is_set(), self._loader.lineups.get(name)
        if lineup is None:
            raise self._explain_missing(name, finished)
        return lineup.describe()

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

    def sole_name(self) -> str | None:
        """Returns the name of the model that requests without one mean, or None where that is not decided."""
        names = self._loader.names
        return names[0] if len(names) == 1 and self._finished.is_set() else None

    def sole_model(self) -> LoadedModel | None:
        """Returns the model that requests without a name mean, or None where that is not decided or not in memory."""
        name = self.sole_name()
        model = None if name is None else self._loader.defaults.get(name)
        return None if model is None else self._use(model)

    def get(
        self,
        name: str | None = None,
        version: int | None = None,
        alias: str | None = None,
        quality: str | None = None,
        *,
        wake: bool = True,
    ) -> LoadedModel:
        """Returns the version of a model that a request asks for.

        Args:
            name: Of the model; None where only one is served.
            version: Its number; None for whichever is the default.
            alias: What names the version, in place of a number.
            quality: Which of its variants: `best`, `balanced` or `fast`; None for the recommended one.
            wake: Whether it is loaded where it is not in memory: the error says so, and a second later it answers.

        Raises:
            NotReadyError: It is still loading, or not in memory, or could not be loaded.
            NotFoundError: There is no such model, version or alias, or it is not served.
            RequestError: No name was given and several models are served, or both a version and an alias were, or there
                is no such quality.
        """
        if quality is not None:
            check_quality(quality)
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
        if lineup.rests and self._control is not None and name in self._control.names():
            raise NotReadyError(f"Model '{name}' is still loading; try again in a second.")
        try:
            return self._use(lineup.get(version, alias, quality))
        except UnloadedError as error:
            if wake:
                self._loader.ask(error.key)
            raise

    def _use(self, model: LoadedModel) -> LoadedModel:
        if self._loader.budget is not None:
            self._loader.budget.touch(Key(model.name, model.version, model.variant.name))
        return model

    def _only_name(self, finished: bool) -> str:
        names = self._loader.names
        if not finished or not names:
            self.check_ready()
        if not names:
            raise NotFoundError("No model is loaded; POST /v2/repository/models/NAME/load has one loaded.")
        if len(names) > 1:
            known = ", ".join(names)
            raise RequestError(
                f'Several models are served ({known}); say which one with "model".',
                expected=f'"model": one of {known}',
                received="no model",
            )
        return names[0]

    def _explain_missing(self, name: str, finished: bool) -> BmpError:
        if not finished:
            return NotReadyError("The models are still loading; try again in a second.")
        names = self._loader.names
        known = ", ".join(names) or "none"
        if name in self._loader.failed:
            return NotReadyError(f"Model '{name}' could not be loaded. Served: {known}.")
        return NotFoundError(
            f"No model is named '{name[:80]}'. Served: {known}.{suggest(name[:80], names)}",
            expected=known,
            received=name[:80],
        )

    # === What clients have loaded and unloaded ===

    def order_load(self, name: str) -> None:
        """Has a model of the registry loaded, in every process, and returns once it answers in this one.

        Raises:
            ControlError: Only the registry decides what is loaded.
            NotFoundError: The registry has no such model.
            NotReadyError: It could not be loaded, or takes long.
        """
        control = self._check_control(name)
        self._loader.check_published(name)
        control.add(name)
        self._await(lambda: self._is_settled(name), f"Model '{name}' is still loading; ask for it a little later.")
        self.get(name)

    def order_unload(self, name: str) -> None:
        """Has a model unloaded, in every process, and returns once no new request gets it in this one.

        A request that began with it is answered; only then its memory goes.

        Raises:
            ControlError: Only the registry decides what is loaded.
            NotFoundError: There is no such model.
            NotReadyError: It takes long, because another model is being loaded.
        """
        control = self._check_control(name)
        if name not in self._loader.lineups:
            self._loader.check_published(name)
        control.remove(name)
        self._await(lambda: self._is_resting(name), f"Model '{name}' is still being unloaded; look a little later.")

    def _check_control(self, name: str) -> Control:
        if self._control is None:
            raise ControlError(
                "This server loads and unloads by itself, as the registry says: publish a version or move an alias "
                f"(bmp models promote {name[:80]} NUMBER), or start it with BMP_MODEL_CONTROL=explicit.",
                expected="a change of the registry",
                received="load or unload",
            )
        return self._control

    def _await(self, is_done: Callable[[], bool], message: str) -> None:
        deadline = time.monotonic() + _ORDER_S
        while not is_done():
            if time.monotonic() > deadline:
                raise NotReadyError(message)
            time.sleep(_LOOK_S)

    def _is_settled(self, name: str) -> bool:
        """Tells whether a model that is to be loaded is, or could not be."""
        lineup = self._loader.lineups.get(name)
        if lineup is None or lineup.rests:
            return name in self._loader.failed
        return lineup.model is not None or lineup.failure is not None

    def _is_resting(self, name: str) -> bool:
        lineup = self._loader.lineups.get(name)
        return lineup is None or lineup.rests
