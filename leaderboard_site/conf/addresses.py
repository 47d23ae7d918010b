"""Addresses as people write them into the environment: proxies, host names, origins, the public URL.

Each function returns what was meant, or raises `ValueError` with the end of a sentence about what is wrong.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

# What Django's `validate_host` can match: it refuses a Host with any other character before it looks at the list.
HOST_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)
PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
DEFAULT_PORTS = {"http": 80, "https": 443}
# The first parts of this service's own addresses. Below one of them, `/api/v1` could be an address with the path of
# PUBLIC_URL or without.
OWN = ("admin", "api", "healthz", "metrics", "static", "ws")

LEAST_PREFIX = {4: 8, 6: 16}  # of a network of proxies, by version: no operator has more addresses
MAPPED = IPv6Network("::ffff:0:0/96")
# RFC 4193, RFC 4291: nobody comes from there through the net.
LOCAL = (IPv6Network("fc00::/7"), IPv6Network("fe80::/10"))


class PublicURL(NamedTuple):
    origin: str  # as a browser sends it
    path: str  # "" or such as "/leaderboard", without a slash at the end


def network(text: str) -> str:
    """An address or network of a proxy, such as `10.0.0.1` or `172.16.0.0/12`; IPv4 in IPv6 as IPv4."""
    if text == "*":
        raise ValueError("would take the client's address from whoever writes it; name the proxies")
    try:
        found = unmapped(ip_network(text)) if "/" in text else ip_address(text)
    except ValueError:
        raise ValueError(_not_a_network(text)) from None
    if isinstance(found, IPv6Address):
        return str(found.ipv4_mapped) if found.ipv4_mapped else text
    if isinstance(found, IPv4Address):
        return text
    if found.prefixlen < LEAST_PREFIX[found.version] and not is_local(found):
        raise ValueError(
            "has a large part of all addresses, and would take the client's address from whoever writes it; the "
            f"shortest prefix is /{LEAST_PREFIX[found.version]}"
        )
    return str(found) if ip_network(text) != found else text


def unmapped(found: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """IPv4 networks that are written as IPv6: the server knows a client with an IPv4 address by that."""
    if isinstance(found, IPv6Network) and found.subnet_of(MAPPED):
        return IPv4Network((int(found.network_address) & 0xFFFFFFFF, found.prefixlen - MAPPED.prefixlen))
    return found


def is_local(found: IPv4Network | IPv6Network) -> bool:
    return isinstance(found, IPv6Network) and any(found.subnet_of(local) for local in LOCAL)


def _not_a_network(text: str) -> str:
    try:
        return f"has bits beyond its length; write {ip_network(text, strict=False)}"
    except ValueError:
        return "is not an address or network such as 10.0.0.1 or 172.16.0.0/12"


def host(text: str) -> str:
    """A host name for ALLOWED_HOSTS: `scores.example.org`, `.example.org` with all below it, `[::1]`, or `*`."""
    if text == "*" or HOST_NAME.fullmatch(text.removeprefix(".")) or _is_bracketed(text):
        return text
    raise ValueError("is not a host name such as scores.example.org, without scheme, port and path" + _hint(text))


def _is_bracketed(text: str) -> bool:
    try:
        return text.startswith("[") and text.endswith("]") and bool(IPv6Address(text[1:-1]))
    except ValueError:
        return False


def _hint(text: str) -> str:
    try:
        return f"; write [{IPv6Address(text)}]"
    except ValueError:
        return "" if text.isascii() else "; write it as its Punycode, xn--…"


def origin(text: str) -> str:
    """An origin such as `https://game.example.org:8443`, as a browser sends it."""
    parts = _split(text)
    if parts is None or parts.path or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("is not an origin such as https://game.example.org")
    return _origin_of(parts)


def public_url(text: str) -> PublicURL:
    """Where people find the service: an origin, and a path if it is below one."""
    parts = _split(text)
    if parts is None or parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("expected a URL such as https://scores.example.org or https://example.org:8443/leaderboard")
    path = parts.path.rstrip("/")
    if not PATH.fullmatch(path):
        raise ValueError("its path may have letters, digits and - . _ ~ between single slashes")
    if path.split("/")[1:2] and path.split("/")[1] in OWN:
        raise ValueError(f"its path may not begin with {', '.join(f'/{own}' for own in OWN[:-1])} or /{OWN[-1]}")
    return PublicURL(_origin_of(parts), path)


def _split(text: str) -> SplitResult | None:
    """The parts of a URL with a scheme, a host and maybe a port; `None` for any other text."""
    try:
        parts = urlsplit(text)
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    is_plain = parts.scheme in DEFAULT_PORTS and "@" not in parts.netloc and port != 0
    is_host = bool(HOST_NAME.fullmatch(name)) or _is_bracketed(f"[{name}]")
    return parts if is_plain and is_host and not parts.netloc.endswith(":") else None


def _origin_of(parts: SplitResult) -> str:
    """As a browser writes it: in lower case, and without the port that its scheme has anyway (RFC 6454, section 6)."""
    name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{name}{port}"
