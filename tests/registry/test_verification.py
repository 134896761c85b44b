import json
import random
import shutil

import pytest
from small_artifact import make_artifact, read_tree

from bmp.artifact.manifest import MANIFEST_FILE
from bmp.errors import ArtifactError, BmpError, NotFoundError, RegistryError
from bmp.registry import Registry
from bmp.registry.journal import append_event, read_journal


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return make_artifact(tmp_path_factory.mktemp("small") / "artifact")


@pytest.fixture(scope="module")
def published(tmp_path_factory, artifact):
    """Three versions of digits, the second in production, and one of letters."""
    registry = Registry(tmp_path_factory.mktemp("verification") / "registry")
    for name in ("digits", "digits", "digits", "letters"):
        registry.publish(artifact, name)
    registry.set_alias("digits", "production", 1)
    registry.set_alias("digits", "production", 2)
    return registry


@pytest.fixture
def registry(published, tmp_path):
    """A copy to spoil."""
    return Registry(shutil.copytree(published.root, tmp_path / "registry"))


@pytest.fixture
def digits(registry):
    return registry.root / "digits"


def found(registry, name=None):
    return [(problem.model, problem.version, problem.kind) for problem in registry.verify(name)]


def forget(journal, event):
    """Makes a journal without one of its events, as if that had never been written."""
    records = [record for record in read_journal(journal) if not event(record)]
    journal.unlink()
    for record in records:
        kind = record.pop("event")
        append_event(journal, kind, **{key: value for key, value in record.items() if key not in WRITTEN})


WRITTEN = ("sequence", "time", "previous_sha256", "sha256")


def is_publish(number):
    return lambda record: record["event"] == "publish" and record["version"] == number


def test_nothing_is_wrong_with_what_was_published(registry):
    assert registry.verify() == registry.verify("digits") == []
    assert registry.repair() == []


def test_an_empty_registry_and_foreign_directories_are_left_alone(tmp_path):
    (tmp_path / "src" / "1").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    registry = Registry(tmp_path)
    assert found(registry) == [("src", 1, "unknown")]
    assert registry.repair("notes") == [] and not list((tmp_path / "notes").iterdir())
    assert Registry(tmp_path / "none").verify() == []


def test_a_name_that_is_no_model_is_told(registry):
    for call in (registry.verify, registry.repair):
        with pytest.raises(NotFoundError, match="Did you mean 'digits'"):
            call("digit")


def test_any_byte_that_is_altered_is_found_and_not_served(registry, digits):
    random.seed(0)
    files = sorted(path for path in (digits / "2").rglob("*") if path.is_file())
    assert len(files) == 3
    for _ in range(150):
        path = random.choice(files)
        intact = path.read_bytes()
        index, bit = random.randrange(len(intact)), 1 << random.randrange(8)
        path.write_bytes(intact[:index] + bytes([intact[index] ^ bit]) + intact[index + 1 :])
        assert found(registry, "digits") == [("digits", 2, "altered")]
        with pytest.raises(ArtifactError):
            registry.resolve("digits").check_files()
        if path.name == "manifest.json":
            with pytest.raises(ArtifactError, match="altered since it was published"):
                registry.resolve("digits").read_manifest()
        path.write_bytes(intact)
    assert registry.verify() == []


def test_any_byte_of_journal_or_aliases_that_is_altered_is_found(registry, digits):
    random.seed(1)
    for path in (digits / "journal.jsonl", digits / "aliases.json"):
        intact = path.read_bytes()
        for index in {len(intact) - 1, *random.choices(range(len(intact)), k=20)}:
            path.write_bytes(intact[:index] + bytes([intact[index] ^ 1 << index % 8]) + intact[index + 1 :])
            assert found(registry, "digits"), (path, index)
        path.write_bytes(intact)


def add_link_into(digits):
    (digits / "1" / "link").symlink_to("/etc/hostname")


def add_linked_directory(digits):
    (digits / "1" / "more").symlink_to("/etc")


def replace_directory_by_link(digits):
    (digits / "1" / "variants").rename(digits.parent.parent / "variants")
    (digits / "1" / "variants").symlink_to(digits.parent.parent / "variants")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda d: (d / "1" / "model.tflite").unlink(), "model.tflite is missing"),
        (lambda d: (d / "1" / "model.tflite").write_bytes(b"evil!"), "has been altered"),
        (lambda d: (d / "1" / "extra").touch(), "none of the files that were published"),
        (lambda d: (d / "1" / ".hidden").mkdir() or (d / "1" / ".hidden" / "x").touch(), "none of the files"),
        (add_link_into, "none of the files"),
        (add_linked_directory, "none of the files"),
        (replace_directory_by_link, "none of the files"),
        (lambda d: (d / "1" / MANIFEST_FILE).unlink(), "cannot be read"),
        (lambda d: (d / "1" / MANIFEST_FILE).write_text("{}"), "altered since it was published"),
    ],
)
def test_each_file_that_is_not_what_was_published_is_told(registry, digits, damage, said):
    damage(digits)
    problems = registry.verify()
    assert {(problem.version, problem.kind, problem.can_be_repaired) for problem in problems} == {(1, "altered", False)}
    assert any(said in problem.message for problem in problems), problems
    assert registry.repair() == []
    assert registry.resolve("digits").check_files()
    with pytest.raises(ArtifactError):
        registry.get("digits", 1).check_files()


def test_every_altered_file_is_told(registry, digits):
    (digits / "1" / "model.tflite").write_bytes(b"evil!")
    (digits / "1" / "extra").touch()
    (digits / "3" / "variants" / "float32.tflite").unlink()
    assert found(registry) == [("digits", 1, "altered")] * 2 + [("digits", 3, "altered")]


def test_an_altered_journal_is_told_and_the_files_are_checked_all_the_same(registry, digits):
    journal = digits / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"version":2', b'"version":3'))
    (digits / "1" / "extra").touch()
    assert found(registry) == [("digits", None, "journal"), ("digits", 1, "altered")]
    for call in (registry.repair, registry.resolve, registry.versions):
        with pytest.raises(RegistryError, match="has been altered"):
            call("digits")
    assert registry.models() == ["digits", "letters"]


def test_without_its_journal_a_model_is_taken_in_again(registry, digits, artifact):
    (digits / "journal.jsonl").unlink()
    assert registry.models() == ["letters"] and registry.versions("digits") == []
    assert found(registry, "digits") == [("digits", n, "unknown") for n in (1, 2, 3)] + [("digits", None, "aliases")]
    registry.repair()
    assert registry.verify() == []
    assert registry.versions("digits") == [1, 2, 3] and registry.aliases("digits") == {}
    assert registry.publish(artifact, "digits").number == 4


# === Links ===


def test_a_model_that_is_a_link_is_refused(registry, digits, artifact, tmp_path):
    digits.rename(tmp_path / "elsewhere")
    digits.symlink_to(tmp_path / "elsewhere")
    before = read_tree(tmp_path / "elsewhere")
    assert registry.models() == ["letters"]
    assert found(registry) == [("digits", None, "link")]
    for call in (
        registry.resolve,
        registry.versions,
        registry.gc,
        registry.verify,
        registry.repair,
        lambda name: registry.publish(artifact, name),
        lambda name: registry.set_alias(name, "canary", 1),
    ):
        with pytest.raises(RegistryError, match="is a symbolic link"):
            call("digits")
    assert read_tree(tmp_path / "elsewhere") == before


def test_a_version_that_is_a_link_is_none(registry, digits):
    (digits / "4").symlink_to(digits / "1")
    (digits / "1").rename(digits.parent / "one")
    (digits / "1").symlink_to(digits.parent / "one")
    assert registry.versions("digits") == [2, 3]
    assert set(found(registry)) >= {("digits", 1, "link"), ("digits", 4, "link")}
    with pytest.raises(NotFoundError):
        registry.get("digits", 1)


@pytest.mark.parametrize("file", ["bmp", MANIFEST_FILE])
def test_a_manifest_behind_a_link_is_not_read(registry, digits, tmp_path, file):
    (digits / "2" / file).rename(tmp_path / "moved")
    (digits / "2" / file).symlink_to(tmp_path / "moved")
    with pytest.raises(ArtifactError, match="cannot be read"):
        registry.resolve("digits").read_manifest()


@pytest.mark.parametrize("file", ["journal.jsonl", ".lock", "aliases.json"])
def test_what_is_written_to_is_no_link(registry, digits, tmp_path, file):
    (digits / file).rename(tmp_path / "moved")
    (digits / file).symlink_to(tmp_path / "moved")
    before = (tmp_path / "moved").read_bytes()
    assert found(registry, "digits")
    try:
        registry.set_alias("digits", "production", 3)
    except RegistryError:
        assert file != "aliases.json"
    if file == ".lock":
        with pytest.raises(RegistryError, match="Run the repair again once it can"):
            registry.repair("digits")
    assert (tmp_path / "moved").read_bytes() == before  # aliases.json is replaced, the others are refused


# === What a crash leaves ===


def crash_before_the_line_of_a_publish(registry, digits):
    forget(digits / "journal.jsonl", is_publish(3))
    return [("digits", 3, "unknown")]


def crash_while_writing_a_line(registry, digits):
    with (digits / "journal.jsonl").open("ab") as file:
        file.write(b'{"event":"alias","alias":"prod')
    return [("digits", None, "cut")]


def crash_before_aliases_are_shown(registry, digits):
    (digits / "aliases.json").write_bytes(b'{"production": 1}\n')
    (digits / ".aliases.json-0123456789abcdef").write_bytes(b'{"production"')
    return [("digits", None, "aliases"), ("digits", None, "leftover")]


def crash_before_aliases_are_shown_for_the_first_time(registry, digits):
    (digits / "aliases.json").unlink()
    return [("digits", None, "aliases")]


def crash_while_staging(registry, digits):
    shutil.copytree(digits / "1", digits / ".staging-0123456789abcdef")
    return [("digits", None, "leftover")]


def crash_after_the_line_of_a_removal(registry, digits):
    shutil.copytree(digits / "1", digits.parent.parent / "kept")
    registry.gc("digits")
    (digits.parent.parent / "kept").rename(digits / "1")
    return [("digits", 1, "retired")]


def hand_that_removed_a_version(registry, digits):
    shutil.rmtree(digits / "3")
    return [("digits", 3, "lost")]


def bmp_of_before(registry, digits):
    journal = digits / "journal.jsonl"
    records = read_journal(journal)
    journal.unlink()
    for record in records:
        known = {key: record[key] for key in ("version", "alias", "previous") if key in record}
        append_event(journal, record["event"], **known)
    return [("digits", number, "unrecorded") for number in (1, 2, 3)]


@pytest.mark.parametrize(
    "crash",
    [
        crash_before_the_line_of_a_publish,
        crash_while_writing_a_line,
        crash_before_aliases_are_shown,
        crash_before_aliases_are_shown_for_the_first_time,
        crash_while_staging,
        crash_after_the_line_of_a_removal,
        hand_that_removed_a_version,
        bmp_of_before,
    ],
)
def test_what_a_crash_leaves_is_told_and_one_command_mends_it(registry, digits, artifact, crash):
    expected = crash(registry, digits)
    assert found(registry) == expected
    assert registry.resolve("digits").check_files() and registry.resolve("digits").number == 2
    problems = registry.verify()
    assert all(problem.can_be_repaired for problem in problems)
    assert registry.repair() == problems
    assert registry.verify() == []
    assert json.loads((digits / "aliases.json").read_bytes()) == registry.aliases("digits") == {"production": 2}
    assert registry.publish(artifact, "digits").number == 4
    assert registry.verify() == []


def test_until_it_is_taken_in_a_version_without_a_line_is_none(registry, digits):
    crash_before_the_line_of_a_publish(registry, digits)
    assert registry.versions("digits") == [1, 2]
    registry.repair("digits")
    assert registry.versions("digits") == [1, 2, 3]
    assert registry.history("digits")[-1].event == "adopt"
    assert registry.get("digits", 3).manifest_sha256


def test_a_version_that_is_not_whole_is_not_taken_in(registry, digits):
    crash_before_the_line_of_a_publish(registry, digits)
    (digits / "3" / "model.tflite").unlink()
    assert registry.repair() == []
    assert found(registry) == [("digits", 3, "unknown")]
    assert registry.versions("digits") == [1, 2]


def test_what_an_alias_names_is_not_given_up_for_lost(registry, digits):
    shutil.rmtree(digits / "2")
    assert found(registry) == [("digits", 2, "gone")]
    assert registry.repair() == []
    registry.rollback("digits")
    assert found(registry) == [("digits", 2, "lost")]
    registry.repair()
    assert registry.verify() == []


def test_what_another_process_is_staging_is_no_leftover(registry, artifact):
    from bmp.registry.directory import ModelDirectory

    with ModelDirectory(registry.root, "digits").stage() as staging:
        assert registry.verify() == registry.repair() == []
        registry.publish(artifact, "digits")
        assert staging.is_dir()
    assert not staging.exists()


def test_the_next_publication_clears_up_after_a_crash(registry, digits, artifact):
    crash_while_staging(registry, digits)
    registry.publish(artifact, "digits")
    assert registry.verify() == []


def test_a_registry_that_cannot_be_written_to_can_be_verified(registry, digits):
    for path in [registry.root, *registry.root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert registry.verify() == []
        with registry.lease(registry.resolve("digits")) as lease:
            assert lease.path == digits / "2"
    finally:
        for path in [registry.root, *registry.root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_problems_are_sentences(registry, digits):
    add_link_into(digits)
    crash_while_writing_a_line(registry, digits)
    for problem in registry.verify():
        assert str(digits) in problem.message and problem.message.endswith(".")


def test_an_error_of_the_system_says_what_state_it_leaves(registry, digits):
    (digits / "aliases.json").unlink()
    (digits / "aliases.json").mkdir()
    with pytest.raises(BmpError, match=r"names version 3 now, but .*'bmp models repair digits' writes it"):
        registry.set_alias("digits", "production", 3)
    assert registry.resolve("digits").number == 3
    (digits / "aliases.json").rmdir()
    registry.repair("digits")
    assert registry.verify() == []
