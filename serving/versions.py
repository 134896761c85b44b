"""What a server has of one model: which versions, in what state, and where aliases lead. Values that never change."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple
from weakref import ReferenceType, ref

from bmp.errors import BmpError, NotFoundError, NotReadyError, suggest
from bmp.registry.reader import PRODUCTION
from serving.model import LoadedModel

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]


@dataclass(frozen=True)
class VersionState:
    """How a version of a model is doing, in the words of TensorFlow Serving.

    Args:
        number: Of the version.
        state: START: it waits for its turn to load. UNLOADING: nobody gets it any more, and a request that began with
            it is not answered yet. END: it could not be loaded.
        error: Code of the error that keeps it from being loaded, also while it is tried again; the log says more.
        aliases: Those that lead to it now. An alias that was moved gets there once its new version can answer.
    """

    number: int
    state: State
    error: str | None = None
    aliases: tuple[str, ...] = ()


class Published(NamedTuple):
    """What a registry says of a model.

    Args:
        digests: SHA-256 of the manifest by number, of each version that is there; None in journals of before.
        aliases: Number by alias.
    """

    digests: Mapping[int, str | None]
    aliases: Mapping[str, int]

    @property
    def default(self) -> int | None:
        """The version of requests that name none: what `production` says, else the newest."""
        return self.aliases.get(PRODUCTION, max(self.digests, default=None))

    def choose(self, policy: str) -> frozenset[int]:
        """Returns the versions that are to be served.

        Args:
            policy: `served`, `latest:N` or `all`, as `BMP_VERSIONS` has it.
        """
        kind, _, count = policy.partition(":")
        newest = sorted(self.digests, reverse=True)
        chosen = {"served": [], "all": newest, "latest": newest[: int(count or 0)]}[kind]
        named = {*self.aliases.values(), self.default}
        return frozenset(number for number in named.union(chosen) if number is not None)


_NOTHING = Published({}, {})


class Loaded(NamedTuple):
    """A version that is loaded.

    Args:
        model: It.
        digest: SHA-256 of its manifest, by which it differs from another version of the same number.
    """

    model: LoadedModel
    digest: str | None


@dataclass(frozen=True)
class Lineup:
    """A model at one moment. Whoever holds one sees default, aliases and versions that fit each other.

    Args:
        name: Of the model.
        published: What the registry said last.
        wanted: Versions that are to be served.
        loaded: By number: versions that answer requests.
        aliases: Number by alias, as requests find it.
        default: Number for requests that name none; None as long as nothing can answer them.
        loading: Number of the version that is being loaded.
        failed: By number: code of the error that keeps a wanted version from being loaded.
        leaving: By number: versions that were dropped, for as long as a request still holds them.
    """

    name: str
    published: Published = _NOTHING
    wanted: frozenset[int] = frozenset()
    loaded: Mapping[int, Loaded] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None
    loading: int | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    leaving: Mapping[int, "ReferenceType[LoadedModel]"] = field(default_factory=dict)

    # === How it changes ===

    def see(self, published: Published, policy: str) -> "Lineup":
        """Returns it as the registry wants it now, as far as what is loaded allows.

        Default and aliases move to versions that are loaded, and stay where they are otherwise. What none of them
        needs any more is dropped.
        """
        wanted = published.choose(policy)
        moves = {alias: self._move(self.aliases.get(alias), number) for alias, number in published.aliases.items()}
        aliases = {alias: number for alias, number in moves.items() if number is not None}
        default = self._move(self.default, published.default)
        kept = {*wanted, *aliases.values(), default}
        left = {number: ref(loaded.model) for number, loaded in self.loaded.items() if number not in kept}
        seen = replace(
            self,
            published=published,
            wanted=wanted,
            loaded={number: loaded for number, loaded in self.loaded.items() if number in kept},
            aliases=aliases,
            default=default,
            leaving={number: model for number, model in {**self.leaving, **left}.items() if model() is not None},
        )
        missing = seen.missing()
        return replace(seen, failed={number: self.failed[number] for number in missing if number in self.failed})

    def begin(self, number: int) -> "Lineup":
        """Returns it with a version that is being loaded."""
        return replace(self, loading=number)

    def add(self, number: int, loaded: Loaded) -> "Lineup":
        """Returns it with one more version, which can be asked for by number; default and aliases move in `see`."""
        failed = {each: code for each, code in self.failed.items() if each != number}
        return replace(self, loaded={**self.loaded, number: loaded}, loading=None, failed=failed)

    def fail(self, number: int, code: str) -> "Lineup":
        """Returns it with a version that could not be loaded."""
        return replace(self, loading=None, failed={**self.failed, number: code})

    def missing(self) -> list[int]:
        """Returns what is wanted and not loaded: the default first, then what aliases name, then the newest."""
        urgent = (self.published.default, *sorted(self.published.aliases.values()), *sorted(self.wanted, reverse=True))
        return [number for number in dict.fromkeys(urgent) if number in self.wanted and not self._is_loaded(number)]

    def _move(self, before: int | None, target: int | None) -> int | None:
        return next((number for number in (target, before) if number in self.loaded), None)

    def _is_loaded(self, number: int) -> bool:
        """Tells whether a version is loaded, and still the one that the registry has under this number."""
        loaded = self.loaded.get(number)
        return loaded is not None and loaded.digest == self.published.digests.get(number, loaded.digest)

    # === What it is asked ===

    @property
    def model(self) -> LoadedModel | None:
        """The default version."""
        return None if self.default is None else self.loaded[self.default].model

    @property
    def failure(self) -> str | None:
        """Code of the error that keeps something wanted from being loaded, the default before all else."""
        return next((self.failed[number] for number in self.missing() if number in self.failed), None)

    def get(self, version: int | None = None, alias: str | None = None) -> LoadedModel:
        """Returns the version that a number, an alias or neither stands for.

        Raises:
            NotReadyError: It is not loaded yet, or could not be loaded.
            NotFoundError: There is no such version or alias, or it is not served.
        """
        number = self.default
        if alias is not None:
            number = self.aliases.get(alias)
        elif version is not None:
            number = version
        loaded = None if number is None else self.loaded.get(number)
        if loaded is not None:
            return loaded.model
        if alias is not None:
            version = self._find_target(alias)
        raise self._explain_missing(self.published.default if version is None else version)

    def states(self) -> list[VersionState]:
        """Returns how each version is doing that is served, shall be served or was served just now, by number."""
        leaving = {number for number, model in self.leaving.items() if model() is not None}
        return [self._state_of(number) for number in sorted({*self.wanted, *self.loaded, *leaving})]

    def _state_of(self, number: int) -> VersionState:
        aliases = tuple(sorted(alias for alias, target in self.aliases.items() if target == number))
        state: State = "START" if number in self.wanted else "UNLOADING"
        if number in self.loaded:
            state = "AVAILABLE"
        elif number == self.loading:
            state = "LOADING"
        elif number in self.failed:
            state = "END"
        return VersionState(number, state, self.failed.get(number), aliases)

    def _find_target(self, alias: str) -> int:
        """Returns what an alias is to lead to.

        Raises:
            NotFoundError: There is no such alias.
        """
        known = self.published.aliases
        if alias not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise NotFoundError(
                f"Model '{self.name}' has no alias '{alias[:80]}'. Aliases: {listed}.{suggest(alias[:80], known)}",
                expected=listed,
                received=alias[:80],
            )
        return known[alias]

    def _explain_missing(self, number: int | None) -> BmpError:
        """Returns why a version cannot answer; None stands for the default where there is none."""
        served = ", ".join(map(str, sorted(self.loaded))) or "none"
        if number in self.failed:
            return NotReadyError(
                f"Version {number} of model '{self.name}' could not be loaded; the log of the server says why. Served: "
                f"{served}.",
                expected=served,
                received=str(number),
            )
        if number is None or number in self.wanted:
            return NotReadyError(f"Model '{self.name}' is still loading; try again in a second.")
        if number in self.published.digests:
            message = (
                f"Version {number} of model '{self.name}' is published, but not served; served: {served}. "
                "An alias that names it has it served, as does BMP_VERSIONS=all."
            )
        else:
            message = f"Model '{self.name}' is served at version {served}, not {number}."
        return NotFoundError(message, expected=served, received=str(number))
