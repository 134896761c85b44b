"""Keys of encrypted records: 32 bytes, in a file or in an environment variable."""

import base64
import binascii
import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from bmp.errors import ConfigError, DataError

KEY_BYTES = 32
KEY_VARIABLE = "BMP_DATA_KEY"


def read_key(key_file: str | None) -> bytes | None:
    """Returns the key in a file, or in the environment where no file is named; None where there is neither.

    A key is 32 bytes, written as 64 hexadecimal digits or as base64; a file may also hold the bare bytes.

    Raises:
        ConfigError: There is no such file, or what it holds is no key.
    """
    if key_file is None:
        text = os.environ.get(KEY_VARIABLE, "")
        return _parse_key(text.encode(), f"The environment variable {KEY_VARIABLE}") if text else None
    try:
        raw = Path(key_file).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The key file {key_file} cannot be read: {error.strerror or error}. "
            f"Make a new key with 'bmp data keygen {key_file}'.",
            expected="a file with a key",
            received=key_file,
        ) from error
    return raw if len(raw) == KEY_BYTES else _parse_key(raw, f"The key file {key_file}")


def _parse_key(raw: bytes, where: str) -> bytes:
    text = raw.strip()
    for read in (bytes.fromhex, lambda text: base64.b64decode(text, validate=True)):
        try:
            key = read(text.decode("ascii"))
        except (ValueError, binascii.Error):
            continue
        if len(key) == KEY_BYTES:
            return key
    raise ConfigError(
        f"{where} holds no key: expected {KEY_BYTES} bytes as {KEY_BYTES * 2} hexadecimal digits or as base64. "
        "Make one with 'bmp data keygen FILE'.",
        expected=f"{KEY_BYTES} bytes",
        received=f"{len(text)} characters",
    )


def write_key(path: Path) -> None:
    """Writes a new random key that only its owner can read.

    Raises:
        ConfigError: There is such a file already: a key that records were written with cannot be had again.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigError(
            f"{path} exists already, and a key that is overwritten is lost with all its records. Name another file."
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def find_readers(key_file: str) -> str:
    """Returns a sentence where others than the owner can read a key file, or an empty string."""
    mode = Path(key_file).stat().st_mode & 0o777
    return f"{key_file} can be read by others (mode {mode:o}); run 'chmod 600 {key_file}'." if mode & 0o077 else ""


def derive_key(key: bytes, purpose: str, dataset: str) -> bytes:
    """Returns a key for one purpose in one set of records: no two of them share one.

    Reference:
        HKDF with one block of output; Krawczyk, RFC 5869, 2010.
    """
    secret = hmac.digest(dataset.encode(), key, sha256)
    return hmac.digest(secret, f"bmp records {purpose}".encode() + b"\x01", sha256)


def check_key(key: bytes | None, written: str | None, dataset: str, where: Path) -> None:
    """Checks that a key is the one a set of records was written with.

    Args:
        key: The one that was given.
        written: The check value in the description of the records; None where they are not encrypted.
        dataset: Identity of the records.
        where: Their directory, for the error.

    Raises:
        DataError: It is another one, or there is none.
    """
    if written is None:
        return
    if key is None:
        raise DataError(
            f"The records in {where} are encrypted. Name the file of their key as key_file, or set {KEY_VARIABLE}."
        )
    if not hmac.compare_digest(derive_key(key, "check", dataset).hex(), written):
        raise DataError(f"This key is not the one the records in {where} were written with.")
