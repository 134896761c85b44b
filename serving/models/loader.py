"""From the registry to models that answer: loads versions, follows what is published, and lets go of what is over."""

import logging
import threading
import time
from collections.abc import Collection, Iterable

from bmp.artifact.manifest import Manifest
from bmp.errors import BmpError, NotFoundError
from bmp.registry import Registry, Version
from bmp.registry.directory import ModelDirectory
from bmp.registry.keys import PublicKeys
from bmp.registry.watch import Stamp, look
from serving.batching import Policy
from serving.metrics import meters
from serving.models.description import read_description
from serving.models.memory import Budget, Key, Scales
from serving.models.model import LoadedModel
from serving.models.retries import Retries
from serving.models.stock import Stock
from serving.models.terms import Terms
from serving.models.versions import Lineup, Published, Served

_POLL_S = 0.25
_REGISTRY = "(registry)"
_log = logging.getLogger(__name__)


class Loader:
    """Keeps what is loaded as the registry says. One thread works; any number reads what it puts up.

    Args:
        registry: Where the models are.
        names: Which ones; empty means all.
        keys: A version must be signed by one of them; None where unsigned ones are served as well.
        terms: Which of their versions, and how much of them is in memory.
        batching: How requests are run together; by default as `load_model` has it.
    """

    def __init__(
        self,
        registry: Registry,
        names: Iterable[str],
        keys: PublicKeys | None,
        terms: Terms,
        batching: Policy | None = None,
    ) -> None:
        self.lineups: dict[str, Lineup] = {}
        """By model. Replaced as a whole and never changed, as are the three below: requests may be reading them."""
        self.names: tuple[str, ...] = ()
        """The models that answer requests, sorted; some may have to be loaded for it."""
        self.defaults: dict[str, LoadedModel] = {}
        """By model, sorted: the version for requests that name none, where it is in memory."""
        self.failed: dict[str, str] = {}
        """By model: code of the error that keeps the registry from saying what the model is."""
        self._registry = registry
        self.budget = None if terms.memory_bytes is None else Budget(terms.memory_bytes)
        self._names = () if terms.control is not None else tuple(names)
        self._terms = terms
        self._stock = Stock(registry, keys, terms.trust, batching)
        self._stamps: dict[str, Stamp] = {}  # of each journal, when it was looked at last
        self._retries = Retries[str]()  # of models
        self._asked: set[Key] = set()  # what requests wait for; they add to it at any time
        self._pauses = Retries[Key]()  # of what was asked for and could not be loaded
        self._wanted_names: frozenset[str] | None = None  # by clients; None where that is not theirs to say
        self._told: dict[str, str] = {}  # errors that the log has, by what they are about

    def load(self) -> None:
        """Loads every model that there is memory for; one that fails is reported and harms no other."""
        try:
            self._stamps = dict(look(self._registry.root))  # first: what changes from here on is seen by catch_up
            self._read_control()
            for name in self._names or sorted({*self._registry.models(), *(self._wanted_names or ())}):
                self.refresh(name, starting=True)
            self._load_asked()
        except Exception as error:  # also what nobody thought of must end as "not ready", not as a dead thread
            self._fail(_REGISTRY, error)

    def follow(self, stop: threading.Event, *, reload: bool = True) -> None:
        """Goes where requests and, unless it is not to reload, the registry go, until it is told to stop."""
        while not stop.wait(_POLL_S):
            try:
                self.catch_up(reload=reload)
            except Exception as error:
                self._fail(_REGISTRY, error)

    def catch_up(self, *, reload: bool = True) -> None:
        """Takes over what has happened in the registry, tries again what failed and is due, and loads what is asked."""
        for name in sorted(self._read_control() | (self._find_work() if reload else set())):
            self.refresh(name)
        self._load_asked()
        self._stock.return_memory()

    def check_published(self, name: str) -> None:
        """Returns where the registry has a model.

        Raises:
            NotFoundError: It has none of this name.
        """
        self._registry.resolve(name)

    def ask(self, key: Key) -> None:
        """Says that a request waits for something that is not in memory; any thread may."""
        self._asked.add(key)

    def refresh(self, name: str, *, starting: bool = False) -> None:
        """Takes a model to what the registry says, one version after the other; each is tried once.

        What was published or moved while a version was loading counts from then on.

        Args:
            name: Of the model.
            starting: Whether what there is no memory for waits until it is asked for. Later on a new version is loaded
                all the same, and what was used least recently goes: it takes the old one's place once it has answered.
        """
        tried: set[int] = set()
        while (number := self._look(name, tried)) is not None:
            tried.add(number)
            self._load(name, number, starting=starting)
        self._plan_retry(name)

    # === What there is to do ===

    def _find_work(self) -> set[str]:
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
        due = self._retries.due()
        for name in changed:
            self._retries.forget(name)
        return changed | due

    def _read_control(self) -> set[str]:
        """Returns the models that clients have had loaded or unloaded since it was read last."""
        if self._terms.control is None:
            return set()
        before, self._wanted_names = self._wanted_names, self._terms.control.names()
        return set() if before is None else set(before ^ self._wanted_names)

    def _rests(self, name: str) -> bool:
        return self._wanted_names is not None and name not in self._wanted_names

    def _plan_retry(self, name: str) -> None:
        lineup = self.lineups.get(name)
        if name not in self.failed and not (lineup and lineup.failed):
            self._retries.forget(name)
        else:
            self._retries.put_off(name)

    def _look(self, name: str, tried: set[int]) -> int | None:
        """Takes over what the registry says of a model, and returns the version to load next, if any.

        Where it says nothing, because the model is gone or its journal is damaged, what is loaded stays.
        """
        try:
            published = self._read(name)
        except Exception as error:
            if isinstance(error, NotFoundError) and not self._is_served(name) and not self._is_named(name):
                self._forget(name)  # nobody asked for it by its name
            else:
                self._fail(name, error)
            return None
        self._clear(name)
        lineup = self.lineups.get(name, Lineup(name))
        change = lineup.rest if self._rests(name) else lineup.see
        self._put(lineup := change(published, self._terms.versions))
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

    def _load(self, name: str, number: int, *, starting: bool) -> None:
        """Loads a version; until default and aliases move to it, only requests for its number get it."""
        start, subject = time.perf_counter(), f"{name}/{number}"
        self._put(self.lineups[name].begin(number))
        try:
            version = self._registry.get(name, number)
            manifest = version.read_manifest()
            key = Key(name, number, manifest.recommended)
            if starting and self._is_full_for(key, manifest):
                served = Served(read_description(name, number, manifest), version.manifest_sha256)
                self._put(self.lineups[name].offer(number, served))
                _log.info("%s is loaded once it is asked for: those before it take BMP_MEMORY_MB", subject)
                return
            spared = [each for each in self._held() if each.name == name]  # the old one goes once this one answers
            model = self._load_variant(version, key, manifest, spared)
        except Exception as error:
            code = self._tell_failed(name, subject, error, start)
            self._put(self.lineups[name].fail(number, code))
            return
        self._put(self.lineups[name].add(number, model, version.manifest_sha256))
        self._tell_loaded(key, subject, start)
        if self._terms.variants == "all":
            others = self.lineups[name].served[number].variants.values()
            self._asked.update(Key(name, number, variant) for variant in others)

    def _load_asked(self) -> None:
        """Loads what requests wait for, as far as what others have just asked for leaves room."""
        self._asked.difference_update(self._held())  # requests asked on while it was loading
        for key in sorted(self._asked.copy()):
            if self._pauses.is_put_off(key):
                self._asked.discard(key)  # whoever still wants it then asks again
            elif self._may_come(key):
                self._asked.discard(key)
                self._load_again(key)

    def _load_again(self, key: Key) -> None:
        lineup, start = self.lineups.get(key.name), time.perf_counter()
        served = None if lineup is None else lineup.served.get(key.number)
        if lineup is None or served is None or key.variant in served.models:
            return  # it was dropped meanwhile, or is there
        self._put(lineup.begin(key.number))
        try:
            version = self._registry.get(key.name, key.number)
            model = self._load_variant(version, key, served.manifest, (), asked=True)
        except Exception as error:
            self._pauses.put_off(key)
            code = self._tell_failed(key.name, str(key), error, start)
            self._put(self.lineups[key.name].miss(key, code))
            return
        self._pauses.forget(key)
        self._put(self.lineups[key.name].add(key.number, model, version.manifest_sha256))
        self._tell_loaded(key, str(key), start)

    def _load_variant(
        self, version: Version, key: Key, manifest: Manifest, spared: Collection[Key], *, asked: bool = False
    ) -> LoadedModel:
        """Loads a variant, after making room for it, and weighs it.

        Args:
            version: In the registry.
            key: What to load of it.
            manifest: Of it.
            spared: What is not to go for it.
            asked: Whether a request waits for it.
        """
        if self.budget is None:
            return self._stock.load(version, key.variant)
        self._make_room(self._size_of(key, manifest), spared)
        with Scales(manifest, key.variant, is_calm=self._stock.is_calm()) as scales:
            model = self._stock.load(version, key.variant)
        self.budget.enter(key, scales.bytes, asked=asked)
        self._make_room(self._size_of(key, manifest), spared)
        return model

    # === Memory ===

    def _held(self) -> dict[Key, LoadedModel]:
        return {key: model for lineup in self.lineups.values() for key, model in lineup.models.items()}

    def _size_of(self, key: Key, manifest: Manifest) -> int:
        return 0 if self.budget is None else self.budget.size_of(key, manifest)

    def _is_full_for(self, key: Key, manifest: Manifest) -> bool:
        return self.budget is not None and not self.budget.fits(self._held(), self._size_of(key, manifest))

    def _may_come(self, key: Key) -> bool:
        """Tells whether what is asked for can be loaded now, or has to wait until others have had their answer."""
        lineup, held = self.lineups.get(key.name), self._held()
        if self.budget is None or lineup is None or key.number not in lineup.served:
            return True
        if key in held or not any(self.budget.is_fresh(each) for each in held):
            return True
        size_bytes = self._size_of(key, lineup.served[key.number].manifest)
        gone = self.budget.choose(held, size_bytes, ())
        return self.budget.fits(held.keys() - set(gone), size_bytes)

    def _make_room(self, size_bytes: int, spared: Collection[Key]) -> None:
        """Unloads what was used least recently, as far as that is needed for so much more."""
        if self.budget is None:
            return
        for key in self.budget.choose(self._held(), size_bytes, spared):
            _log.info("%s is unloaded: the models would take more than BMP_MEMORY_MB", key)
            self._put(self.lineups[key.name].unload(key))
        self._stock.return_memory()

    # === Telling ===

    def _put(self, lineup: Lineup) -> None:
        """Puts up what a model is now: requests that come from here on see it."""
        before = self.lineups.get(lineup.name, Lineup(lineup.name))
        self.lineups = {**self.lineups, lineup.name: lineup}
        self._list_defaults()
        switched = before.default not in (None, lineup.default)
        numbers = [{key.number for key in each.models} for each in (before, lineup)]
        meters.record_lineup(lineup.name, *numbers, switched=switched)
        if switched:
            _log.info("%s is version %s now, after %s", lineup.name, lineup.default, before.default)
        for number in before.served.keys() - lineup.served.keys():
            _log.info("%s/%d is dropped", lineup.name, number)
            if self.budget is not None:
                self.budget.forget(lineup.name, number)
        kept = lineup.models
        for key, model in before.models.items():
            if kept.get(key) is not model:
                self._stock.drop(model)

    def _list_defaults(self) -> None:
        lineups = [self.lineups[name] for name in sorted(self.lineups)]
        self.names = tuple(lineup.name for lineup in lineups if lineup.default is not None)
        self.defaults = {lineup.name: lineup.model for lineup in lineups if lineup.model is not None}

    def _tell_failed(self, name: str, subject: str, error: Exception, start: float) -> str:
        code = self._tell(subject, error)
        meters.record_load(name, code, time.perf_counter() - start)
        return code

    def _tell_loaded(self, key: Key, subject: str, start: float) -> None:
        self._told.pop(subject, None)
        seconds = time.perf_counter() - start
        meters.record_load(key.name, meters.OK, seconds)
        _log.info("serving %s/%d, variant %s (%.2f s)", *key, seconds)

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

    def _is_named(self, name: str) -> bool:
        return name in self._names or name in (self._wanted_names or ())

    def _is_served(self, name: str) -> bool:
        return name in self.lineups and bool(self.lineups[name].served)
