import json
import shutil
import subprocess
import sys
import time

import pytest
from conftest import disk_that_holds
from small_artifact import make_artifact, read_tree

from bmp.artifact.manifest import MANIFEST_FILE, check_files, read_manifest
from bmp.errors import ArtifactError, ConfigError, NotFoundError, RegistryError
from bmp.registry import Registry


@pytest.fixture
def artifact(tmp_path):
    return make_artifact(tmp_path / "artifact")


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry")


@pytest.fixture
def published(registry, artifact):
    """A registry with three versions of digits and one of letters."""
    for _ in range(3):
        registry.publish(artifact, "digits")
    registry.publish(artifact, "letters")
    return registry


# === Publishing ===


def test_a_registry_that_does_not_exist_is_empty(registry):
    assert registry.models() == registry.versions("digits") == registry.journal("digits") == []
    assert registry.aliases("digits") == {}
    assert not registry.root.exists()


def test_versions_count_up_from_one(registry, artifact):
    assert [registry.publish(artifact, "digits").number for _ in range(3)] == [1, 2, 3]
    assert registry.versions("digits") == [1, 2, 3]
    assert [record["version"] for record in registry.journal("digits")] == [1, 2, 3]


def test_versions_are_numbers_not_text(registry, artifact):
    numbers = [registry.publish(artifact, "digits").number for _ in range(11)]
    assert registry.versions("digits") == numbers == list(range(1, 12))
    assert registry.resolve("digits").number == 11


def test_a_version_is_the_artifact_byte_for_byte(registry, artifact):
    version = registry.publish(artifact, "digits")
    assert version.path == registry.root / "digits" / "1"
    assert read_tree(version.path) == read_tree(artifact)
    check_files(version.path, version.read_manifest())


def test_a_version_is_a_copy(registry, artifact):
    version = registry.publish(artifact, "digits")
    (artifact / "model.tflite").write_bytes(b"changed later")
    assert (version.path / "model.tflite").read_bytes() == b"model"


def test_a_new_version_leaves_the_others_as_they_are(published, tmp_path):
    before = read_tree(published.get("digits", 1).path)
    published.publish(make_artifact(tmp_path / "other", b"other"), "digits")
    assert read_tree(published.get("digits", 1).path) == before


@pytest.mark.parametrize("gone", [1, 3])
def test_a_number_is_never_given_twice(published, artifact, gone):
    shutil.rmtree(published.root / "digits" / str(gone))
    assert published.publish(artifact, "digits").number == 4
    assert published.versions("digits") == [number for number in (1, 2, 3, 4) if number != gone]


def test_a_number_is_not_given_again_when_every_version_is_gone(published, artifact):
    for number in (1, 2, 3):
        shutil.rmtree(published.root / "digits" / str(number))
    assert published.publish(artifact, "digits").number == 4


BROKEN = {
    "altered": lambda a: (a / "model.tflite").write_bytes(b"evil!"),
    "missing": lambda a: (a / "model.tflite").unlink(),
    "extra": lambda a: (a / "extra").touch(),
    "link": lambda a: (a / "link").symlink_to("/etc/hostname"),
    "damaged manifest": lambda a: (a / MANIFEST_FILE).write_text("{"),
    "no manifest": lambda a: (a / MANIFEST_FILE).unlink(),
    "no artifact": shutil.rmtree,
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
def test_an_artifact_that_is_not_what_it_says_is_refused_and_leaves_nothing(published, artifact, damage):
    before = read_tree(published.root)
    damage(artifact)
    with pytest.raises(ArtifactError):
        published.publish(artifact, "digits")
    assert read_tree(published.root) == before
    assert not list(published.root.rglob(".staging-*"))


def test_a_refused_artifact_does_not_even_make_the_registry(registry, artifact):
    (artifact / "extra").touch()
    with pytest.raises(ArtifactError):
        registry.publish(artifact, "digits")
    assert not registry.root.exists()


def test_a_full_disk_while_copying_publishes_nothing(published, tmp_path):
    large = make_artifact(tmp_path / "large", b"x" * 50_000)
    before = read_tree(published.root)
    with disk_that_holds(10_000), pytest.raises(RegistryError, match="Nothing was published"):
        published.publish(large, "digits")
    assert read_tree(published.root) == before
    assert published.publish(large, "digits").number == 4


def test_a_full_disk_while_writing_the_journal_publishes_nothing(published, artifact):
    path = published.root / "digits" / "journal.jsonl"
    while path.stat().st_size < 4000:  # longer than any file of the artifact
        published.publish(artifact, "digits")
    before, journal = published.versions("digits"), published.journal("digits")
    with disk_that_holds(path.stat().st_size + 20), pytest.raises(RegistryError, match="Nothing was published"):
        published.publish(artifact, "digits")
    assert published.versions("digits") == before
    assert published.journal("digits") == journal
    assert published.publish(artifact, "digits").number == before[-1] + 1


def test_nothing_is_published_onto_an_altered_journal(published, artifact):
    journal = published.root / "digits" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"version":2', b'"version":7'))
    with pytest.raises(RegistryError, match="has been altered"):
        published.publish(artifact, "digits")
    assert not (published.root / "digits" / "4").exists()
    assert not list(published.root.rglob(".staging-*"))


@pytest.mark.parametrize("name", ["", "A", "a b", "../digits", "a/b", ".hidden", "x" * 65])
def test_names_that_are_none_are_refused_before_anything_is_written(registry, artifact, name):
    with pytest.raises(ConfigError, match="is no model name"):
        registry.publish(artifact, name)
    assert not registry.root.exists()


def test_a_root_that_is_no_directory_is_refused(tmp_path, artifact):
    (tmp_path / "file").touch()
    registry = Registry(tmp_path / "file")
    with pytest.raises(RegistryError):
        registry.check_writable()
    with pytest.raises(RegistryError, match="Nothing was published"):
        registry.publish(artifact, "digits")


def test_making_sure_it_is_writable_makes_the_root_and_nothing_in_it(registry):
    registry.check_writable()
    assert list(registry.root.iterdir()) == []


# === Resolving ===


def test_lists_models_that_have_a_version(published):
    (published.root / "empty").mkdir()
    (published.root / "Not A Name" / "1").mkdir(parents=True)
    (published.root / "a-file").touch()
    assert published.models() == ["digits", "letters"]


@pytest.mark.parametrize("name", [".staging-abc", "0", "01", "-1", "1.5", "٣", "v2", "2²"])
def test_only_a_number_is_a_version(published, name):
    (published.root / "digits" / name).mkdir()
    (published.root / "digits" / "9").touch()
    assert published.versions("digits") == [1, 2, 3]


def test_a_model_stands_for_its_newest_version_until_one_is_in_production(published):
    assert published.resolve("digits").number == 3
    published.set_alias("digits", "production", 1)
    assert published.resolve("digits").number == 1
    assert published.resolve("letters").number == 1


@pytest.mark.parametrize(("reference", "number"), [(2, 2), (3, 3), ("canary", 2), ("production", 1), (None, 1)])
def test_resolves_a_number_or_an_alias(published, reference, number):
    published.set_alias("digits", "canary", 2)
    published.set_alias("digits", "production", 1)
    version = published.resolve("digits", reference)
    assert (version.name, version.number, version.path) == ("digits", number, published.root / "digits" / str(number))
    assert published.get("digits", number) == version


@pytest.mark.parametrize(
    ("name", "reference", "message"),
    [
        ("digit", None, "No model is named 'digit'. Published: digits, letters. Did you mean 'digits'?"),
        ("zzz", None, "No model is named 'zzz'. Published: digits, letters."),
        ("../registry/digits", None, "No model is named '../registry/digits'"),
        ("digits", 4, "Model 'digits' has no version 4; it has 1, 2, 3."),
        ("digits", 0, "Model 'digits' has no version 0; it has 1, 2, 3."),
        ("digits", "canari", "Model 'digits' has no alias 'canari'. Aliases: canary. Did you mean 'canary'?"),
        ("letters", "canary", "Model 'letters' has no alias 'canary'. Aliases: none."),
        ("digits", "../letters", "Model 'digits' has no alias '../letters'"),
    ],
)
def test_says_what_there_is_instead(published, name, reference, message):
    published.set_alias("digits", "canary", 2)
    with pytest.raises(NotFoundError) as caught:
        published.resolve(name, reference)
    assert str(caught.value).startswith(message)


def test_an_empty_registry_has_no_model_to_guess(registry):
    with pytest.raises(NotFoundError, match="Published: none"):
        registry.resolve("digits")


def test_an_alias_whose_version_is_gone_is_told(published):
    published.set_alias("digits", "production", 2)
    shutil.rmtree(published.root / "digits" / "2")
    with pytest.raises(NotFoundError, match="has no version 2; it has 1, 3"):
        published.resolve("digits")


# === Aliases ===


def test_an_alias_moves_and_every_move_is_written_down(published):
    for number in (1, 3, 3, 2):
        published.set_alias("digits", "production", number)
    published.set_alias("digits", "canary", 3)
    assert published.aliases("digits") == {"production": 2, "canary": 3}
    moves = [(r["alias"], r["previous"], r["version"]) for r in published.journal("digits") if r["event"] == "alias"]
    assert moves == [("production", None, 1), ("production", 1, 3), ("production", 3, 2), ("canary", None, 3)]


@pytest.mark.parametrize(
    ("name", "alias", "number", "error"),
    [
        ("digits", "production", 4, NotFoundError),
        ("digit", "production", 1, NotFoundError),
        ("digits", "2", 1, ConfigError),
        ("digits", "A b", 1, ConfigError),
        ("digits", "../x", 1, ConfigError),
    ],
)
def test_an_alias_that_cannot_be_is_refused_and_nothing_is_written(published, name, alias, number, error):
    before = read_tree(published.root)
    with pytest.raises(error):
        published.set_alias(name, alias, number)
    assert read_tree(published.root) == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]1", b"3", b'{"production": 1}\n', None])
def test_what_aliases_json_says_moves_no_alias(published, content):
    published.set_alias("digits", "production", 2)
    path = published.root / "digits" / "aliases.json"
    path.unlink() if content is None else path.write_bytes(content)
    assert published.resolve("digits").number == 2
    published.set_alias("digits", "canary", 3)
    assert json.loads(path.read_bytes()) == {"production": 2, "canary": 3}


# === Many processes ===

PUBLISH = """
import sys
from pathlib import Path
from bmp.registry import Registry
registry, artifact = Registry(sys.argv[1]), Path(sys.argv[2])
sys.stdin.readline()  # everybody starts at once
for number in range(int(sys.argv[3])):
    print(registry.publish(artifact, "digits").number, flush=True)
    registry.set_alias("digits", "production", registry.versions("digits")[-1])
"""


def start_publisher(registry, artifact, times):
    return subprocess.Popen(
        [sys.executable, "-c", PUBLISH, str(registry.root), str(artifact), str(times)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_many_processes_publish_at_once_and_readers_see_whole_versions_only(registry, artifact):
    publishers = [start_publisher(registry, artifact, 4) for _ in range(4)]
    for publisher in publishers:
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
    seen = 0
    while any(publisher.poll() is None for publisher in publishers):
        for number in registry.versions("digits"):
            version = registry.get("digits", number)
            check_files(version.path, version.read_manifest())
            seen += 1
        if registry.versions("digits"):
            assert registry.resolve("digits").number in registry.versions("digits")
    given = [int(line) for publisher in publishers for line in publisher.communicate()[0].split()]
    assert [publisher.returncode for publisher in publishers] == [0] * 4
    assert seen > 0
    assert sorted(given) == registry.versions("digits") == list(range(1, 17))
    records = registry.journal("digits")
    assert sorted(record["version"] for record in records if record["event"] == "publish") == list(range(1, 17))
    assert [record["sequence"] for record in records] == list(range(1, len(records) + 1))
    assert not list(registry.root.rglob(".staging-*"))


def test_a_publisher_killed_at_any_moment_leaves_only_whole_versions(registry, tmp_path):
    large = make_artifact(tmp_path / "large", b"x" * 2_000_000)
    registry.publish(large, "digits")
    for pause_s in (0.0, 0.01, 0.03, 0.06, 0.1):
        publisher = start_publisher(registry, large, 1000)
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
        publisher.stdout.readline()  # it is at work
        time.sleep(pause_s)
        publisher.kill()
        publisher.communicate()
        for number in registry.versions("digits"):
            path = registry.get("digits", number).path
            check_files(path, read_manifest(path))
        assert registry.models() == ["digits"]
        last = registry.versions("digits")[-1]
        assert registry.publish(large, "digits").number == last + 1


def test_a_staging_directory_of_a_killed_process_is_passed_over(published, artifact):
    shutil.copytree(artifact, published.root / "digits" / ".staging-0123456789abcdef")
    shutil.copytree(artifact, published.root / "fresh" / ".staging-0123456789abcdef")
    assert published.versions("digits") == [1, 2, 3]
    assert published.versions("fresh") == []
    assert published.models() == ["digits", "letters"]
    assert published.publish(artifact, "digits").number == 4


def test_aliases_are_readable_while_they_move(published):
    path = published.root / "digits" / "aliases.json"
    published.set_alias("digits", "production", 1)
    script = (
        "import sys; from bmp.registry import Registry; registry = Registry(sys.argv[1])\n"
        "for number in [1, 2, 3] * 30: registry.set_alias('digits', 'production', number)"
    )
    mover = subprocess.Popen([sys.executable, "-c", script, str(published.root)])
    seen = set()
    while mover.poll() is None:
        seen.add(json.loads(path.read_bytes())["production"])
    assert mover.returncode == 0 and seen == {1, 2, 3}
    assert len(published.journal("digits")) == 3 + 1 + 89
    assert not list(path.parent.glob(".aliases*"))
