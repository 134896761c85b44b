import io
import json
import shutil

import pytest
from conftest import disk_that_holds
from small_artifact import make_artifact, read_tree

from bmp.artifact.manifest import MANIFEST_FILE, digest_file
from bmp.errors import ArtifactError, BmpError, ConfigError, RegistryError, UnsafeError
from bmp.registry import Registry
from bmp.registry.archive import export_version, import_archive
from bmp.registry.keys import read_private_key, read_public_keys, write_keys
from bmp.registry.signing import check_signature, sign_version
from bmp.registry.ustar import unpack, write_end, write_member


@pytest.fixture
def registry(tmp_path):
    """Version 2 of digits, described, tagged and signed."""
    registry = Registry(tmp_path / "registry")
    for _ in range(2):
        artifact = make_artifact(tmp_path / "artifact", b"model" * 200)
        (artifact / "assets").mkdir()
        version = registry.publish(artifact, "digits")
        shutil.rmtree(artifact)
    registry.describe("digits", 2, "Reads digits.\nNot for cheques.")
    registry.tag("digits", 2, "stage", "tested")
    write_keys(tmp_path / "k")
    sign_version(version, read_private_key(tmp_path / "k"), registry.signature_file("digits", 2))
    return registry


@pytest.fixture
def archive(registry, tmp_path):
    export_version(registry, registry.get("digits", 2), tmp_path / "digits.tar")
    return tmp_path / "digits.tar"


@pytest.fixture
def other(tmp_path):
    """A registry elsewhere, to import into, that holds something of the same name already."""
    other = Registry(tmp_path / "other")
    for content in (b"1", b"2", b"3"):
        other.publish(make_artifact(tmp_path / f"artifact{content.decode()}", content), "digits")
    return other


def accept(directory):
    """Nothing is wrong with the files."""


def snapshot(registry):
    return read_tree(registry.root) if registry.root.exists() else {}


def test_a_version_goes_elsewhere_with_all_that_is_known_of_it(registry, archive, other, tmp_path):
    version = import_archive(other, archive, check=accept)
    assert (version.name, version.number) == ("digits", 4)
    assert read_tree(version.path) == read_tree(registry.get("digits", 2).path)
    assert (version.path / "assets").is_dir()
    assert other.metadata("digits", 4) == registry.metadata("digits", 2)
    keys = read_public_keys(tmp_path / "k.pub")
    assert check_signature(version, other.signature_file("digits", 4), keys).version == 2
    origin = f"digits.tar (SHA-256 {digest_file(archive).sha256}), which held digits/2"
    assert other.history("digits")[3].origin == origin
    assert other.verify() == []


def test_the_same_version_makes_the_same_bytes(registry, archive, other, tmp_path):
    entry = export_version(registry, registry.get("digits", 2), tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    assert entry == digest_file(archive)
    version = import_archive(other, archive, check=accept)
    export_version(other, version, tmp_path / "back.tar")
    first, back = unpack_all(archive, tmp_path / "a"), unpack_all(tmp_path / "back.tar", tmp_path / "b")
    assert {name for name in first if first[name] != back[name]} == {"bmp-archive.json"}  # its number alone


def test_under_another_name_it_is_not_signed(archive, other):
    version = import_archive(other, archive, "letters", check=accept)
    assert (version.name, version.number) == ("letters", 1)
    assert not other.signature_file("letters", 1).exists()
    assert other.metadata("letters", 1).tags == {"stage": "tested"}


def test_a_version_of_which_nobody_said_anything(registry, other, tmp_path):
    export_version(registry, registry.get("digits", 1), tmp_path / "plain.tar")
    version = import_archive(other, tmp_path / "plain.tar", check=accept)
    assert other.metadata("digits", version.number).tags == {}
    assert not other.signature_file("digits", version.number).exists()


@pytest.mark.parametrize("name", ["digits.tgz", "digits", "", "."])
def test_a_name_that_is_none_of_a_tar_is_refused(registry, tmp_path, name):
    with pytest.raises(ConfigError, match=r"ends in \.tar"):
        export_version(registry, registry.get("digits", 1), tmp_path / name)


def test_an_altered_version_is_not_exported(registry, tmp_path):
    (registry.get("digits", 1).path / "model.tflite").write_bytes(b"x")
    with pytest.raises(ArtifactError, match="has been altered"):
        export_version(registry, registry.get("digits", 1), tmp_path / "t.tar")
    assert not (tmp_path / "t.tar").exists()


def test_a_full_disk_leaves_the_file_that_was_there(registry, archive):
    before = archive.read_bytes()
    with disk_that_holds(2000), pytest.raises(RegistryError, match="cannot be written: File too large"):
        export_version(registry, registry.get("digits", 2), archive)
    assert archive.read_bytes() == before
    assert [path.name for path in archive.parent.glob(".digits*")] == []


# === What is refused ===


def unpack_all(archive, directory):
    directory.mkdir()
    with archive.open("rb") as file:
        unpack(file, archive, directory)
    return read_tree(directory)


def rewrite(archive, change, directory):
    """Writes an archive anew after `change(files)` of its bytes by name."""
    files = unpack_all(archive, directory)
    change(files)
    with archive.open("wb") as file:
        for name, content in files.items():
            write_member(file, name, io.BytesIO(content))
        write_end(file)


def put(name, content):
    return lambda files: files.update({name: content})


def drop(name):
    return lambda files: files.pop(name)


def edit(name, **changes):
    def change(files):
        files[name] = json.dumps(json.loads(files[name]) | changes).encode()

    return change


MANIFEST = f"version/{MANIFEST_FILE}"


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        (put("version/model.tflite", b"evil"), ArtifactError, "digits.tar: version/model.tflite has been altered"),
        (put("version/extra", b""), ArtifactError, "files its manifest does not list"),
        (drop("version/model.tflite"), ArtifactError, "digits.tar: version/model.tflite is missing"),
        (drop(MANIFEST), ArtifactError, "version is no artifact"),
        (put(MANIFEST, b"{}"), ArtifactError, "schema version"),
        (edit(MANIFEST, max_drop=1), ArtifactError, "manifest in .* is not the one that was exported"),
        (put("evil.py", b""), UnsafeError, "evil.py, which is no part of a version"),
        (put("version.txt", b""), UnsafeError, "version.txt, which is no part"),
        (put("bmp-archive.json", b" " * (16 * 2**20 + 1)), UnsafeError, "16,777,217 bytes"),
        (put(MANIFEST, b" " * (16 * 2**20 + 1)), UnsafeError, "16,777,217 bytes"),
        (drop("bmp-archive.json"), ArtifactError, "holds no bmp-archive.json; expected what 'bmp models export'"),
        (drop("metadata.json"), ArtifactError, "holds no metadata.json"),
        (put("bmp-archive.json", b"[" * 100_000), ArtifactError, "bmp-archive.json in .* cannot be understood"),
        (edit("bmp-archive.json", model="../up"), ConfigError, "no model name"),
        (edit("bmp-archive.json", version=0), ArtifactError, "cannot be understood"),
        (edit("bmp-archive.json", schema_version=2), ArtifactError, "cannot be understood"),
        (edit("metadata.json", tags={"A B": "x"}), ArtifactError, "metadata.json in .* is no key of a tag"),
        (edit("metadata.json", description=5), ArtifactError, "cannot be understood"),
        (put("signatures.json", b"{"), ArtifactError, "digits.tar: The file of signatures signatures.json is damaged"),
    ],
)
def test_what_was_altered_is_refused_and_leaves_nothing(archive, other, tmp_path, change, kind, says):
    rewrite(archive, change, tmp_path / "files")
    before = snapshot(other)
    with pytest.raises(kind, match=says) as refused:
        import_archive(other, archive, check=accept)
    assert "/tmp/bmp-import-" not in str(refused.value)
    assert snapshot(other) == before


def test_files_that_could_do_harm_are_refused_and_leave_nothing(archive, other):
    def refuse(directory):
        assert (directory / "model.tflite").is_file()
        raise UnsafeError(f"{directory / 'model.tflite'} runs code.")

    before = snapshot(other)
    with pytest.raises(UnsafeError, match=r"digits\.tar: version/model\.tflite runs code\."):
        import_archive(other, archive, check=refuse)
    assert snapshot(other) == before


@pytest.mark.parametrize(("name", "says"), [("missing.tar", "There is no file"), (".", "is no plain file")])
def test_what_is_no_file_is_told(other, tmp_path, name, says):
    with pytest.raises(RegistryError, match=says):
        import_archive(other, tmp_path / name, check=accept)


def test_every_flipped_byte_is_found_or_harmless(archive, registry, tmp_path):
    """What is published from an archive with a flipped byte is the version itself, or nothing."""
    data = archive.read_bytes()
    expected = read_tree(registry.get("digits", 2).path)
    target = Registry(tmp_path / "target")
    for place in range(0, len(data), 397):
        archive.write_bytes(data[:place] + bytes([data[place] ^ 0x20]) + data[place + 1 :])
        try:
            version = import_archive(target, archive, check=accept)
        except BmpError:
            continue
        assert read_tree(version.path) == expected
