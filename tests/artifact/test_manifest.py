import json
import os
import re
from datetime import UTC, datetime

import pytest

from bmp.artifact.manifest import (
    MANIFEST_FILE,
    Imported,
    Lineage,
    Manifest,
    Variant,
    check_file,
    check_files,
    digest_file,
    digest_files,
    read_manifest,
    write_manifest,
)
from bmp.errors import ArtifactError
from bmp.signature import Signature, TensorSpec
from tests.measurements import make_measurement

SIGNATURE = Signature((TensorSpec("image", "float32", (8, 8)),), (TensorSpec("probabilities", "float32", (2,)),))
MEASURED = make_measurement(0.98, test_score=1 / 3, max_abs_diff=1e-7, sparsity=0.8, latency_batch1_ms=0.01)


@pytest.fixture
def artifact(tmp_path):
    """A directory of a few files, and the manifest that lists them."""
    directory = tmp_path / "artifact"
    (directory / "variants").mkdir(parents=True)
    (directory / "model.tflite").write_bytes(b"recommended")
    (directory / "variants" / "float32.tflite").write_bytes(b"uncompressed")
    (directory / "empty").write_bytes(b"")
    manifest = Manifest(
        schema_version=1,
        name="digits",
        created=datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        signature=SIGNATURE.to_dict(),
        labels=("zero", "one"),
        recommended="int8",
        max_drop=0.01,
        variants=(
            Variant(name="float32", file="variants/float32.tflite", verdict="passed", measured=MEASURED),
            Variant(name="pruned", file=None, verdict="refused: too bad", measured=MEASURED),
            Variant(name="int8", file="model.tflite", verdict="recommended: small", measured=MEASURED),
        ),
        lineage=Lineage(
            recipe_sha256="a" * 64,
            data_sha256="b" * 64,
            parent_version=None,
            code_version="0.1.0",
            packages={"numpy": "2"},
            machine="x86_64, 2 cores",
        ),
        files=digest_files(directory),
    )
    write_manifest(manifest, directory)
    return directory


@pytest.fixture
def change(artifact):
    """`change(field=value)` writes other values into the manifest's JSON."""

    def write(**values):
        tree = json.loads((artifact / MANIFEST_FILE).read_text())
        tree.update(values)
        (artifact / MANIFEST_FILE).write_text(json.dumps(tree))

    return write


def test_comes_back_as_it_was_written(artifact):
    manifest = read_manifest(artifact)
    written = (artifact / MANIFEST_FILE).read_bytes()
    write_manifest(manifest, artifact)
    assert (artifact / MANIFEST_FILE).read_bytes() == written
    assert read_manifest(artifact) == manifest
    assert manifest.parsed_signature() == SIGNATURE
    assert manifest.created == datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    assert manifest.variant("float32").measured == MEASURED


def test_one_without_scores_or_recipe_comes_back_with_what_it_was_imported_from(artifact):
    imported = Imported(
        format="h5",
        file="net.h5",
        sha256="c" * 64,
        size_bytes=7,
        engine="tf_keras 2.21.0",
        trusted=False,
        confined=True,
        samples="32 random examples, seed 0",
        differences={"litert": 1e-7},
        left_out={"saved_model": "why"},
    )
    manifest = read_manifest(artifact)
    unscored = MEASURED.model_copy(update={"validation_score": None, "test_score": None})
    variant = Variant(name="int8", file="model.tflite", verdict="recommended", measured=unscored)
    lineage = Lineage(parent_version=None, code_version="0.1.0", packages={}, machine="", imported=imported)
    changed = manifest.model_copy(update={"variants": (variant,), "lineage": lineage})
    write_manifest(changed, artifact)
    assert read_manifest(artifact) == changed


def test_lists_every_file_but_itself(artifact):
    assert set(read_manifest(artifact).files) == {"model.tflite", "variants/float32.tflite", "empty"}


def test_a_variant_the_manifest_does_not_list_is_refused(artifact):
    with pytest.raises(ArtifactError, match=re.escape("no variant 'int4'; it lists float32, pruned, int8")):
        read_manifest(artifact).variant("int4")


def test_an_untouched_artifact_passes(artifact):
    manifest = read_manifest(artifact)
    check_files(artifact, manifest)
    assert check_file(artifact, manifest, "model.tflite") == artifact / "model.tflite"


def flip_a_bit(artifact):
    content = bytearray((artifact / "model.tflite").read_bytes())
    content[3] ^= 1
    (artifact / "model.tflite").write_bytes(content)


DAMAGE = {
    "altered": (flip_a_bit, "model.tflite has been altered"),
    "cut short": (lambda a: os.truncate(a / "model.tflite", 5), "model.tflite has been altered"),
    "no longer empty": (lambda a: (a / "empty").write_bytes(b"x"), "empty has been altered"),
    "missing": (lambda a: (a / "variants" / "float32.tflite").unlink(), "float32.tflite is missing"),
    "extra": (lambda a: (a / "extra.txt").touch(), "does not list: extra.txt"),
    "extra below": (lambda a: (a / "bmp" / "extra.txt").touch(), "does not list: bmp/extra.txt"),
    "hidden": (lambda a: (a / ".hidden").touch(), "does not list: .hidden"),
    "link to a file": (lambda a: (a / "link").symlink_to(a / "empty"), "link is neither a plain file nor"),
    "link to a directory": (lambda a: (a / "link").symlink_to("/tmp"), "link is neither a plain file nor"),
    "dangling link": (lambda a: (a / "link").symlink_to("nowhere"), "link is neither a plain file nor"),
    "pipe": (lambda a: os.mkfifo(a / "pipe"), "pipe is neither a plain file nor"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found(artifact, damage, message):
    manifest = read_manifest(artifact)
    damage(artifact)
    with pytest.raises(ArtifactError, match=re.escape(message)):
        check_files(artifact, manifest)


def test_a_link_in_place_of_a_file_is_found_even_with_the_same_bytes(artifact):
    manifest = read_manifest(artifact)
    (artifact / "model.tflite").rename(artifact.parent / "elsewhere")
    (artifact / "model.tflite").symlink_to(artifact.parent / "elsewhere")
    for check in (check_files, lambda *known: check_file(*known, "model.tflite")):
        with pytest.raises(ArtifactError):
            check(artifact, manifest)


@pytest.mark.parametrize(
    "relative", ["../secret", "/etc/passwd", "bmp/manifest.json", "variants", "", "./model.tflite"]
)
def test_only_a_listed_file_can_be_asked_for(artifact, relative):
    (artifact.parent / "secret").write_bytes(b"secret")
    with pytest.raises(ArtifactError, match=re.escape(f"lists no file '{relative}'")):
        check_file(artifact, read_manifest(artifact), relative)


def test_a_manifest_that_lists_a_file_outside_is_refused(artifact, change):
    outside = artifact.parent / "secret"
    outside.write_bytes(b"secret")
    files = {name: entry.model_dump() for name, entry in read_manifest(artifact).files.items()}
    change(files={**files, "../secret": digest_file(outside).model_dump()})
    with pytest.raises(ArtifactError):
        check_files(artifact, read_manifest(artifact))


def test_the_message_says_which_digest_was_expected(artifact):
    manifest = read_manifest(artifact)
    flip_a_bit(artifact)
    with pytest.raises(ArtifactError) as caught:
        check_file(artifact, manifest, "model.tflite")
    assert manifest.files["model.tflite"].sha256 in caught.value.expected
    assert digest_file(artifact / "model.tflite").sha256 in caught.value.received


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5])
def test_a_schema_of_another_version_is_not_guessed_at(artifact, change, version):
    change(schema_version=version)
    with pytest.raises(ArtifactError, match=re.escape(f"has schema version {version}; this bmp reads version 1")):
        read_manifest(artifact)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2", b"\xff\xfe", b"{}", b"[]", b"null", b"1"])
def test_a_manifest_that_cannot_be_read_is_damaged(artifact, content):
    (artifact / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match=re.escape(MANIFEST_FILE)):
        read_manifest(artifact)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_manifest_cut_short_is_damaged(artifact, keep):
    content = (artifact / MANIFEST_FILE).read_bytes()
    (artifact / MANIFEST_FILE).write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ArtifactError, match="the artifact is damaged"):
        read_manifest(artifact)


@pytest.mark.parametrize(
    "values",
    [
        {"name": None},
        {"files": {"model.tflite": {"sha256": "x"}}},
        {"files": []},
        {"variants": [{"name": "int8"}]},
        {"signature": {"inputs": []}},
        {"signature": {"inputs": None, "outputs": None}},
        {"signature": {"inputs": [{"name": "x", "dtype": "nonsense", "shape": []}], "outputs": []}},
        {"recommended": "int4"},
        {"created": "yesterday"},
        {"unknown_field": 1},
    ],
)
def test_a_manifest_with_a_wrong_field_is_damaged(artifact, change, values):
    change(**values)
    with pytest.raises(ArtifactError):
        read_manifest(artifact)


def test_a_directory_without_a_manifest_is_no_artifact(tmp_path):
    with pytest.raises(ArtifactError, match=r"is no artifact: it has no bmp/manifest\.json"):
        read_manifest(tmp_path)


def test_digests_are_sha256_and_size(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert digest_file(tmp_path / "file").model_dump() == {
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "size_bytes": 3,
    }


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/hostname")])
def test_only_a_plain_file_is_a_manifest(artifact, make):
    (artifact / MANIFEST_FILE).unlink()
    make(artifact / MANIFEST_FILE)
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_manifest(artifact)
