"""Whom a network address stands for: what somebody can have many of must not count as many people."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

UNKNOWN = "unknown"  # a server on a Unix socket, say, without a proxy that is trusted: they share one allowance


@lru_cache(maxsize=4096)
def rate_limit_key(address: str) -> str:
    """The address itself, and of IPv6 its /64: that is what one customer gets, 2^64 addresses of it (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return UNKNOWN
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:  # a socket that listens to both families
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), 64), strict=False))
