import shutil
import subprocess
import sys

import pytest
from small_artifact import make_artifact

from bmp.errors import ConfigError, NotFoundError
from bmp.registry import Registry


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("small") / "artifact", b"x" * 1000)


@pytest.fixture(scope="module")
def published(tmp_path_factory, artifact):
    """Five versions of digits, two of letters."""
    registry = Registry(tmp_path_factory.mktemp("collection") / "registry")
    for name, count in (("digits", 5), ("letters", 2)):
        for _ in range(count):
            registry.publish(artifact, name)
    return registry


@pytest.fixture
def registry(published, tmp_path):
    """A copy to change: copying is quicker than publishing."""
    return Registry(shutil.copytree(published.root, tmp_path / "registry"))


def test_removes_what_no_alias_names_and_says_what_it_freed(registry):
    registry.set_alias("digits", "production", 2)
    size_bytes = sum(path.stat().st_size for path in registry.get("digits", 1).path.rglob("*") if path.is_file())
    collected = registry.gc("digits", keep=2)
    assert [(gone.name, gone.number, gone.size_bytes) for gone in collected.removed] == [
        ("digits", 1, size_bytes),
        ("digits", 3, size_bytes),
    ]
    assert collected.freed_bytes == 2 * size_bytes and collected.in_use == ()
    assert registry.versions("digits") == [2, 4, 5]
    assert sorted(path.name for path in (registry.root / "digits").iterdir()) == [
        ".lock",
        "2",
        "4",
        "5",
        "aliases.json",
        "journal.jsonl",
    ]
    assert registry.verify() == []
    assert registry.gc("digits", keep=2).removed == ()


def test_collects_all_models(registry):
    assert [(gone.name, gone.number) for gone in registry.gc().removed] == [
        *(("digits", number) for number in (1, 2, 3, 4)),
        ("letters", 1),
    ]
    assert registry.models() == ["digits", "letters"]


def test_a_number_is_not_given_again_after_its_version_was_removed(registry, artifact):
    registry.set_alias("digits", "production", 1)
    registry.gc("digits")
    registry.promote("digits")
    registry.gc("digits")
    assert registry.publish(artifact, "digits").number == 6


def test_the_signatures_of_a_version_go_with_it(registry):
    for number in (1, 5):
        file = registry.signature_file("digits", number)
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    registry.gc("digits")
    assert [path.name for path in file.parent.iterdir()] == ["5.json"]


@pytest.mark.parametrize("keep", [0, -1])
def test_the_newest_always_stays(registry, keep):
    with pytest.raises(ConfigError, match="at least 1"):
        registry.gc(keep=keep)
    assert registry.versions("digits") == [1, 2, 3, 4, 5]


def test_a_model_that_is_not_there_is_told(registry):
    with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
        registry.gc("digit")


# === Leases ===


def test_a_version_that_is_held_stays_until_it_is_let_go(registry):
    with registry.lease(registry.get("digits", 2)), registry.lease(registry.get("digits", 2)):
        collected = registry.gc("digits")
        assert [version.number for version in collected.in_use] == [2]
        assert registry.versions("digits") == [2, 5]
        assert registry.get("digits", 2).check_files().name == "digits"
    assert [gone.number for gone in registry.gc("digits").removed] == [2]


def test_what_is_gone_cannot_be_held(registry):
    version = registry.get("digits", 1)
    registry.gc("digits")
    with pytest.raises(NotFoundError, match="Version 1 of model 'digits' has been removed"):
        registry.lease(version)


def test_what_is_retired_cannot_be_held_even_if_a_crash_left_its_files(registry):
    version = registry.get("digits", 1)
    aside = version.path.rename(registry.root / "aside")
    with pytest.raises(NotFoundError):
        registry.lease(version)
    registry.repair("digits")  # retires what is lost
    aside.rename(version.path)
    with pytest.raises(NotFoundError):
        registry.lease(version)


HOLD = """
import sys
from bmp.registry import Registry
registry = Registry(sys.argv[1])
lease = registry.lease(registry.get("digits", 1))
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_holds_a_version_until_it_dies(registry):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(registry.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        assert [version.number for version in registry.gc("digits").in_use] == [1]
    finally:
        holder.kill()
        holder.communicate()
    assert [gone.number for gone in registry.gc("digits").removed] == [1]
