"""What happens to a record between the example and the file: compressed, then encrypted."""

import os
import threading
import zlib
from typing import Literal

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bmp.data.records.keys import derive_key

Compression = Literal["none", "gzip", "zstd"]

_NONCE_BYTES = 12
_GZIP = zlib.MAX_WBITS | 16  # zlib's word for a gzip header and trailer


class Packing:
    """Packs and unpacks records, from several threads at once.

    Every record is encrypted by itself (AES-256-GCM, a random nonce of 96 bits), bound to its place: one that was
    changed, or moved to another place, is noticed. The key is derived for each set of records, so that nonces must
    differ only within one: up to 2^32 records.

    Args:
        compression: Of each record by itself.
        key: Of the owner; None leaves records readable.
        dataset: Identity of the records.

    Reference:
        Dworkin, NIST SP 800-38D, 2007: Galois/Counter Mode, and how often one key may be used.
    """

    def __init__(self, compression: Compression, key: bytes | None, dataset: str) -> None:
        self._compression = compression
        self._cipher = None if key is None else AESGCM(derive_key(key, "encryption", dataset))
        self._dataset = dataset
        self._local = threading.local()  # zstandard's objects serve one thread at a time

    @property
    def encrypts(self) -> bool:
        """Whether records cannot be read without the key."""
        return self._cipher is not None

    @property
    def is_plain(self) -> bool:
        """Whether records are stored as they are."""
        return not self.encrypts and self._compression == "none"

    def pack(self, data: bytes, place: tuple[str, int]) -> bytes:
        """Returns the bytes to store.

        Args:
            data: The record.
            place: Where it will stand: the shard, and the position in it.
        """
        if self._compression == "zstd":
            data = self._zstd()[0].compress(data)
        elif self._compression == "gzip":
            data = zlib.compress(data, 6, _GZIP)
        return self.encrypt(data, place)

    def unpack(self, data: bytes, place: tuple[str, int]) -> bytes:
        """Returns the record.

        Raises:
            ValueError: It was altered, or has been written for another place.
        """
        data = self.decrypt(data, place)
        try:
            if self._compression == "zstd":
                return self._zstd()[1].decompress(data)
            return zlib.decompress(data, _GZIP) if self._compression == "gzip" else data
        except (zstandard.ZstdError, zlib.error) as error:
            raise ValueError(f"it cannot be decompressed ({error})") from error

    def encrypt(self, data: bytes, place: tuple[str, int]) -> bytes:
        """Returns the bytes as they are stored, without compressing them."""
        if self._cipher is None:
            return data
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, self._bind(place))

    def decrypt(self, data: bytes, place: tuple[str, int]) -> bytes:
        """Returns what was encrypted.

        Raises:
            ValueError: It was altered, or has been written for another place.
        """
        if self._cipher is None:
            return data
        try:
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], self._bind(place))
        except (InvalidTag, ValueError) as error:
            raise ValueError("it was altered or moved after it was encrypted") from error

    def _bind(self, place: tuple[str, int]) -> bytes:
        return f"{self._dataset} {place[0]} {place[1]}".encode()

    def _zstd(self) -> tuple[zstandard.ZstdCompressor, zstandard.ZstdDecompressor]:
        if not hasattr(self._local, "zstd"):
            self._local.zstd = (zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor())
        return self._local.zstd
