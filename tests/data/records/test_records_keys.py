import base64
import os

import pytest
from record_sets import KEY

from bmp.data.records.keys import KEY_VARIABLE, derive_key, find_readers, read_key, write_key
from bmp.errors import ConfigError


@pytest.mark.parametrize(
    "content", [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n", base64.b64encode(KEY)]
)
def test_a_key_is_read_as_text_or_bytes(content, tmp_path):
    (tmp_path / "key").write_bytes(content)
    assert read_key(str(tmp_path / "key")) == KEY


def test_a_file_goes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(None) is None
    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(KEY).decode())
    assert read_key(None) == KEY
    write_key(tmp_path / "key")
    assert read_key(str(tmp_path / "key")) not in (None, KEY)


@pytest.mark.parametrize("content", [b"", b"secret", KEY[:31], KEY.hex().encode()[:-2], b"\xff" * 40, KEY + b"\n"])
def test_what_is_no_key_is_refused_without_being_shown(content, tmp_path, monkeypatch):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigError, match="holds no key: expected 32 bytes") as caught:
        read_key(str(tmp_path / "key"))
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with pytest.raises(ConfigError, match=f"The environment variable {KEY_VARIABLE} holds no key"):
        read_key(None)


def test_a_missing_key_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigError, match="bmp data keygen"):
        read_key(str(tmp_path / "key"))


def test_a_new_key_is_its_owners_alone_and_never_overwrites(tmp_path):
    path = tmp_path / "key"
    write_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert find_readers(str(path)) == ""
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        write_key(path)
    assert path.read_bytes() == before
    os.chmod(path, 0o644)  # noqa: PTH101
    assert "chmod 600" in find_readers(str(path))
    with pytest.raises(ConfigError, match="cannot be written"):
        write_key(tmp_path / "missing" / "key")


def test_each_purpose_and_each_set_has_a_key_of_its_own():
    derived = {derive_key(KEY, purpose, name) for purpose in ("encryption", "check") for name in ("a", "b")}
    assert len(derived) == 4 and KEY not in derived


def test_derived_keys_are_those_of_hkdf():
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    assert derive_key(KEY, "check", "set") == HKDF(SHA256(), 32, b"set", b"bmp records check").derive(KEY)
