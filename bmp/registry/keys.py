"""Keys that versions are signed with: Ed25519, as PEM files; a private one, and its public twin `<name>.pub`."""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from bmp.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ADVICE = "make a pair with 'bmp models keygen FILE'"
_MAX_BYTES = 2**16
"""Of a key file; a longer one is none."""

PublicKeys = Mapping[str, "Ed25519PublicKey"]
"""Keys that are trusted, by `key_id`."""


def write_keys(path: Path) -> str:
    """Writes a new private key that only its owner can read, and the public one beside it as `<name>.pub`.

    Returns:
        The `key_id`.

    Raises:
        ConfigError: There is such a file already, or none can be written there.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = path.with_name(f"{path.name}.pub")
    if public.exists():
        raise ConfigError(f"{public} exists already; name another file, or remove it first.")
    _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
    return key_id(key.public_key())


def key_id(key: "Ed25519PublicKey") -> str:
    """Returns what a key is called in signatures and messages."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_private_key(path: Path) -> "Ed25519PrivateKey":
    """Reads a private key, as `write_keys` writes it.

    Raises:
        ConfigError: There is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = _read_key_file(path)
    if b"PUBLIC KEY" in raw:
        raise ConfigError(f"{path} holds a public key; signing takes the private one, which has no '.pub' in its name.")
    try:
        key = load_pem_private_key(raw, None)
    except TypeError as error:  # as cryptography has it
        raise ConfigError(f"{path} is protected by a password, which bmp does not ask for; {_ADVICE}.") from error
    except ValueError as error:
        raise _explain_no_key(path, "private") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _explain_no_key(path, "private")
    return key


def read_public_keys(path: Path) -> PublicKeys:
    """Reads the keys that are trusted: one file, or every `*.pub` of a directory.

    Raises:
        ConfigError: There is none, or a file holds something else.
    """
    files = sorted(path.glob("*.pub")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"The directory {path} holds no public key; expected files that end in .pub, or {_ADVICE}.")
    return {key_id(key): key for key in map(_read_public_key, files)}


def _read_public_key(path: Path) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    raw = _read_key_file(path)
    if b"PRIVATE KEY" in raw:
        raise ConfigError(f"{path} holds a private key, which should never leave its owner; name its '.pub' here.")
    try:
        key = load_pem_public_key(raw)
    except ValueError as error:
        raise _explain_no_key(path, "public") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _explain_no_key(path, "public")
    return key


def _explain_no_key(path: Path, kind: str) -> ConfigError:
    return ConfigError(
        f"{path} holds no {kind} Ed25519 key in PEM form; {_ADVICE}.",
        expected=f"a {kind} Ed25519 key",
        received=str(path),
    )


def _read_key_file(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise FileNotFoundError(2, os.strerror(2))
        with path.open("rb") as file:
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"The key file {path} cannot be read: {error.strerror or error}; {_ADVICE}.",
            expected="a file with a key",
            received=str(path),
        ) from error


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigError(
            f"{path} exists already, and a key that is overwritten cannot be had again. Name another file."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
