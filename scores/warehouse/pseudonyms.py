"""What files have in the place of a name: a keyed hash, so that one player is one player and nobody knows which."""

from __future__ import annotations

import hashlib
from typing import Any

from django.utils.crypto import salted_hmac

from scores.user_id import is_service

BLOCK_BYTES = 64  # of SHA-256


class Pseudonyms:
    """HMAC-SHA-256 of names by one key, in hexadecimal.

    A hash without a key would be no secret: who knows a player's name could hash it, or a list of all likely names.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._inner, self._outer = _keyed(key)

    @classmethod
    def by_key(cls, export_key: str) -> Pseudonyms:
        """By EXPORT_KEY; where there is none, by a key that follows from SECRET_KEY and ends with it."""
        if export_key:
            return cls(export_key.encode())
        return cls(salted_hmac("scores.warehouse", "pseudonyms", algorithm="sha256").digest())

    @property
    def fingerprint(self) -> str:
        """Tells this key from another one, and nothing else about it. No hash of a name: its key is one of its own."""
        return salted_hmac("scores.warehouse.fingerprint", "", secret=self._key, algorithm="sha256").hexdigest()[:16]

    def of(self, name: str) -> str:
        # Services are no persons, and without their names nobody could tell game servers or the rewards of boards apart.
        if not name or is_service(name):
            return name
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(name.encode())
        outer.update(inner.digest())
        hashed: str = outer.hexdigest()
        return hashed


def _keyed(key: bytes) -> tuple[Any, Any]:
    """Both hashes of an HMAC (RFC 2104, section 2) after their key, to be copied for each name (section 4).

    `hmac.digest` makes all of OpenSSL's HMAC anew each time, and takes 4.8 µs instead of 2.
    """
    block = (key if len(key) <= BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(BLOCK_BYTES, b"\0")
    inner, outer = (hashlib.sha256(bytes(byte ^ pad for byte in block)) for pad in (0x36, 0x5C))
    return inner, outer
