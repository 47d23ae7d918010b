"""Notices a proxy that TRUSTED_PROXIES does not name: everybody behind it would share one allowance, unseen."""

from __future__ import annotations

import logging
from ipaddress import ip_address, ip_network

from django.conf import settings

from leaderboard_site.asgi_types import Application, Receive, Scope, Send
from scores.access.client_address import rate_limit_key

logger = logging.getLogger(__name__)

READ = b"x-forwarded-for"  # by uvicorn, from trusted proxies
NOT_READ = (b"forwarded", b"x-real-ip")


class ForwardingCheck:
    """Warns once in a process if a request for `app` was forwarded and its address is still the proxy's.

    It stands in front of pages, sign-ins and handshakes. Increments and reads of the API do not pay for it, and hardly
    a service has only those.
    """

    has_warned = False

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not ForwardingCheck.has_warned and (warning := warning_about(scope)):
            ForwardingCheck.has_warned = True
            logger.warning(warning)
        await self.app(scope, receive, send)


def warning_about(scope: Scope) -> str | None:
    """What is wrong with how the request came here; `None` if it came directly, or through a trusted proxy.

    uvicorn has put the client's address in the place of the proxy's, unless the last entry is empty.
    """
    address = scope["client"][0] if scope["client"] else ""
    peer = rate_limit_key(address)
    forwarded_for = b",".join(value for name, value in scope["headers"] if name == READ).decode("latin-1")
    if forwarded_for:
        if peer in map(_key_of, forwarded_for.split(",")):  # uvicorn took the address from there
            return None
        if is_trusted(address):  # uvicorn found no address in the last entry
            return None
        return (
            f"A request from {peer} has X-Forwarded-For, and TRUSTED_PROXIES does not name that address. If it is a "
            "proxy of yours, name it: until then, all who come through it are one client and share one allowance. If "
            "not, a client wrote that header, and it is ignored."
        )
    for name, _ in scope["headers"]:
        if name in NOT_READ:
            return (
                f"A request from {peer} has {name.decode().title()} and no X-Forwarded-For, which is the only header "
                "that a client's address is taken from. If that is a proxy of yours, let it send X-Forwarded-For."
            )
    return None


def is_trusted(address: str) -> bool:
    """Whether TRUSTED_PROXIES names the address."""
    try:
        return any(ip_address(address) in ip_network(name) for name in settings.TRUSTED_PROXIES)
    except ValueError:
        return False


def _key_of(entry: str) -> str:
    """The rate-limit key of an entry such as `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80`."""
    entry = entry.strip()
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    return rate_limit_key(entry)
