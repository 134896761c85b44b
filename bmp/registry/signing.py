"""Signatures of versions: Ed25519 over the digest of the manifest, which holds the digest of every file.

What is signed is a text of four lines, so that no other program's signature can stand in for it:

    bmp-manifest-v1
    <model>
    <version>
    <SHA-256 of bmp/manifest.json, 64 hexadecimal digits>

The model is binding: a signed version is worth nothing under another name. The number only tells where it was signed,
so that a version keeps its signature in another registry, where it gets another number; which version is served is for
the aliases to say, and these anybody can move who can write the registry.

Reference:
    Josefsson and Liusvaara, Edwards-Curve Digital Signature Algorithm, RFC 8032, 2017.
"""

import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bmp.artifact.manifest import MANIFEST_FILE, check_file, check_files
from bmp.errors import ArtifactError
from bmp.names import NAME_PATTERN
from bmp.registry.keys import PublicKeys, key_id
from bmp.registry.version import Version
from bmp.storage import read_plain, write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_DOMAIN = "bmp-manifest-v1"
_MAX_BYTES = 2**20
"""Of a file of signatures; a longer one is none."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Signature(_Entry):
    """What one key signed."""

    key_id: str
    """The first 16 hexadecimal digits of the SHA-256 of the public key."""
    model: str = Field(pattern=f"^{NAME_PATTERN}$")
    version: int = Field(ge=1)
    """Its number when it was signed."""
    manifest_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    signature: str
    """64 bytes, as base64."""

    def to_message(self) -> bytes:
        """Returns what was signed."""
        return f"{_DOMAIN}\n{self.model}\n{self.version}\n{self.manifest_sha256}\n".encode()


class Signatures(_Entry):
    """The file of a version's signatures, one a key: while keys are changed, the old and the new one sign."""

    schema_version: Literal[1] = 1
    signatures: tuple[Signature, ...]


def sign_version(version: Version, key: "Ed25519PrivateKey", file: Path) -> Signature:
    """Signs a version after checking that its files are those of its manifest.

    Args:
        version: Of a registry.
        key: Private.
        file: Where its signatures are, as `Registry.signature_file` has it; what other keys signed stays.

    Raises:
        ArtifactError: The version is damaged; nothing was signed.
    """
    version.check_files()
    unsigned = Signature(
        key_id=key_id(key.public_key()),
        model=version.name,
        version=version.number,
        manifest_sha256=_digest_manifest(version),
        signature="",
    )
    signed = unsigned.model_copy(update={"signature": b64encode(key.sign(unsigned.to_message())).decode()})
    others = read_signatures(file).signatures if file.exists() else ()
    kept = [other for other in others if other.key_id != signed.key_id]
    write_signatures(Signatures(signatures=(*kept, signed)), file)
    return signed


def write_signatures(signatures: Signatures, file: Path) -> None:
    """Writes the signatures of a version; `read_signatures` reads them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, signatures.model_dump_json(indent=2).encode() + b"\n")


def read_signatures(file: Path) -> Signatures:
    """Reads the signatures of a version.

    Raises:
        ArtifactError: There are none, or the file cannot be understood.
    """
    if file.is_symlink() or not file.is_file():
        raise ArtifactError(f"There is no file of signatures {file}.")
    with file.open("rb") as opened:
        raw = opened.read(_MAX_BYTES)
    try:
        return Signatures.model_validate_json(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ArtifactError(
            f"The file of signatures {file} is damaged ({problem['msg']}); remove it, and sign the version again."
        ) from error


def check_signature(version: Version, file: Path, keys: PublicKeys) -> Signature:
    """Checks that one of the keys signed a version's manifest as it is now; its files are for `check_files` to check.

    Args:
        version: Its manifest is read once more by whoever uses it: give a copy that nobody else can write, or a
            version that nobody changes.
        file: Where its signatures are, as `Registry.signature_file` has it.
        keys: Any of these will do.

    Returns:
        The signature that counts.

    Raises:
        ArtifactError: It is not signed, or by none of the keys, or another version is, or it was altered since.
    """
    name = f"{version.name}/{version.number}"
    if not file.exists() and not file.is_symlink():
        raise ArtifactError(f"{name} is not signed. Sign it with 'bmp models sign {name} --key FILE'.")
    signatures = read_signatures(file).signatures
    trusted = [signature for signature in signatures if signature.key_id in keys]
    if not trusted:
        raise ArtifactError(
            f"{name} is signed by {_list_keys(signature.key_id for signature in signatures)}, "
            f"but only {_list_keys(keys)} would do.",
            expected=", ".join(keys),
            received=", ".join(signature.key_id for signature in signatures),
        )
    digest = _digest_manifest(version)
    problems = [_find_problem(signature, version, digest, keys) for signature in trusted]
    for signature, problem in zip(trusted, problems, strict=True):
        if problem is None:
            return signature
    raise ArtifactError(str(problems[0]))


@contextmanager
def copy_signed(version: Version, file: Path, keys: PublicKeys) -> Iterator[Version]:
    """Copies a version to where nobody else can write, once one of the keys is known to have signed it.

    What is loaded from there is what was looked at, whatever happens to the registry meanwhile. The copy goes at the
    end.

    Args:
        version: Of a registry.
        file: Where its signatures are, as `Registry.signature_file` has it.
        keys: Any of these will do.

    Raises:
        ArtifactError: It is not signed, or by none of the keys, or was altered since, down to a byte of any file.
    """
    with tempfile.TemporaryDirectory(prefix="bmp-signed-") as place:
        copy = replace(version, path=Path(place))
        _copy_file(version, copy, MANIFEST_FILE)
        check_signature(copy, file, keys)
        manifest = copy.read_manifest()
        for relative in manifest.files:
            check_file(version.path, manifest, relative)  # before it is copied: its name too
            _copy_file(version, copy, relative)
        check_files(copy.path, manifest)
        yield copy


def _copy_file(version: Version, copy: Version, relative: str) -> None:
    target = copy.path / relative
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(_read(version, relative))


def _read(version: Version, relative: str) -> bytes:
    try:
        return read_plain(version.path / relative, below=version.path)
    except OSError as error:
        raise ArtifactError(f"{version.path / relative} cannot be read: {error.strerror}.") from error


def _find_problem(signature: Signature, version: Version, digest: str, keys: PublicKeys) -> str | None:
    """Returns in a sentence why a signature of a trusted key does not count, or None where it does."""
    name, signed = f"{version.name}/{version.number}", f"{signature.model}/{signature.version}"
    if not _is_genuine(signature, keys):
        return f"The signature of {name} was not made by key {signature.key_id}; it has been altered, or made up."
    if signature.model != version.name:
        return f"The signature of {name} was made for {signed}, another model."
    if signature.manifest_sha256 == digest:
        return None
    if signature.version != version.number:
        return f"The signature of {name} was made for {signed}, another version."
    return (
        f"The manifest of {name} has been altered since key {signature.key_id} signed it: "
        f"its SHA-256 is {digest[:12]}…, signed was {signature.manifest_sha256[:12]}…."
    )


def _is_genuine(signature: Signature, keys: PublicKeys) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        raw = b64decode(signature.signature, validate=True)
        keys[signature.key_id].verify(raw, signature.to_message())
    except (InvalidSignature, ValueError):  # ValueError: no base64
        return False
    return b64encode(raw).decode() == signature.signature  # four bits of the last letter stand for nothing


def _digest_manifest(version: Version) -> str:
    return sha256(_read(version, MANIFEST_FILE)).hexdigest()


def _list_keys(ids: Iterable[str]) -> str:
    known = sorted(set(ids))
    return f"key{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else "no key"
