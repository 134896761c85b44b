"""Any sequence of changes leaves a registry as the plainest model of one says."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from small_artifact import make_artifact

from bmp.errors import BmpError
from bmp.registry import Registry
from bmp.registry.watch import Watcher

ALIASES = st.sampled_from(["production", "canary"])


class RegistryMachine(RuleBasedStateMachine):
    """A registry of one model beside two dictionaries and a list."""

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.artifact = make_artifact(self.root / "artifact")
        self.registry = Registry(self.root / "registry")
        self.watcher = Watcher(self.registry.root)
        self.next, self.versions = 1, []
        self.aliases: dict[str, int] = {}
        self.trails: dict[str, list[int]] = {}
        self.seen: list[str] = []

    def teardown(self):
        shutil.rmtree(self.root)

    def pick(self, index):
        return self.versions[index % len(self.versions)]

    def note(self, alias, number):
        """The trail holds each version that the alias named, without those rolled back."""
        self.aliases[alias] = number
        trail = self.trails.setdefault(alias, [])
        if trail[-1:] != [number]:
            trail.append(number)

    @rule()
    def publish(self):
        assert self.registry.publish(self.artifact, "m").number == self.next
        self.versions.append(self.next)
        self.next += 1

    @precondition(lambda self: self.versions)
    @rule(alias=ALIASES, index=st.integers(0, 5))
    def set_alias(self, alias, index):
        number = self.pick(index)
        self.registry.set_alias("m", alias, number, expected=self.aliases.get(alias))
        self.note(alias, number)

    @precondition(lambda self: self.versions)
    @rule(alias=ALIASES, wrong=st.sampled_from([None, 1, 2, 3]))
    def set_alias_that_moved(self, alias, wrong):
        if wrong == self.aliases.get(alias):
            return
        with pytest.raises(BmpError):
            self.registry.set_alias("m", alias, self.versions[-1], expected=wrong)

    @precondition(lambda self: self.versions)
    @rule(alias=ALIASES)
    def remove_alias(self, alias):
        if self.aliases.pop(alias, None) is None:
            with pytest.raises(BmpError):
                self.registry.remove_alias("m", alias)
        else:
            self.registry.remove_alias("m", alias)

    @precondition(lambda self: self.versions)
    @rule(alias=ALIASES)
    def rollback(self, alias):
        trail = self.trails.get(alias, [])
        earlier = trail[:-1] if alias in self.aliases else trail
        if not earlier or earlier[-1] not in self.versions:
            with pytest.raises(BmpError):
                self.registry.rollback("m", alias)
            return
        assert self.registry.rollback("m", alias).number == earlier[-1]
        self.trails[alias] = list(earlier)
        self.aliases[alias] = earlier[-1]

    @precondition(lambda self: self.versions)
    @rule(keep=st.integers(1, 3), held=st.booleans())
    def gc(self, keep, held):
        named = set(self.aliases.values())
        old = [number for number in self.versions[:-keep] if number not in named]
        if held and old:
            with self.registry.lease(self.registry.get("m", old[0])):
                collected = self.registry.gc("m", keep=keep)
            assert [version.number for version in collected.in_use] == old[:1]
            old = old[1:]
        else:
            collected = self.registry.gc("m", keep=keep)
        assert [gone.number for gone in collected.removed] == old
        self.versions = [number for number in self.versions if number not in old]

    @rule()
    def repair(self):
        assert self.registry.repair() == []

    @invariant()
    def is_as_the_model_says(self):
        assert self.registry.versions("m") == self.versions
        assert self.registry.aliases("m") == self.aliases
        if self.versions:
            number = self.aliases.get("production", self.versions[-1])
            assert self.registry.resolve("m").number == number
            self.seen += [event.sequence for event in self.watcher.poll()]
            assert self.seen == [event.sequence for event in self.registry.history("m")]
        assert self.registry.verify() == []


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
