import shutil

import pytest
from small_artifact import make_artifact

from bmp.errors import ConfigError, NotFoundError, RegistryError
from bmp.registry import Registry
from bmp.registry.journal import append_event, read_journal


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Versions of digits: 1, then 2 and 3 made from it, 4 from 3; and one of letters."""
    directory = tmp_path_factory.mktemp("reader")
    registry = Registry(directory / "registry")
    for index, parent in enumerate((None, 1, 1, 3)):
        registry.publish(make_artifact(directory / str(index), parent_version=parent), "digits")
    registry.publish(directory / "0", "letters")
    return registry


@pytest.fixture
def registry(published, tmp_path):
    """A copy to change."""
    return Registry(shutil.copytree(published.root, tmp_path / "registry"))


def make_old(registry, name):
    """Makes the journal one of a bmp that wrote no more than numbers."""
    path = registry.root / name / "journal.jsonl"
    numbers = [record["version"] for record in read_journal(path)]
    path.unlink()
    for number in numbers:
        append_event(path, "publish", version=number)


# === Lists ===


def test_summaries_tell_what_the_manifest_says_without_opening_it(registry):
    registry.set_alias("digits", "production", 3)
    registry.set_alias("digits", "canary", 3)
    registry.tag("digits", 2, "team", "vision")
    for path in registry.root.rglob("manifest.json"):
        path.unlink()
    found = list(registry.summaries())
    assert [(each.name, each.number, each.aliases) for each in found] == [
        ("digits", 1, ()),
        ("digits", 2, ()),
        ("digits", 3, ("production", "canary")),
        ("digits", 4, ()),
        ("letters", 1, ()),
    ]
    facts = found[0].facts
    assert (facts.variant, facts.metric, facts.score, facts.size_bytes) == ("int8", "accuracy", 0.9, 1)
    assert found[1].metadata.tags == {"team": "vision"}
    assert [each.number for each in registry.summaries("letters")] == [1]


def test_summaries_of_before_come_out_of_the_manifest(registry):
    new = list(registry.summaries("digits"))
    make_old(registry, "digits")
    assert list(registry.summaries("digits")) == new


# === Family trees ===


def show(nodes):
    return [(node.number, node.is_there, show(node.children)) for node in nodes]


@pytest.mark.parametrize("old", [False, True])
def test_lineage_is_the_tree_of_what_was_made_from_what(registry, old):
    if old:
        make_old(registry, "digits")
    (tree,) = registry.lineage("digits")
    assert show([tree]) == [(1, True, [(2, True, []), (3, True, [(4, True, [])])])]
    facts = tree.facts
    assert (facts.data_sha256, facts.recipe_sha256, facts.code_version) == ("d" * 64, "r" * 64, "1.0")


def test_versions_that_are_gone_keep_their_place_in_the_tree(registry):
    registry.gc("digits")
    assert show(registry.lineage("digits")) == [(1, False, [(2, False, []), (3, False, [(4, True, [])])])]


def test_a_parent_that_cannot_be_is_none(registry, tmp_path):
    for index, parent in enumerate((5, 77, -1)):
        registry.publish(make_artifact(tmp_path / f"odd-{index}", parent_version=parent), "odd")
    assert show(registry.lineage("odd")) == [(1, True, []), (2, True, []), (3, True, [])]


# === Tags and descriptions ===


def test_tags_and_descriptions_are_kept_beside_the_version(registry):
    assert registry.metadata("digits", 1).tags == {} and registry.metadata("digits", 1).description == ""
    registry.describe("digits", 1, "Reads digits.\nNothing else: 0 – 9.")
    registry.tag("digits", 1, "team", "vision")
    registry.tag("digits", 1, "ticket", "A-1 'ü'")
    registry.tag("digits", 1, "team", "sound")
    registry.tag("digits", 1, "ticket", None)
    found = registry.metadata("digits", 1)
    assert found.description == "Reads digits.\nNothing else: 0 – 9." and found.tags == {"team": "sound"}
    assert registry.metadata("digits", 2).tags == {}
    assert registry.verify() == []
    count = len(registry.journal("digits"))
    registry.tag("digits", 1, "team", "sound")
    registry.tag("digits", 1, "never", None)
    registry.describe("digits", 1, found.description)
    assert len(registry.journal("digits")) == count


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.tag("digits", 1, "Team", "x"), "no key of a tag"),
        (lambda r: r.tag("digits", 1, "team", "two\nlines"), "in one line"),
        (lambda r: r.tag("digits", 1, "team", "\x1b[31mred"), "in one line"),
        (lambda r: r.tag("digits", 1, "team", "\ud800"), "in one line"),
        (lambda r: r.tag("digits", 1, "team", "x" * 501), "up to 500"),
        (lambda r: r.describe("digits", 1, "\x1b]0;evil\a"), "cannot be kept"),
        (lambda r: r.describe("digits", 1, "x" * 20_001), "up to 20,000"),
    ],
)
def test_what_cannot_be_shown_is_not_kept(registry, change, said):
    before = registry.journal("digits")
    with pytest.raises(ConfigError, match=said):
        change(registry)
    assert registry.journal("digits") == before


def test_a_version_that_is_not_there_has_no_metadata(registry):
    for call in (
        lambda: registry.metadata("digits", 9),
        lambda: registry.tag("digits", 9, "team", "x"),
        lambda: registry.describe("digits", 9, "x"),
    ):
        with pytest.raises(NotFoundError, match="has no version 9; it has 1, 2, 3, 4"):
            call()


# === What cannot be read ===


@pytest.mark.parametrize("reference", ["9" * 30, "9" * 5000, "x" * 5000, "@production", "-1", "1/../2", "\x00"])
def test_no_reference_does_harm(registry, reference):
    with pytest.raises(NotFoundError, match="Model 'digits' has no") as caught:
        registry.resolve("digits", reference)
    assert len(str(caught.value)) < 300


def test_a_model_that_cannot_be_read_is_listed_and_harms_no_other(registry):
    journal = registry.root / "digits" / "journal.jsonl"
    journal.unlink()
    journal.symlink_to("/etc/hostname")
    assert registry.models() == ["digits", "letters"]
    assert registry.resolve("letters").number == 1
    with pytest.raises(RegistryError, match=r"journal\.jsonl cannot be read: A symbolic link"):
        registry.resolve("digits")
