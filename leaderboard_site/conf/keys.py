"""Keys for tokens: the algorithm of a key pair, whether its halves match, and which URLs may serve foreign keys."""

from __future__ import annotations

from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key


def algorithm_of_pair(private_pem: str, public_pem: str) -> str:
    """Returns `EdDSA` for an Ed25519 pair, `RS256` for an RSA pair from 2048 bits on. Raises `ValueError` for others.

    RFC 8037 (EdDSA in JOSE), RFC 7518 section 3.3 (RSA key size).
    """
    try:
        private, public = load_pem_private_key(private_pem.encode(), None), load_pem_public_key(public_pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("not a pair of unencrypted PEM keys. Make one: openssl genpkey -algorithm ed25519") from error
    if private.public_key() != public:
        raise ValueError("the two keys are not a pair")
    if isinstance(private, Ed25519PrivateKey):
        return "EdDSA"
    if isinstance(private, RSAPrivateKey) and private.key_size >= 2048:
        return "RS256"
    raise ValueError("expected an Ed25519 key or an RSA key of at least 2048 bits")


def is_confidential(url: str) -> bool:
    """Whether the keys at `url` cannot be replaced on the way: HTTPS, or this machine's loopback.

    A URL with a user is none: the library does not sign in with it, and shows it in its errors.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return (
        bool(host)
        and "@" not in parts.netloc
        and (parts.scheme == "https" or (parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost")))
    )
