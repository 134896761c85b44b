"""A chain: what is done to a model, one technique after the other, as a recipe writes it down."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bmp.errors import ConfigError

if TYPE_CHECKING:
    from bmp.compression.technique import Technique

UNCOMPRESSED = "float32"
"""Name of the chain in which nothing is done."""


@dataclass(frozen=True)
class Step:
    """One technique with its arguments.

    Args:
        name: An entry of TECHNIQUES.
        args: Those that are given; the others have their defaults.
    """

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.name, json.dumps(self.args, sort_keys=True)))

    @functools.cached_property
    def _label(self) -> str:
        return "-".join([self.name, *self.build().distinguishing()]).replace(" ", "-").replace("/", "-")

    def __hash__(self) -> int:
        return self._hash  # a search asks a thousand chains for theirs, again and again

    def build(self) -> "Technique":
        """Returns the technique.

        Raises:
            UnknownNameError: No technique has this name.
            ConfigError: An argument is unknown or of the wrong type.
        """
        return _build(self)

    def to_spec(self) -> str | dict[str, Any]:
        """Returns how a recipe writes it: the name, or `{name: args}`."""
        return {self.name: dict(self.args)} if self.args else self.name

    def __str__(self) -> str:
        """Returns the name with the arguments that tell two uses apart, such as `prune-0.8`."""
        return self._label


@functools.lru_cache(maxsize=4096)
def _build(step: Step) -> "Technique":
    from bmp.compression.techniques import TECHNIQUES

    technique: Technique = TECHNIQUES.bind(step.name, step.args)()
    return technique


@dataclass(frozen=True)
class Chain:
    """Steps in order, from what changes the network to how it is stored."""

    steps: tuple[Step, ...] = ()

    @property
    def name(self) -> str:
        """What a variant and its file are called, such as `prune-0.8_cluster-16_int8`."""
        return "_".join(map(str, self.steps)) or UNCOMPRESSED

    def then(self, step: Step) -> "Chain":
        """Returns the chain with a step more."""
        return Chain((*self.steps, step))

    def prefixes(self) -> list["Chain"]:
        """Returns what lies on the way, the shortest first and the chain itself last; without the empty chain."""
        return [Chain(self.steps[: count + 1]) for count in range(len(self.steps))]

    def digest(self, base: str) -> str:
        """Returns what a result is found by again: a digest of the steps with all their arguments.

        Args:
            base: Digest of everything else that the result depends on: the model, the data, how it is trained.
        """
        steps = [[step.name, step.build().settings()] for step in self.steps]
        text = json.dumps([base, steps], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_spec(self) -> list[str | dict[str, Any]]:
        """Returns how a recipe writes it; `read_chain` reads it."""
        return [step.to_spec() for step in self.steps]


def read_chain(spec: Iterable[str | Mapping[str, Any]]) -> Chain:
    """Reads a chain as a recipe writes it: `[{prune: {sparsity: 0.8}}, int8]`.

    Raises:
        UnknownNameError: No technique has this name.
        ConfigError: A step is no technique, its arguments are wrong, or the order is.
    """
    chain = Chain(tuple(_read_step(step) for step in spec))
    check_order(chain)
    return chain


def read_chains(specs: Iterable[Iterable[str | Mapping[str, Any]]]) -> list[Chain]:
    """Reads several chains, each of which becomes a variant.

    Raises:
        ConfigError: One is wrong, or two would become variants of one name.
    """
    chains = [read_chain(spec) for spec in specs]
    names = [chain.name for chain in chains]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"{names.count(name)} chains are called '{name}'; they differ, if at all, in what no name tells. Leave "
                "all but one out.",
                expected="chains of different names",
                received=name,
            )
        if name == UNCOMPRESSED:
            raise ConfigError("A chain has no step; the uncompressed model is a variant by itself. Leave it out.")
    return chains


def _read_step(spec: str | Mapping[str, Any]) -> Step:
    if isinstance(spec, str):
        step = Step(spec)
    elif isinstance(spec, Mapping) and len(spec) == 1:
        ((name, args),) = spec.items()
        step = Step(str(name), dict(args or {}))
    else:
        raise ConfigError(
            f"A step of a chain is the name of a technique, or {{name: arguments}}; got {spec!r}.",
            expected="a name, or one name with arguments",
            received=repr(spec),
        )
    step.build()
    return step


def check_order(chain: Chain) -> None:
    """Refuses chains in which a technique would undo an earlier one.

    Raises:
        ConfigError: Two steps stand in the wrong order, or exclude each other.
    """
    for before, after in zip(chain.steps, chain.steps[1:], strict=False):
        first, second = before.build(), after.build()
        if second.stage < first.stage:
            raise ConfigError(
                f"'{after.name}' cannot come after '{before.name}': it would undo it. Write '{after.name}' first.",
                expected=f"{after.name}, then {before.name}",
                received=f"{before.name}, then {after.name}",
            )
        if second.stage == first.stage or first.is_last:
            raise ConfigError(
                f"'{after.name}' cannot follow '{before.name}': a model has one of the two. Leave one out, or write "
                "two chains.",
                expected="one of the two",
                received=f"{before.name}, then {after.name}",
            )
