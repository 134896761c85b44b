"""What a server has of one model: which versions, in what state, and where aliases lead. Values that never change."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple
from weakref import ReferenceType, ref

from bmp.artifact.manifest import Manifest
from bmp.errors import BmpError, NotFoundError, NotReadyError, suggest
from bmp.registry.reader import PRODUCTION
from serving.models.description import Description
from serving.models.memory import Key
from serving.models.model import LoadedModel
from serving.models.quality import choose_variants

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
UNLOADED = "unloaded"
"""What keeps a version from answering that is not in memory, and could be."""


class UnloadedError(NotReadyError):
    """What a request asks for is not in memory; it is loaded because it was asked for.

    Args:
        message: For whoever asked.
        key: What was asked for.
    """

    def __init__(self, message: str, key: Key) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class VersionState:
    """How a version of a model is doing, in the words of TensorFlow Serving.

    Args:
        number: Of the version.
        state: START: it waits for its turn to load. UNLOADING: nobody gets it any more, and a request that began with
            it is not answered yet. END: it could not be loaded, or was unloaded.
        error: Code of the error that keeps it from being loaded, also while it is tried again; the log says more. Or
            `unloaded`: there was no memory for it, or a client had it unloaded.
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


@dataclass(frozen=True)
class Served:
    """A version that answers requests: at once with what is in memory, and with the rest once it is loaded again.

    Args:
        description: Of it, whether or not it is in memory.
        digest: SHA-256 of its manifest, by which it differs from another version of the same number.
        models: By variant: those in memory.
        failed: By variant: code of the error that kept it from being loaded when it was asked for.
    """

    description: Description
    digest: str | None
    models: Mapping[str, LoadedModel] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """Of the version."""
        return self.description.manifest

    @cached_property
    def variants(self) -> dict[str, str]:
        """The variants that requests may ask for, by quality."""
        return choose_variants(self.manifest)

    @property
    def model(self) -> LoadedModel | None:
        """The recommended variant, if it is in memory."""
        return self.models.get(self.manifest.recommended)


@dataclass(frozen=True)
class Lineup:
    """A model at one moment. Whoever holds one sees default, aliases and versions that fit each other.

    Args:
        name: Of the model.
        published: What the registry said last.
        wanted: Versions that are to be served.
        served: By number: versions that answer requests.
        aliases: Number by alias, as requests find it.
        default: Number for requests that name none; None as long as nothing can answer them.
        loading: Number of the version that is being loaded.
        failed: By number: code of the error that keeps a wanted version from being loaded.
        leaving: By number: versions that were dropped, for as long as a request still holds them.
        rests: Whether nothing of it is loaded, because no client wants it.
    """

    name: str
    published: Published = _NOTHING
    wanted: frozenset[int] = frozenset()
    served: Mapping[int, Served] = field(default_factory=dict)
    aliases: Mapping[str, int] = field(default_factory=dict)
    default: int | None = None
    loading: int | None = None
    failed: Mapping[int, str] = field(default_factory=dict)
    leaving: Mapping[int, "tuple[ReferenceType[LoadedModel], ...]"] = field(default_factory=dict)
    rests: bool = False

    # === How it changes ===

    def see(self, published: Published, policy: str) -> "Lineup":
        """Returns it as the registry wants it now, as far as what is loaded allows.

        Default and aliases move to versions that answer, and stay where they are otherwise. What none of them needs
        any more is dropped.
        """
        wanted = published.choose(policy)
        moves = {alias: self._move(self.aliases.get(alias), number) for alias, number in published.aliases.items()}
        aliases = {alias: number for alias, number in moves.items() if number is not None}
        default = self._move(self.default, published.default)
        seen = replace(
            self._keep({*wanted, *aliases.values(), default}),
            published=published,
            wanted=wanted,
            aliases=aliases,
            default=default,
            rests=False,
        )
        missing = seen.missing()
        return replace(seen, failed={number: self.failed[number] for number in missing if number in self.failed})

    def rest(self, published: Published, policy: str) -> "Lineup":
        """Returns it with nothing loaded, because no client wants it."""
        wanted = published.choose(policy)
        return replace(
            self._keep(()), published=published, wanted=wanted, aliases={}, default=None, failed={}, rests=True
        )

    def _keep(self, numbers: Collection[int | None]) -> "Lineup":
        """Returns it without other versions than these."""
        kept = {number: served for number, served in self.served.items() if number in numbers}
        leaving = {number: refs for number, refs in self.leaving.items() if _is_any_alive(refs)}
        for number in self.served.keys() - kept.keys():
            leaving[number] = tuple(ref(model) for model in self.served[number].models.values())
        return replace(self, served=kept, leaving=leaving)

    def begin(self, number: int) -> "Lineup":
        """Returns it with a version that is being loaded."""
        return replace(self, loading=number)

    def add(self, number: int, model: LoadedModel, digest: str | None) -> "Lineup":
        """Returns it with one more version or variant of one; default and aliases move in `see`."""
        served = self.served.get(number)
        if served is None or served.digest != digest:
            served = Served(model.outline(), digest)
        variant = model.variant.name
        failed = {each: code for each, code in served.failed.items() if each != variant}
        return self.offer(number, replace(served, models={**served.models, variant: model}, failed=failed))

    def offer(self, number: int, served: Served) -> "Lineup":
        """Returns it with a version as it is now, which can be asked for by number."""
        failed = {each: code for each, code in self.failed.items() if each != number}
        return replace(self, served={**self.served, number: served}, loading=None, failed=failed)

    def unload(self, key: Key) -> "Lineup":
        """Returns it without one variant in memory; requests for it have it loaded again."""
        served = self.served[key.number]
        models = {variant: model for variant, model in served.models.items() if variant != key.variant}
        return replace(self, served={**self.served, key.number: replace(served, models=models)})

    def miss(self, key: Key, code: str) -> "Lineup":
        """Returns it with a variant that was asked for, and could not be loaded."""
        served = self.served[key.number]
        failed = {**served.failed, key.variant: code}
        return replace(self, loading=None, served={**self.served, key.number: replace(served, failed=failed)})

    def fail(self, number: int, code: str) -> "Lineup":
        """Returns it with a version that could not be loaded."""
        return replace(self, loading=None, failed={**self.failed, number: code})

    def missing(self) -> list[int]:
        """Returns what is wanted and not there: the default first, then what aliases name, then the newest."""
        if self.rests:
            return []
        urgent = (self.published.default, *sorted(self.published.aliases.values()), *sorted(self.wanted, reverse=True))
        return [number for number in dict.fromkeys(urgent) if number in self.wanted and not self._is_served(number)]

    def _move(self, before: int | None, target: int | None) -> int | None:
        return next((number for number in (target, before) if number in self.served), None)

    def _is_served(self, number: int) -> bool:
        """Tells whether a version is served, and still the one that the registry has under this number."""
        served = self.served.get(number)
        return served is not None and served.digest == self.published.digests.get(number, served.digest)

    # === What it is asked ===

    @property
    def model(self) -> LoadedModel | None:
        """The default version, if it is in memory."""
        return None if self.default is None else self.served[self.default].model

    @property
    def models(self) -> dict[Key, LoadedModel]:
        """Everything of it that is in memory."""
        return {
            Key(self.name, number, variant): model
            for number, served in self.served.items()
            for variant, model in served.models.items()
        }

    @property
    def failure(self) -> str | None:
        """Code of the error that keeps something wanted from being loaded, the default before all else."""
        missing = next((self.failed[number] for number in self.missing() if number in self.failed), None)
        asked = next((code for served in self.served.values() for code in served.failed.values()), None)
        return missing or asked

    def get(self, version: int | None = None, alias: str | None = None, quality: str | None = None) -> LoadedModel:
        """Returns the version that a number, an alias or neither stands for, in the variant of a quality.

        Raises:
            UnloadedError: It is not in memory.
            NotReadyError: It is not loaded yet, or could not be loaded.
            NotFoundError: There is no such version or alias, or it is not served.
        """
        number = self.default
        if alias is not None:
            number = self.aliases.get(alias)
        elif version is not None:
            number = version
        served = None if number is None else self.served.get(number)
        if served is None or number is None:
            if alias is not None:
                version = self._find_target(alias)
            raise self._explain_missing(self.published.default if version is None else version)
        variant = served.manifest.recommended if quality is None else served.variants[quality]
        model = served.models.get(variant)
        if model is None:
            raise self._explain_unloaded(Key(self.name, number, variant))
        return model

    def describe(self) -> Description:
        """Returns the default version as it is known; it need not be in memory.

        Raises:
            NotReadyError: It is not loaded yet, or could not be loaded.
            NotFoundError: No client wants it loaded.
        """
        if self.default is None:
            raise self._explain_missing(self.published.default)
        return self.served[self.default].description

    def states(self) -> list[VersionState]:
        """Returns how each version is doing that is served, shall be served or was served just now, by number."""
        leaving = {number for number, refs in self.leaving.items() if _is_any_alive(refs)}
        return [self._state_of(number) for number in sorted({*self.wanted, *self.served, *leaving})]

    def _state_of(self, number: int) -> VersionState:
        aliases = tuple(sorted(alias for alias, target in self.aliases.items() if target == number))
        served = self.served.get(number)
        state: State = "START" if number in self.wanted else "UNLOADING"
        error = self.failed.get(number)
        if served is not None and served.model is not None:
            state = "AVAILABLE"
        elif number == self.loading:
            state = "LOADING"
        elif served is not None:
            state, error = "END", served.failed.get(served.manifest.recommended, UNLOADED)
        elif self.rests and state == "START":
            state, error = "END", UNLOADED
        elif number in self.failed:
            state = "END"
        return VersionState(number, state, error, aliases)

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
        served = ", ".join(map(str, sorted(self.served))) or "none"
        if self.rests and (number is None or number in self.wanted):
            return NotFoundError(
                f"Model '{self.name}' is not loaded; POST /v2/repository/models/{self.name}/load has it loaded.",
                expected="a model that is loaded",
                received=self.name,
            )
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

    def _explain_unloaded(self, key: Key) -> UnloadedError:
        """Returns what to say of a variant that is not in memory."""
        what = f"Variant '{key.variant}' of version {key.number} of model '{key.name}'"
        if key.variant in self.served[key.number].failed:
            return UnloadedError(f"{what} could not be loaded; the log of the server says why.", key)
        return UnloadedError(f"{what} is not in memory, and is being loaded; try again in a second.", key)


def _is_any_alive(refs: "Iterable[ReferenceType[LoadedModel]]") -> bool:
    return any(model() is not None for model in refs)
