import json
import os
import shutil

import pytest
from small_artifact import make_artifact, read_tree

from bmp.artifact.manifest import MANIFEST_FILE
from bmp.errors import ArtifactError
from bmp.registry import Registry
from bmp.registry.keys import read_private_key, read_public_keys, write_keys
from bmp.registry.signing import check_signature, copy_signed, read_signatures, sign_version


@pytest.fixture
def registry(tmp_path):
    """Two versions of digits, not alike, and one of letters, which is the first of digits once more."""
    registry = Registry(tmp_path / "registry")
    first = make_artifact(tmp_path / "first", b"one")
    registry.publish(first, "digits")
    registry.publish(make_artifact(tmp_path / "second", b"two"), "digits")
    registry.publish(first, "letters")
    return registry


@pytest.fixture
def keys(tmp_path):
    for name in ("ours", "theirs"):
        write_keys(tmp_path / name)
    return tmp_path


def sign(registry, keys, name="digits", number=1, key="ours"):
    return sign_version(registry.get(name, number), read_private_key(keys / key), registry.signature_file(name, number))


def check(registry, keys, name="digits", number=1, key="ours.pub"):
    return check_signature(
        registry.get(name, number), registry.signature_file(name, number), read_public_keys(keys / key)
    )


def test_what_is_signed_is_found_signed(registry, keys):
    before = read_tree(registry.get("digits", 1).path)
    signed = sign(registry, keys)
    assert check(registry, keys) == signed
    assert read_tree(registry.get("digits", 1).path) == before
    assert registry.verify() == []
    assert check(registry, keys, key=".") == signed


def test_the_message_says_what_for(registry, keys):
    lines = sign(registry, keys).to_message().decode().splitlines()
    assert lines[:3] == ["bmp-manifest-v1", "digits", "1"] and len(lines[3]) == 64 and len(lines) == 4


def test_two_keys_may_sign_and_one_signs_anew(registry, keys):
    first, second = sign(registry, keys), sign(registry, keys, key="theirs")
    assert sign(registry, keys) == first
    assert read_signatures(registry.signature_file("digits", 1)).signatures == (second, first)
    assert check(registry, keys) == first
    assert check(registry, keys, key="theirs.pub") == second


def test_a_version_that_nobody_signed(registry, keys):
    with pytest.raises(ArtifactError, match=r"digits/1 is not signed\. Sign it with 'bmp models sign digits/1 --key"):
        check(registry, keys)


def test_a_key_that_is_not_trusted(registry, keys):
    signed = sign(registry, keys, key="theirs")
    with pytest.raises(ArtifactError, match=f"digits/1 is signed by key {signed.key_id}, but only key .* would do"):
        check(registry, keys)


def change_manifest(version, old=b'"max_drop": 0.01', new=b'"max_drop": 0.99'):
    file = version.path / MANIFEST_FILE
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new))


def test_an_altered_manifest(registry, keys):
    sign(registry, keys)
    change_manifest(registry.get("digits", 1))
    with pytest.raises(ArtifactError, match="The manifest of digits/1 has been altered since key"):
        check(registry, keys)


def test_the_signature_of_another_version(registry, keys):
    sign(registry, keys)
    shutil.copy(registry.signature_file("digits", 1), registry.signature_file("digits", 2))
    with pytest.raises(ArtifactError, match="The signature of digits/2 was made for digits/1, another version"):
        check(registry, keys, number=2)


def test_the_signature_of_another_model_with_the_same_manifest(registry, keys):
    sign(registry, keys)
    registry.signature_file("letters", 1).parent.mkdir()
    shutil.copy(registry.signature_file("digits", 1), registry.signature_file("letters", 1))
    with pytest.raises(ArtifactError, match="The signature of letters/1 was made for digits/1, another model"):
        check(registry, keys, name="letters")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "letters"),
        ("version", 2),
        ("manifest_sha256", "0" * 64),
        ("signature", "AAAA"),
        ("signature", "not base64"),
        ("signature", ""),
    ],
)
def test_a_signature_that_was_altered_or_made_up(registry, keys, field, value):
    sign(registry, keys)
    file = registry.signature_file("digits", 1)
    document = json.loads(file.read_text())
    document["signatures"][0][field] = value
    file.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="The signature of digits/1 was not made by key"):
        check(registry, keys)


def test_a_signature_under_the_name_of_another_key(registry, keys):
    theirs = sign(registry, keys, key="theirs").key_id
    (ours,) = read_public_keys(keys / "ours.pub")
    file = registry.signature_file("digits", 1)
    file.write_text(file.read_text().replace(theirs, ours))
    with pytest.raises(ArtifactError, match=f"was not made by key {ours}"):
        check(registry, keys)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"schema_version": 2, "signatures": []}', b"[" * 100_000, b'{"signatures": [{"model": "a"}]}'],
)
def test_a_file_that_holds_no_signatures(registry, keys, content):
    file = registry.signature_file("digits", 1)
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        check(registry, keys)


def test_a_file_without_a_signature(registry, keys):
    file = registry.signature_file("digits", 1)
    file.parent.mkdir()
    file.write_text('{"signatures": []}')
    with pytest.raises(ArtifactError, match="signed by no key"):
        check(registry, keys)


def test_what_is_no_plain_file_is_not_read(registry, keys):
    file = registry.signature_file("digits", 1)
    file.parent.mkdir()
    os.mkfifo(file)
    with pytest.raises(ArtifactError, match="no file of signatures"):
        check(registry, keys)
    file.unlink()
    file.symlink_to("elsewhere")
    with pytest.raises(ArtifactError, match="no file of signatures"):
        check(registry, keys)


def test_an_altered_version_is_not_signed(registry, keys):
    (registry.get("digits", 1).path / "model.tflite").write_bytes(b"uno")
    with pytest.raises(ArtifactError, match="has been altered"):
        sign(registry, keys)
    assert not registry.signature_file("digits", 1).exists()


# === A copy to load from ===


def copy(registry, keys, number=1):
    version = registry.get("digits", number)
    file = registry.signature_file("digits", number)
    return copy_signed(version, file, read_public_keys(keys / "ours.pub"))


def test_what_is_signed_is_copied_where_nobody_else_writes(registry, keys):
    sign(registry, keys)
    version = registry.get("digits", 1)
    before = read_tree(version.path)
    with copy(registry, keys) as copied:
        assert copied.path.stat().st_mode & 0o777 == 0o700
        (version.path / "model.tflite").write_bytes(b"changed meanwhile")
        assert read_tree(copied.path) == before
        assert (copied.name, copied.number) == ("digits", 1)
    assert not copied.path.exists()


def test_no_file_that_was_altered_is_copied(registry, keys):
    sign(registry, keys)
    file = registry.get("digits", 1).path / "model.tflite"
    for content in (b"uno", b"one more"):
        file.write_bytes(content)
        with pytest.raises(ArtifactError, match="has been altered"), copy(registry, keys):
            pytest.fail("it was copied")
    file.unlink()
    file.symlink_to("variants/float32.tflite")
    with pytest.raises(ArtifactError, match="is missing"), copy(registry, keys):
        pytest.fail("it was copied")


def test_every_flipped_bit_of_the_manifest_is_found(registry, keys):
    sign(registry, keys)
    file = registry.get("digits", 1).path / MANIFEST_FILE
    data = bytearray(file.read_bytes())
    for place in range(0, len(data) * 8, 97):
        data[place // 8] ^= 1 << place % 8
        file.write_bytes(data)
        with pytest.raises(ArtifactError), copy(registry, keys):
            pytest.fail("it was copied")
        data[place // 8] ^= 1 << place % 8


def test_there_is_one_way_to_write_a_signature(registry, keys):
    signed = sign(registry, keys).signature
    file = registry.signature_file("digits", 1)
    last = signed[-3]  # only the first two bits of it count
    file.write_text(file.read_text().replace(signed, f"{signed[:-3]}{chr(ord(last) + 1)}=="))
    with pytest.raises(ArtifactError, match="was not made by key"):
        check(registry, keys)
