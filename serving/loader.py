"""From the registry to models that answer: loads versions, follows what is published, and lets go of what is over."""

import ctypes
import logging
import threading
import time
import weakref
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from bmp.errors import BmpError, NotFoundError
from bmp.registry import Registry, Version
from bmp.registry.directory import ModelDirectory
from bmp.registry.keys import PublicKeys
from bmp.registry.signing import copy_signed
from bmp.registry.watch import Stamp, look
from serving.model import LoadedModel, load_model
from serving.versions import Lineup, Loaded, Published

_POLL_S = 0.25
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0
_REGISTRY = "(registry)"
_log = logging.getLogger(__name__)


class _Retry(NamedTuple):
    """When something that failed is tried again, by `time.monotonic()`, and how long that is after the last time."""

    at: float
    delay_s: float


class Loader:
    """Keeps what is loaded as the registry says. One thread works; any number reads what it puts up.

    Args:
        registry: Where the models are.
        names: Which ones; empty means all.
        keys: A version must be signed by one of them; None where unsigned ones are served as well.
        policy: Which versions of a model: `served`, `latest:N` or `all`.
    """

    def __init__(self, registry: Registry, names: Iterable[str], keys: PublicKeys | None, policy: str) -> None:
        self.lineups: dict[str, Lineup] = {}
        """By model. Replaced as a whole and never changed, as are the two below: requests may be reading them."""
        self.defaults: dict[str, LoadedModel] = {}
        """By model, sorted: the version for requests that name none."""
        self.failed: dict[str, str] = {}
        """By model: code of the error that keeps the registry from saying what the model is."""
        self._registry = registry
        self._names = tuple(names)
        self._keys = keys
        self._policy = policy
        self._stamps: dict[str, Stamp] = {}  # of each journal, when it was looked at last
        self._retries: dict[str, _Retry] = {}
        self._told: dict[str, str] = {}  # errors that the log has, by what they are about
        self._dropped: list[weakref.ReferenceType[LoadedModel]] = []  # whose memory may still be in use

    def load(self) -> None:
        """Loads every model; one that fails is reported and harms no other."""
        try:
            self._stamps = dict(look(self._registry.root))  # first: what changes from here on is seen by catch_up
            for name in self._names or self._registry.models():
                self.refresh(name)
        except Exception as error:  # also what nobody thought of must end as "not ready", not as a dead thread
            self._fail(_REGISTRY, error)

    def follow(self, stop: threading.Event) -> None:
        """Goes where the registry goes, until it is told to stop."""
        while not stop.wait(_POLL_S):
            try:
                self.catch_up()
            except Exception as error:
                self._fail(_REGISTRY, error)

    def catch_up(self) -> None:
        """Takes over what has happened in the registry, and tries again what failed and is due."""
        for name in self._find_work():
            self.refresh(name)
        self._return_memory()

    def refresh(self, name: str) -> None:
        """Takes a model to what the registry says, one version after the other; each is tried once.

        What was published or moved while a version was loading counts from then on.
        """
        tried: set[int] = set()
        while (number := self._look(name, tried)) is not None:
            tried.add(number)
            self._load(name, number)
        self._plan_retry(name)

    # === What there is to do ===

    def _find_work(self) -> list[str]:
        """Returns the models whose journal has changed, come or gone, and those whose time has come to be tried again.

        Not the events of a watcher: what counts is what the journal says by now, also where it was put back.
        """
        stamps = dict(look(self._registry.root))
        changed = {name for name, _ in stamps.items() ^ self._stamps.items()}
        self._stamps = stamps
        if changed:
            self._clear(_REGISTRY)  # it can be read
        if self._names:
            changed &= set(self._names)
        now = time.monotonic()
        due = {name for name, retry in self._retries.items() if retry.at <= now}
        for name in changed:
            self._retries.pop(name, None)
        return sorted(changed | due)

    def _plan_retry(self, name: str) -> None:
        lineup = self.lineups.get(name)
        if name not in self.failed and not (lineup and lineup.failed):
            self._retries.pop(name, None)
            return
        last = self._retries.get(name)
        delay_s = _FIRST_RETRY_S if last is None else min(2 * last.delay_s, _LAST_RETRY_S)
        self._retries[name] = _Retry(time.monotonic() + delay_s, delay_s)

    def _look(self, name: str, tried: set[int]) -> int | None:
        """Takes over what the registry says of a model, and returns the version to load next, if any.

        Where it says nothing, because the model is gone or its journal is damaged, what is loaded stays.
        """
        try:
            published = self._read(name)
        except Exception as error:
            if isinstance(error, NotFoundError) and not self._is_served(name) and name not in self._names:
                self._forget(name)  # nobody asked for it by its name
            else:
                self._fail(name, error)
            return None
        self._clear(name)
        lineup = self.lineups.get(name, Lineup(name)).see(published, self._policy)
        self._put(lineup)
        return next((number for number in lineup.missing() if number not in tried), None)

    def _read(self, name: str) -> Published:
        """Returns what the registry says of a model.

        Raises:
            NotFoundError: It has no version.
            RegistryError: Its journal has been altered.
        """
        state, numbers = ModelDirectory(self._registry.root, name).read_versions()
        if not numbers:
            self._registry.resolve(name)  # says that there is none, and what there is
            return self._read(name)
        return Published({number: state.published[number].manifest_sha256 for number in numbers}, state.aliases)

    # === Loading ===

    def _load(self, name: str, number: int) -> None:
        """Loads a version; until default and aliases move to it, only requests for its number get it."""
        start, subject = time.perf_counter(), f"{name}/{number}"
        self._put(self.lineups[name].begin(number))
        try:
            loaded = self._load_version(self._registry.get(name, number))
        except Exception as error:
            self._put(self.lineups[name].fail(number, self._tell(subject, error)))
            return
        self._put(self.lineups[name].add(number, loaded))
        self._told.pop(subject, None)
        variant, seconds = loaded.model.manifest.recommended, time.perf_counter() - start
        _log.info("serving %s, variant %s (%.2f s)", subject, variant, seconds)

    def _load_version(self, version: Version) -> Loaded:
        """Loads a version and holds it, so that it is not removed, for as long as anybody uses what was loaded."""
        with ExitStack() as held:
            held.enter_context(self._registry.lease(version))
            model = self._load_checked(version)
            weakref.finalize(model, held.pop_all().close)
        return Loaded(model, version.manifest_sha256)

    def _load_checked(self, version: Version) -> LoadedModel:
        if self._keys is None:
            return load_model(version)
        file = self._registry.signature_file(version.name, version.number)
        with copy_signed(version, file, self._keys) as copy:
            return load_model(copy)

    def _return_memory(self) -> None:
        """Gives back the memory of what was dropped, once no request uses it any more."""
        alive = [model for model in self._dropped if model() is not None]
        if len(alive) < len(self._dropped):
            _trim_heap()
        self._dropped = alive

    # === Telling ===

    def _put(self, lineup: Lineup) -> None:
        """Puts up what a model is now: requests that come from here on see it."""
        before = self.lineups.get(lineup.name, Lineup(lineup.name))
        self.lineups = {**self.lineups, lineup.name: lineup}
        models = {name: self.lineups[name].model for name in sorted(self.lineups)}
        self.defaults = {name: model for name, model in models.items() if model is not None}
        if before.default not in (None, lineup.default):
            _log.info("%s is version %s now, after %s", lineup.name, lineup.default, before.default)
        for number, loaded in before.loaded.items():
            if lineup.loaded.get(number) is not loaded:
                self._dropped.append(weakref.ref(loaded.model))
                _log.info("%s/%d is dropped", lineup.name, number)

    def _fail(self, name: str, error: Exception) -> None:
        code = self._tell(name, error, "stays as it is" if self._is_served(name) else "cannot be served")
        self.failed = {**self.failed, name: code}

    def _forget(self, name: str) -> None:
        self.lineups = {each: lineup for each, lineup in self.lineups.items() if each != name}
        self._clear(name)

    def _clear(self, name: str) -> None:
        if name in self.failed:
            self.failed = {each: code for each, code in self.failed.items() if each != name}
            self._told.pop(name, None)

    def _tell(self, subject: str, error: Exception, outcome: str = "cannot be served") -> str:
        """Writes an error to the log, once as long as it stays the same, and returns its code.

        The message may hold paths, which are not for clients.
        """
        if self._told.get(subject) != str(error):
            self._told[subject] = str(error)
            trace = None if isinstance(error, BmpError) else error
            _log.error("%s %s: %s", subject, outcome, error, exc_info=trace)
        return error.code if isinstance(error, BmpError) else "internal_error"

    def _is_served(self, name: str) -> bool:
        return name in self.lineups and bool(self.lineups[name].loaded)


def _trim_heap() -> None:
    """Gives back to the system what was freed; glibc would keep much of it, in pieces too small for the next model."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none, and keep less
    if trim is not None:
        trim(0)
