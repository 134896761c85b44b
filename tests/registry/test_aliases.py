import shutil
from datetime import UTC, datetime, timedelta

import pytest
from small_artifact import make_artifact, read_tree

from bmp.errors import ConfigError, NotFoundError, RegistryError
from bmp.registry import Registry


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Four versions of digits."""
    directory = tmp_path_factory.mktemp("aliases")
    registry, artifact = Registry(directory / "registry"), make_artifact(directory / "artifact")
    for _ in range(4):
        registry.publish(artifact, "digits")
    return registry


@pytest.fixture
def registry(published, tmp_path):
    """A copy to change: copying is quicker than publishing."""
    return Registry(shutil.copytree(published.root, tmp_path / "registry"))


def move(registry, *numbers, alias="production"):
    for number in numbers:
        if number is None:
            registry.remove_alias("digits", alias)
        else:
            registry.set_alias("digits", alias, number)


@pytest.mark.parametrize(("before", "expected"), [((), None), ((1,), 1), ((1, 2), 2), ((1, None), None)])
def test_moves_where_the_alias_names_what_was_expected(registry, before, expected):
    move(registry, *before)
    registry.set_alias("digits", "production", 3, expected=expected)
    assert registry.aliases("digits") == {"production": 3}


@pytest.mark.parametrize(
    ("before", "expected", "said"),
    [
        ((), 1, "names nothing, not version 1 as expected"),
        ((1,), None, "names version 1, not nothing as expected"),
        ((1, 2), 1, "names version 2, not version 1 as expected"),
    ],
)
def test_stays_where_somebody_else_has_moved_it(registry, before, expected, said):
    move(registry, *before)
    tree = read_tree(registry.root)
    with pytest.raises(RegistryError, match=said):
        registry.set_alias("digits", "production", 3, expected=expected)
    with pytest.raises(RegistryError, match=said):
        registry.remove_alias("digits", "production", expected=expected)
    assert read_tree(registry.root) == tree


def test_a_removed_alias_is_gone_everywhere(registry):
    move(registry, 1, None)
    assert registry.aliases("digits") == {}
    assert (registry.root / "digits" / "aliases.json").read_bytes() == b"{}\n"
    assert registry.resolve("digits").number == 4
    with pytest.raises(NotFoundError, match=r"has no alias 'production'\. Aliases: none"):
        move(registry, None)


def test_promotes_the_newest_a_number_or_another_alias(registry):
    move(registry, 2, alias="canary")
    for reference, number in ((None, 4), (1, 1), ("3", 3), ("canary", 2)):
        assert registry.promote("digits", reference).number == registry.aliases("digits")["production"] == number
    assert registry.promote("digits", "production", "stable").number == 2
    assert registry.aliases("digits") == {"canary": 2, "production": 2, "stable": 2}


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ((1, 2), [1]),
        ((1, 2, 3), [2, 1]),
        ((1, 2, 1), [2, 1]),
        ((1, None), [1]),
        ((1, None, 2), [1]),
        ((1, 2, None), [2, 1]),
        ((1, None, 1, 2), [1]),
    ],
)
def test_every_rollback_goes_one_further_back(registry, moves, expected):
    move(registry, *moves)
    assert [registry.rollback("digits").number for _ in expected] == expected
    assert registry.aliases("digits") == {"production": expected[-1]}
    with pytest.raises(RegistryError, match="nothing to return to"):
        registry.rollback("digits")
    assert registry.aliases("digits") == {"production": expected[-1]}


def test_what_was_rolled_back_is_not_returned_to(registry):
    move(registry, 1, 2, 3)
    assert registry.rollback("digits").number == 2
    move(registry, 4)
    assert [registry.rollback("digits").number for _ in range(2)] == [2, 1]


def test_aliases_are_rolled_back_each_by_itself(registry):
    move(registry, 1, 2)
    move(registry, 3, 4, alias="canary")
    assert registry.rollback("digits", "canary").number == 3
    assert registry.aliases("digits") == {"production": 2, "canary": 3}


def test_no_rollback_of_an_alias_that_never_was(registry):
    with pytest.raises(NotFoundError, match=r"has no alias 'prodution'. Aliases: production. Did you mean"):
        move(registry, 1)
        registry.rollback("digits", "prodution")


def test_no_rollback_to_a_version_that_is_gone(registry):
    move(registry, 1, 2, 3)
    registry.gc("digits")
    with pytest.raises(RegistryError, match="version 2 before, which has been removed; there are 3, 4"):
        registry.rollback("digits")


def test_tells_what_an_alias_named_at_a_time(registry):
    before = datetime.now(UTC)
    move(registry, 1, 2)
    registry.rollback("digits")
    move(registry, 3, None)
    named = [registry.at("digits", event.time) for event in registry.history("digits")[4:]]
    times = [event.time for event in registry.history("digits")]
    assert times == sorted(times)
    assert named[-1] is None and len(named) == 5
    assert registry.at("digits", before - timedelta(hours=1)) is None
    assert registry.at("digits", datetime.now(UTC), "canary") is None
    with pytest.raises(ConfigError, match="has no zone"):
        registry.at("digits", datetime(2026, 1, 1))
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        registry.at("digit", before)


def test_history_tells_every_event(registry):
    move(registry, 1, 2)
    registry.rollback("digits")
    registry.gc("digits")
    told = [(event.event, getattr(event, "version", None)) for event in registry.history("digits")]
    assert told == [("publish", n) for n in (1, 2, 3, 4)] + [
        ("alias", 1),
        ("alias", 2),
        ("alias", 1),
        ("retire", 2),
        ("retire", 3),
    ]
    assert [event.sequence for event in registry.history("digits")] == list(range(1, 10))
    with pytest.raises(NotFoundError, match="No model is named 'Digits'"):
        registry.history("Digits")
