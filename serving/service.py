"""The one room behind all doors: models loaded, requests answered; no web."""

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack

from bmp.errors import BmpError, NotFoundError, NotReadyError, RequestError, suggest
from bmp.registry import Registry, Version
from bmp.registry.keys import PublicKeys
from bmp.registry.signing import copy_signed
from serving.model import LoadedModel, load_model

_log = logging.getLogger(__name__)


class Service:
    """Every model of a registry, or the named ones, at the version its `production` alias or newest number says.

    Args:
        registry: Where they are.
        names: Which ones; empty means all.
        keys: A version must be signed by one of them; None where unsigned ones are served as well.
    """

    def __init__(self, registry: Registry, names: Iterable[str] = (), keys: PublicKeys | None = None) -> None:
        self._registry = registry
        self._names = tuple(names)
        self._keys = keys
        self._leases: list[ExitStack] = []  # held as long as the process lives: what is served is not removed
        self._loaded: dict[str, LoadedModel] = {}
        self._failed: dict[str, str] = {}
        self._finished = threading.Event()

    def start(self) -> None:
        """Loads in the background: until that is done, `check_ready` and `get` say so."""
        threading.Thread(target=self.load, name="bmp-load", daemon=True).start()

    def load(self) -> None:
        """Loads every model; one that fails is reported and harms no other."""
        try:
            for name in self._names or self._registry.models():
                self._load_one(name)
        except Exception:  # also what nobody thought of must end as "not ready", not as a dead thread
            self._failed["(registry)"] = "internal_error"
            _log.exception("the registry %s cannot be read", self._registry.root)
        finally:
            self._finished.set()

    def _load_one(self, name: str) -> None:
        start = time.perf_counter()
        try:
            model = self._load_version(self._registry.resolve(name))
        except BmpError as error:
            self._failed[name] = error.code  # the message may hold paths, which are not for clients
            _log.error("model %s cannot be served: %s", name, error)
        except Exception:
            self._failed[name] = "internal_error"
            _log.exception("model %s cannot be served", name)
        else:
            self._loaded = {**self._loaded, name: model}  # replaced, not changed: requests may be reading it
            seconds = time.perf_counter() - start
            _log.info("serving %s/%d, variant %s (%.2f s)", name, model.version, model.manifest.recommended, seconds)

    def _load_version(self, version: Version) -> LoadedModel:
        with ExitStack() as held:
            held.enter_context(self._registry.lease(version))
            model = self._load_checked(version)
            self._leases.append(held.pop_all())
        return model

    def _load_checked(self, version: Version) -> LoadedModel:
        if self._keys is None:
            return load_model(version)
        file = self._registry.signature_file(version.name, version.number)
        with copy_signed(version, file, self._keys) as copy:
            return load_model(copy)

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
        if not self._loaded:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self._failed.items())
            raise NotReadyError(f"No model is being served. {reasons or 'The registry is empty'}.")

    def models(self) -> list[LoadedModel]:
        """Returns the models being served, by name."""
        return [self._loaded[name] for name in sorted(self._loaded)]

    def failures(self) -> dict[str, str]:
        """Returns the models that could not be loaded, each with the code of the error; the log says more."""
        return dict(self._failed)

    def sole_model(self) -> LoadedModel | None:
        """Returns the model that requests without a name mean, or None where that is not decided."""
        if len(self._loaded) != 1 or not self._finished.is_set():
            return None
        return next(iter(self._loaded.values()))

    def get(self, name: str | None = None, version: int | None = None) -> LoadedModel:
        """Returns the model a request asks for.

        Args:
            name: Of the model; None where only one is served.
            version: Its number; None for whichever is being served.

        Raises:
            NotReadyError: It is still loading.
            NotFoundError: It is not served, or not at this version.
            RequestError: No name was given and several models are served.
        """
        finished = self._finished.is_set()  # asked before the look-up: what is missing after it is missing
        if name is None:
            model = self._only_model(finished)
        elif name in self._loaded:
            model = self._loaded[name]
        else:
            raise self._explain_missing(name, finished)
        if version is not None and version != model.version:
            raise NotFoundError(
                f"Model '{model.name}' is served at version {model.version}, not {version}.",
                expected=str(model.version),
                received=str(version),
            )
        return model

    def _only_model(self, finished: bool) -> LoadedModel:
        if not finished or not self._loaded:
            self.check_ready()
        if len(self._loaded) > 1:
            known = ", ".join(sorted(self._loaded))
            raise RequestError(
                f'Several models are served ({known}); say which one with "model".',
                expected=f'"model": one of {known}',
                received="no model",
            )
        return next(iter(self._loaded.values()))

    def _explain_missing(self, name: str, finished: bool) -> BmpError:
        if not finished:
            return NotReadyError("The models are still loading; try again in a second.")
        known = ", ".join(sorted(self._loaded)) or "none"
        if name in self._failed:
            return NotReadyError(f"Model '{name}' could not be loaded. Served: {known}.")
        return NotFoundError(
            f"No model is named '{name[:80]}'. Served: {known}.{suggest(name[:80], self._loaded)}",
            expected=known,
            received=name[:80],
        )
