"""The rate-limit key of a client address: many addresses of one customer must not count as many clients."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address

UNKNOWN = "unknown"  # for example on a Unix socket without a trusted proxy: all these clients share one limit


@lru_cache(maxsize=4096)
def rate_limit_key(address: str) -> str:
    """The address itself, or the /64 of an IPv6 address: one customer has all 2^64 addresses in it (RFC 6177)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return UNKNOWN
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:  # from a socket that listens to both families
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((int(parsed), 64), strict=False))
