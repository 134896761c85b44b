import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from bmp.errors import ConfigError
from bmp.registry.keys import key_id, read_private_key, read_public_keys, write_keys


@pytest.fixture
def key(tmp_path):
    write_keys(tmp_path / "k")
    return tmp_path / "k"


def test_a_pair_is_written_once_and_the_private_one_is_for_its_owner_alone(tmp_path):
    name = write_keys(tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert key_id(read_private_key(tmp_path / "k").public_key()) == name
    assert list(read_public_keys(tmp_path / "k.pub")) == [name]
    before = (tmp_path / "k").read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        write_keys(tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == before


def test_a_public_key_that_is_there_leaves_no_private_one(tmp_path):
    (tmp_path / "k.pub").touch()
    with pytest.raises(ConfigError, match="exists already"):
        write_keys(tmp_path / "k")
    assert not (tmp_path / "k").exists()


def test_a_place_that_is_none_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot be written: No such file"):
        write_keys(tmp_path / "missing" / "k")


def test_every_public_key_of_a_directory_is_trusted(tmp_path):
    names = {write_keys(tmp_path / name) for name in ("a", "b")}
    assert set(read_public_keys(tmp_path)) == names
    (tmp_path / "c.pub").write_text("no key")
    with pytest.raises(ConfigError, match=r"c\.pub holds no public Ed25519 key"):
        read_public_keys(tmp_path)


def write_other_keys(directory):
    """Files that hold something else than a key of ours, by what is said of them."""
    other = rsa.generate_private_key(65537, 2048)
    locked = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (directory / "rsa").write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _no_encryption()))
    (directory / "rsa.pub").write_bytes(
        other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (directory / "locked").write_bytes(locked)
    (directory / "text").write_text("hello")


def _no_encryption():
    from cryptography.hazmat.primitives.serialization import NoEncryption

    return NoEncryption()


def test_what_is_no_key_is_told_apart(tmp_path, key):
    write_other_keys(tmp_path)
    for name, says in {
        "rsa": "no private Ed25519 key",
        "text": "no private Ed25519 key",
        "locked": "protected by a password",
        "k.pub": "holds a public key",
        "missing": "No such file",
        ".": "No such file",
    }.items():
        with pytest.raises(ConfigError, match=says):
            read_private_key(tmp_path / name)
    for name, says in {"rsa.pub": "no public Ed25519 key", "text": "no public", "k": "holds a private key"}.items():
        with pytest.raises(ConfigError, match=says):
            read_public_keys(tmp_path / name)


def test_a_directory_without_keys_trusts_nobody(tmp_path):
    with pytest.raises(ConfigError, match="holds no public key"):
        read_public_keys(tmp_path)
