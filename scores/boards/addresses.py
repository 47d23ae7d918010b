"""Which hosts a webhook may reach: those of the public internet."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

NAT64 = IPv6Network("64:ff9b::/96")


def is_reachable(text: str) -> bool:
    """Whether an address is one of the public internet: no loopback, private, link-local, shared, reserved or other such.

    Addresses of IPv6 that stand for one of IPv4 are judged by that one.
    """
    address: IPv4Address | IPv6Address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if inner is None and address in NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            address = inner
        elif int(address) >> 32 == 0 or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def may_be_public(host: str) -> bool:
    """Whether a host leads to the public internet, as far as that is known without a look at what its name resolves to.

    `localhost` is always this host: RFC 6761, section 6.3.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return False
    with suppress(OSError):
        name = socket.inet_ntoa(socket.inet_aton(name))  # 127.1 and 2130706433 are addresses, too, to a resolver
    try:
        return is_reachable(name)
    except ValueError:
        return True  # a name
